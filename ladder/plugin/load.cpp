// The library is opened once, its one entry point asked for the struct, and each function pointer wrapped: C++ in front,
// plain C behind.
#include "ladder/plugin/load.hpp"

#include <dlfcn.h>

#include <fstream>
#include <memory>
#include <stdexcept>
#include <string_view>

#include "capi/plugin.h"
#include "core/error.hpp"
#include "ladder/plugin/python_plugin.hpp"

namespace flashladder::ladder {
namespace {

constexpr std::int32_t dtype_in_c(DType d) { return d == DType::f32 ? FL_F32 : d == DType::f16 ? FL_F16 : FL_BF16; }
constexpr std::int32_t mask_in_c(MaskMode m) {
  return m == MaskMode::none ? FL_MASK_NONE : m == MaskMode::causal ? FL_MASK_CAUSAL : FL_MASK_CUSTOM;
}
constexpr std::int32_t pos_in_c(PosEncodingMode m) {
  return m == PosEncodingMode::NONE ? FL_POS_NONE : m == PosEncodingMode::ROPE_LLAMA ? FL_POS_ROPE_LLAMA : FL_POS_ALIBI;
}

fl_plugin_shape shape_in_c(const CaseSpec& s) {  // borrows the lengths of s
  const AttentionParams& p = s.params;
  return {.size = sizeof(fl_plugin_shape), .batch = s.batch(), .block_table = s.block_table && s.batch() > 0,
          .qo_lens = s.qo_lens.data(), .kv_lens = s.kv_lens.data(),
          .num_qo_heads = p.num_qo_heads, .num_kv_heads = p.num_kv_heads,
          .head_dim_qk = p.head_dim_qk, .head_dim_vo = p.head_dim_vo,
          .page_size = s.page_size, .dtype = dtype_in_c(s.dtype), .layout = s.kv_layout == KvLayout::NHD ? FL_NHD : FL_HND,
          .mask = mask_in_c(p.mask), .window_left = p.window_left, .pos_encoding_mode = pos_in_c(p.pos_encoding_mode),
          .sinks = p.sinks, .reserved = 0, .sm_scale = p.sm_scale, .logits_soft_cap = p.logits_soft_cap,
          .rope_scale = p.rope_scale, .rope_theta = p.rope_theta};
}

template <class T>
const T* or_null(std::span<const T> array) { return array.empty() ? nullptr : array.data(); }

fl_plugin_buffers buffers_in_c(const Buffers& b) {
  const AttentionProblem& p = b.problem;
  const KvStrides &k = p.kv.k_strides, &v = p.kv.v_strides;
  return {.size = sizeof(fl_plugin_buffers), .q = p.q.data, .q_strides = {p.q.strides[0], p.q.strides[1]},
          .k = p.kv.k, .v = p.kv.v, .k_strides = {k.page, k.entry, k.head}, .v_strides = {v.page, v.entry, v.head},
          .num_pages = p.kv.num_pages, .max_pages = p.max_pages(), .qo_indptr = p.qo_indptr.data(),
          .paged_kv_indptr = p.has_block_table() ? nullptr : p.paged_kv_indptr.data(),
          .paged_kv_indices = p.has_block_table() ? nullptr : p.paged_kv_indices.data(),
          .paged_kv_last_page_len = p.has_block_table() ? nullptr : p.paged_kv_last_page_len.data(),
          .block_tables = or_null(p.block_tables), .seq_lens = or_null(p.seq_lens),
          .custom_mask = or_null(p.custom_mask), .sinks = or_null(p.sinks),
          .o = b.output.o.data_as<float>(), .lse_log2 = b.output.lse_log2.data(),
          .workspace = b.workspace.data(), .workspace_bytes = b.workspace.size()};
}

// The functions, each announced before it is called.
struct Calls {
  const fl_plugin* plugin;
  OnCall on_call;
  void* library = nullptr;

  template <class F>
  auto call(const char* name, F f) const -> decltype(f()) {
    if (on_call) on_call(name);
    try {
      auto result = f();
      if (on_call) on_call("");
      return result;
    } catch (const std::exception& e) {  // against the rules of plugin.h, and told as that
      throw std::runtime_error(std::string(name) + "() threw: " + e.what());
    } catch (...) {
      throw std::runtime_error(std::string(name) + "() threw something that is no std::exception");
    }
  }
  template <class F>
  void must(const char* name, F f) const {
    if (const char* said = call(name, f); said != nullptr) throw std::runtime_error(std::string(name) + "() said: " + said);
  }
  // An error that a call has left with the plug-in's CUDA runtime. It can be asked where that is a shared library; the static
  // one, nvcc's default, is the plug-in's own.
  void refuse_left_error() const {
    const auto last = reinterpret_cast<int (*)()>(dlsym(library, "cudaGetLastError"));
    const auto name = reinterpret_cast<const char* (*)(int)>(dlsym(library, "cudaGetErrorName"));
    const int error = last != nullptr && name != nullptr ? last() : 0;
    if (error != 0) throw Misbehaved(Ending::left_error, std::string("a call in prepare() or run() left ") + name(error));
  }
};

// Between prepare and release. The structs in C live here, as long as the plug-in may look at them.
class Prepared {
 public:
  Prepared(const Calls& calls, const CaseSpec& spec, const Buffers& buffers)
      : calls_(calls), spec_(spec), shape_(shape_in_c(spec_)), buffers_(buffers_in_c(buffers)) {
    calls_.must("prepare", [&] { return calls_.plugin->prepare(&shape_, &buffers_, &state_); });
  }
  ~Prepared() {
    if (calls_.plugin->release == nullptr) return;
    calls_.call("release", [&] { return calls_.plugin->release(state_), 0; });
  }
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;

  void run(void* stream) const {
    calls_.must("run", [&] { return calls_.plugin->run(state_, stream); });
    if (calls_.plugin->device == FL_GPU) calls_.refuse_left_error();
  }

 private:
  Calls calls_;
  CaseSpec spec_;  // a copy: shape_ borrows its lengths
  fl_plugin_shape shape_;
  fl_plugin_buffers buffers_;
  void* state_ = nullptr;
};

// What dlopen() would call an "invalid ELF header": most often a source.
bool is_other_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char first[4] = {};
  return file && (!file.read(first, sizeof first) || std::string_view(first, sizeof first) != "\x7f" "ELF");
}

Calls opened(const std::string& path, const OnCall& on_call) {
  const auto refuse = [&](const std::string& rule) { throw InputError("--plugin", path, rule); };
  const std::string file = path.find('/') == path.npos ? "./" + path : path;  // a file, not a name on the library path
  if (is_other_file(file)) {
    refuse("can't be loaded: it is no shared library. A plug-in is a .so, compiled as docs/bring-your-own-kernel.md says, "
           "or a .py");
  }
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) refuse(std::string("can't be loaded: ") + dlerror());
  const auto entry = reinterpret_cast<const fl_plugin* (*)()>(dlsym(library, "fl_plugin_entry"));
  if (entry == nullptr) refuse("has no function fl_plugin_entry (capi/plugin.h): is it declared extern \"C\"?");
  const fl_plugin* plugin = Calls{nullptr, on_call}.call("fl_plugin_entry", [&] { return entry(); });
  if (plugin == nullptr) refuse("fl_plugin_entry() returned NULL");
  if (plugin->version != FL_PLUGIN_VERSION) {
    refuse("was compiled for version " + std::to_string(plugin->version) + " of the interface, this program has version " +
           std::to_string(FL_PLUGIN_VERSION));
  }
  if (plugin->size < sizeof(fl_plugin)) {
    refuse("fl_plugin.size is " + std::to_string(plugin->size) + ", must be sizeof(fl_plugin), " +
           std::to_string(sizeof(fl_plugin)));
  }
  if (plugin->device != FL_CPU && plugin->device != FL_GPU) {
    refuse("fl_plugin.device is " + std::to_string(plugin->device) + ", must be FL_CPU (0) or FL_GPU (1)");
  }
  if (plugin->name == nullptr || *plugin->name == '\0') refuse("fl_plugin.name is empty");
  if (plugin->longest_chain < 0) refuse("fl_plugin.longest_chain is negative");
  if (!plugin->supports || !plugin->prepare || !plugin->run) refuse("fl_plugin lacks one of supports, prepare and run");
  return {plugin, on_call, library};
}

}  // namespace

Support takes_plugin(const CaseSpec& spec) {
  if (spec.op != Op::attention) {
    return {std::string("op ") + name_of(spec.op) + " is not given to plug-ins: they get no latent rows"};
  }
  const DType kv = spec.cache_dtype();
  if (is_fp8(kv)) return {std::string("kv_dtype ") + name_of(kv) + " is not given to plug-ins"};
  return {spec.kv_scales == KvScaling::none ? "" : "scales of K and V are not given to plug-ins"};
}

Rung load_plugin(const std::string& path, const OnCall& on_call) {
  if (is_python(path)) return load_python_plugin(path, on_call);
  const auto calls = std::make_shared<const Calls>(opened(path, on_call));
  const fl_plugin* plugin = calls->plugin;
  Rung rung{.name = plugin->name, .idea = plugin->idea == nullptr ? "" : plugin->idea, .teaches = "",
            .device = plugin->device == FL_CPU ? Device::cpu : Device::gpu, .must_equal = "C4",
            .longest_chain = plugin->longest_chain == 0 ? whole_row : plugin->longest_chain,
            .p_as_kv = plugin->p_as_kv != 0, .supports = {}, .workspace_bytes = {}, .prepare = {}};
  rung.supports = [calls](const CaseSpec& spec) {
    const Support takes = takes_plugin(spec);
    if (!takes) return takes;
    const fl_plugin_shape shape = shape_in_c(spec);
    const char* reason = calls->call("supports", [&] { return calls->plugin->supports(&shape); });
    return Support{reason == nullptr ? "" : *reason == '\0' ? "supports() gave no reason" : reason};
  };
  rung.workspace_bytes = [calls](const CaseSpec& spec, const Settings&) -> std::size_t {
    if (calls->plugin->workspace_bytes == nullptr) return 0;
    const fl_plugin_shape shape = shape_in_c(spec);
    return calls->call("workspace_bytes", [&] { return calls->plugin->workspace_bytes(&shape); });
  };
  rung.prepare = [calls](const Buffers& buffers, const CaseSpec& spec, const Settings&) -> Runner {
    const auto prepared = std::make_shared<Prepared>(*calls, spec, buffers);
    return [prepared](void* stream) { prepared->run(stream); };
  };
  return rung;
}

}  // namespace flashladder::ladder
