#include "capi/python_run.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <new>
#include <span>

#include "capi/errors.hpp"
#ifdef FLASHLADDER_CUDA
#include "api/gpu_call.hpp"
#endif

namespace {

fl_python_functions python;

// DLTensor of DLPack's version 1.
struct DlTensor {
  void* data;
  std::int32_t device_type, device, rank;
  std::uint8_t code, bits;
  std::uint16_t lanes;
  const std::int64_t* shape;
  const std::int64_t* strides;
  std::uint64_t byte_offset;
};
constexpr std::int32_t dl_cpu = 1, dl_cuda = 2, most_rank = 5;

// Whether DLPack describes the object, in as many dimensions as the library has.
bool ask(const fl_dlpack_functions& dlpack, void* object, DlTensor& t) {
  if (dlpack.tensor_of(object, &t) != 0) {
    python.clear_error();  // whoever describes the object anew says what is wrong with it
    return false;
  }
  return t.byte_offset == 0 && t.strides != nullptr && t.rank >= 1 && t.rank <= most_rank;
}

// FL_F32 and its kin of DLPack's code and bits; 0: none of them.
std::int32_t dtype_of(const DlTensor& t) {
  constexpr std::uint8_t dl_float = 2, dl_bfloat = 4, dl_e4m3fn = 10, dl_e5m2 = 12;
  if (t.lanes != 1) return 0;
  if (t.code == dl_float) return t.bits == 32 ? FL_F32 : t.bits == 16 ? FL_F16 : 0;
  if (t.code == dl_bfloat) return t.bits == 16 ? FL_BF16 : 0;
  return t.code == dl_e4m3fn ? FL_F8_E4M3 : t.code == dl_e5m2 ? FL_F8_E5M2 : 0;
}

bool is_current([[maybe_unused]] std::int32_t device) {
  bool same = false;
#ifdef FLASHLADDER_CUDA
  flashladder::capi::guarded([&] { same = flashladder::api::current_gpu() == device; });
#endif
  return same;
}

// What a tensor looked like. rank 0: there was none.
struct Look {
  std::int32_t rank = 0;
  std::uint8_t code = 0, bits = 0;
  std::uint16_t lanes = 0;
  std::array<std::int64_t, most_rank> shape{}, strides{};

  bool is(const DlTensor& t) const {
    return t.rank == rank && t.code == code && t.bits == bits && t.lanes == lanes &&
           std::equal(t.shape, t.shape + rank, shape.begin()) && std::equal(t.strides, t.strides + rank, strides.begin());
  }
};
Look look_of(const DlTensor& t) {
  Look look{.rank = t.rank, .code = t.code, .bits = t.bits, .lanes = t.lanes};
  std::copy_n(t.shape, t.rank, look.shape.begin());
  std::copy_n(t.strides, t.rank, look.strides.begin());
  return look;
}

constexpr std::size_t tensors = 5, page_ids = 3;  // q, k, v, page_ids, o
using Objects = std::span<void* const, tensors>;

struct Run {
  fl_dlpack_functions dlpack;
  fl_attention_arguments* arguments;
  std::array<fl_tensor*, tensors> described;  // but page_ids, to which arguments points
  std::int32_t device_type, device;
  bool several;
  std::array<Look, tensors> looks;

  // Whether DLPack describes the object, and it lies on the device.
  bool ask(void* object, DlTensor& t) const {
    return ::ask(dlpack, object, t) && t.device_type == device_type && t.device == device;
  }

  // Whether every tensor looks as it did. Then `arguments` points to these.
  bool take(Objects objects) const {
    for (std::size_t i = 0; i < tensors; ++i) {
      if (objects[i] == python.none && looks[i].rank == 0) continue;
      DlTensor t;
      if (objects[i] == python.none || !ask(objects[i], t) || !looks[i].is(t)) return false;
      if (i == page_ids) arguments->page_ids = static_cast<const std::int32_t*>(t.data);
      else described[i]->data = t.data;
    }
    return true;
  }

  bool learn(Objects objects) {
    looks.fill({});
    for (std::size_t i = 0; i < tensors; ++i) {
      DlTensor t;
      if (objects[i] == python.none) continue;
      if (!ask(objects[i], t)) return false;
      looks[i] = look_of(t);
    }
    return true;
  }

  // Whether the current stream is the one that plan() was called with, and its GPU the current one.
  bool is_where_planned(void* planned_on) const {
    if (device_type != dl_cuda) return true;
    void* stream = nullptr;
    if (dlpack.current_stream(device_type, device, &stream) != 0) {
      python.clear_error();
      return false;
    }
    return stream == planned_on && (!several || is_current(device));
  }
};

// Whether all objects are described, and `on` says where they lie.
bool describe(fl_python_arrays& arrays, std::span<void* const> objects) {
  std::int32_t type = 0, device = 0;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    DlTensor t;
    if (!ask(arrays.dlpack, objects[i], t)) return false;
    if (i == 0) type = t.device_type, device = t.device;
    fl_tensor& to = arrays.tensors[i];
    to = {.size = sizeof to, .data = t.data, .dtype = dtype_of(t), .rank = t.rank, .shape = {}, .strides = {}};
    if (to.dtype == 0 || t.device_type != type || t.device != device) return false;
    std::copy_n(t.shape, t.rank, to.shape);
    std::copy_n(t.strides, t.rank, to.strides);
  }
  arrays.on = {.size = sizeof arrays.on, .stream = nullptr, .device = type == dl_cuda ? FL_GPU : FL_CPU, .enable_pdl = 0};
  if (type != dl_cuda) return type == dl_cpu;
  if (arrays.dlpack.current_stream(type, device, &arrays.on.stream) != 0) {
    python.clear_error();
    return false;
  }
  return !arrays.several || is_current(device);
}

Run& run_of(void* self) { return *static_cast<Run*>(python.as_pointer(self)); }
void* pointer_of(void* object) { return object == python.none ? nullptr : python.as_pointer(object); }

}  // namespace

void fl_python_start(const fl_python_functions* functions) { python = *functions; }
size_t fl_python_run_bytes(void) { return sizeof(Run); }

void fl_python_begin(void* memory, const fl_dlpack_functions* dlpack, fl_attention_arguments* arguments, fl_tensor* q,
                     fl_tensor* k, fl_tensor* v, fl_tensor* o, int32_t device_type, int32_t device, int32_t several) {
  new (memory) Run{.dlpack = *dlpack, .arguments = arguments, .described = {q, k, v, nullptr, o}, .device_type = device_type,
                   .device = device, .several = several != 0, .looks = {}};
}

void* fl_python_run(void* self, void* const* arguments, intptr_t count) {
  const Run& run = run_of(self);
  const std::size_t first = 2;  // attention and planned_on come before the tensors
  if (count != first + tensors || arguments[0] == python.none || !run.is_where_planned(pointer_of(arguments[1])) ||
      !run.take(Objects(arguments + first, tensors))) {
    return python.from_long(FL_PYTHON_DESCRIBE);
  }
  void* const stream = pointer_of(arguments[1]);
  auto* const attention = static_cast<fl_attention*>(python.as_pointer(arguments[0]));
  void* const thread = python.save_thread();  // others may run while the library works
  const fl_status status = fl_attention_run(attention, run.arguments, stream);
  python.restore_thread(thread);
  return python.from_long(status);
}

void* fl_python_learn(void* self, void* const* arguments, intptr_t count) {
  return python.from_long(count == tensors && run_of(self).learn(Objects(arguments, tensors)) ? 1 : 0);
}

void* fl_python_describe(void* self, void* const* arguments, intptr_t count) {
  auto& arrays = *static_cast<fl_python_arrays*>(python.as_pointer(self));
  const bool fit = count >= 1 && count <= static_cast<intptr_t>(std::size(arrays.tensors));
  return python.from_long(fit && describe(arrays, {arguments, static_cast<std::size_t>(count)}) ? 1 : 0);
}
