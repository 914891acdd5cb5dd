// What the operations beside the attention rungs ask of their tensors, on the CPU and on the GPU alike (a tensor's memory is
// never read). Each function returns silently or throws an InputError; all of them run before anything is written.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "core/error.hpp"
#include "core/tensor.hpp"

namespace flashladder {

inline constexpr std::int64_t any_size = -1;

// "positions[3]": which element of an argument is wrong.
std::string element(const char* argument, std::int64_t index);

// A tensor to read: f32, f16 or bf16, of this shape (any_size: >= 0; the innermost at least 1), dense along its innermost
// dimension, not null. `form` names the dimensions in the message: "[n, num_heads, head_dim]".
void check_tensor(const char* argument, const Tensor& t, const char* form, std::initializer_list<std::int64_t> shape);

// A tensor to write: also, no two of its elements may share memory.
void check_output(const char* argument, const Tensor& t, const char* form, std::initializer_list<std::int64_t> shape);

void check_dtype(const char* argument, const Tensor& t, DType wanted, const char* rule);

// Two tensors that are both written must not be one.
void check_distinct(const char* argument, const Tensor& t, const Tensor& other, const char* rule);

// A span of exactly `count` entries.
template <class T>
void check_span(const char* argument, std::span<T> span, std::int64_t count) {
  if (static_cast<std::int64_t>(span.size()) == count && (count == 0 || span.data() != nullptr)) return;
  throw InputError(argument, span.data() ? std::to_string(span.size()) + " entries" : std::string("null"),
                   "must have " + std::to_string(count) + " entries");
}

// An index pointer [count + 1]: starts at 0, never decreases.
void check_indptr(const char* argument, std::span<const std::int32_t> indptr, std::int64_t count);

}  // namespace flashladder
