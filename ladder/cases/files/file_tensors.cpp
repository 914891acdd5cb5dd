#include "ladder/cases/files/file_tensors.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::ladder {
namespace {

DType core_dtype(FileDType t) {
  switch (t) {
    case FileDType::F64: return DType::f64;
    case FileDType::F32: return DType::f32;
    case FileDType::F16: return DType::f16;
    case FileDType::BF16: return DType::bf16;
    case FileDType::I32: return DType::i32;
    case FileDType::U8:
    case FileDType::BOOL: return DType::u8;
    case FileDType::F8_E4M3: return DType::f8_e4m3;
    case FileDType::F8_E5M2: return DType::f8_e5m2;
    case FileDType::I64: break;
  }
  throw InputError("dtype", name_of(t), "has no counterpart in memory");
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::int64_t n : shape) text += (text.size() == 1 ? "" : ", ") + std::to_string(n);
  return text + "]";
}

}  // namespace

FileDType file_dtype(DType dtype) {
  constexpr FileDType types[] = {FileDType::F32, FileDType::F16, FileDType::BF16,
                                 FileDType::F64, FileDType::I32, FileDType::U8, FileDType::F8_E4M3, FileDType::F8_E5M2};
  return types[static_cast<int>(dtype)];
}

void require_known_tensors(const Safetensors& contents, std::initializer_list<const char*> known) {
  for (const auto& [name, tensor] : contents.tensors) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw InputError("tensor " + shown(name), "", "is not a tensor of this form");
    }
  }
}

const FileTensor& find_tensor(const Safetensors& contents, const char* name, std::initializer_list<FileDType> dtypes,
                              int rank) {
  const auto found = contents.tensors.find(name);
  require(found != contents.tensors.end(), name, "", "is missing");
  const FileTensor& tensor = found->second;
  std::string names;
  for (FileDType t : dtypes) names += std::string(names.empty() ? "" : " or ") + name_of(t);
  if (std::find(dtypes.begin(), dtypes.end(), tensor.dtype) == dtypes.end()) {
    throw InputError(std::string(name) + " dtype", name_of(tensor.dtype), "must be " + names);
  }
  if (tensor.shape.size() != static_cast<std::size_t>(rank)) {
    throw InputError(std::string(name) + " shape", shape_text(tensor.shape),
                     "must have " + std::to_string(rank) + (rank == 1 ? " dimension" : " dimensions"));
  }
  return tensor;
}

void require_shape(const FileTensor& tensor, const char* name, const std::vector<std::int64_t>& shape, const char* rule) {
  if (tensor.shape == shape) return;
  throw InputError(std::string(name) + " shape", shape_text(tensor.shape),
                   std::string(rule) + ", here " + shape_text(shape));
}

OwnedTensor copy_of(const FileTensor& tensor) {
  OwnedTensor copy;
  copy.dtype = core_dtype(tensor.dtype);
  copy.shape = tensor.shape;
  copy.bytes.assign(tensor.bytes.begin(), tensor.bytes.end());
  return copy;
}

FileTensor lend(const OwnedTensor& tensor) { return {file_dtype(tensor.dtype), tensor.shape, tensor.bytes}; }

}  // namespace flashladder::ladder
