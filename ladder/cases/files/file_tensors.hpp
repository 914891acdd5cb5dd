// Between the container (safetensors.hpp) and our tensors: find by name with the dtype and rank that a form asks for, copy
// out, lend for writing.
#pragma once

#include <cstring>
#include <initializer_list>
#include <span>
#include <vector>

#include "ladder/cases/files/safetensors.hpp"
#include "ladder/cases/memory/owned_tensor.hpp"

namespace flashladder::ladder {

// Throws InputError if contents has a tensor that is not in known.
void require_known_tensors(const Safetensors& contents, std::initializer_list<const char*> known);

// Throws InputError if there is no such tensor, or its dtype or rank is another.
const FileTensor& find_tensor(const Safetensors& contents, const char* name, std::initializer_list<FileDType> dtypes,
                              int rank);

// Throws InputError unless the tensor has just this shape; `rule` says it in names: "must be [nnz_qo, num_qo_heads]".
void require_shape(const FileTensor& tensor, const char* name, const std::vector<std::int64_t>& shape, const char* rule);

OwnedTensor copy_of(const FileTensor& tensor);

template <class T>
std::vector<T> values_of(const FileTensor& tensor) {
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), values.size() * sizeof(T));
  return values;
}

FileTensor lend(const OwnedTensor& tensor);

template <class T>
FileTensor lend(const std::vector<T>& values, FileDType dtype) {
  return {dtype, {static_cast<std::int64_t>(values.size())}, std::as_bytes(std::span(values))};
}

FileDType file_dtype(DType dtype);

}  // namespace flashladder::ladder
