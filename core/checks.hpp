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
enum class Floats : std::uint8_t { wide, fp8_too };  // f32, f16 and bf16; f8_e4m3 and f8_e5m2 too

// "positions[3]": which element of an argument is wrong.
std::string element(const char* argument, std::int64_t index);

// What call() refuses is said of a part of that element: "levels[1].qo_indptr".
template <class Call>
auto in_element(const char* argument, std::int64_t index, Call&& call) {
  try {
    return call();
  } catch (const InputError& e) {
    throw InputError(element(argument, index) + "." + e.argument, e.value, e.rule, e.request);
  }
}

// The message's words are put together only where it is refused: index arrays are checked in every step of a model.
inline void require_element(bool ok, const char* argument, std::int64_t index, std::int64_t value, const char* rule,
                            int request = -1) {
  if (!ok) throw InputError(element(argument, index), std::to_string(value), rule, request);
}

// A tensor to read: of these floats, of this shape (any_size: >= 0; the innermost at least 1), dense along its innermost
// dimension, not null. `form` names the dimensions in the message: "[n, num_heads, head_dim]".
void check_tensor(const char* argument, const ConstTensor& t, const char* form, std::initializer_list<std::int64_t> shape,
                  Floats floats = Floats::wide);

// A tensor to write: also, no two of its elements may share memory.
void check_output(const char* argument, const Tensor& t, const char* form, std::initializer_list<std::int64_t> shape,
                  Floats floats = Floats::wide);

void check_dtype(const char* argument, const ConstTensor& t, DType wanted, const char* rule);

// Can an element of a and one of b share a byte? False is certain: either their extents lie apart, or both step with
// strides that are multiples of one period, and what each of them covers lies in a part of the period of its own. That
// accepts all slices of one tensor: q and k of a fused QKV tensor, K and V in one 5-D tensor, columns, heads in turn. Two
// views that share no byte but have no such period (every second element of one, every third of the other) are taken for
// overlapping.
bool share_memory(const ConstTensor& a, const ConstTensor& b);

// t is written, so it must lie apart from `other`, which is read or written too.
void check_apart(const char* argument, const ConstTensor& t, const char* other_name, const ConstTensor& other);
// ... unless it is `other` itself, the same pointer, shape, strides and dtype: an operation that works in place.
void check_same_or_apart(const char* argument, const ConstTensor& t, const char* other_name, const ConstTensor& other);
// ... `other` being an index array, of 32 or 64 bits, or a mask. (f64 stands for eight bytes: only their place matters.)
template <class T>
void check_apart(const char* argument, const ConstTensor& t, const char* other_name, std::span<T> other) {
  static_assert(sizeof(T) == 8 || sizeof(T) == 4 || sizeof(T) == 1);
  constexpr DType dtype = sizeof(T) == 8 ? DType::f64 : sizeof(T) == 4 ? DType::i32 : DType::u8;
  check_apart(argument, t, other_name,
              contiguous(static_cast<const void*>(other.data()), dtype, {static_cast<std::int64_t>(other.size())}));
}

// An index array that is written, against those that are read.
struct NamedIndices {
  const char* name;
  std::span<const std::int32_t> values;
};
void check_index_output(const char* argument, std::span<const std::int32_t> written,
                        std::initializer_list<NamedIndices> others);

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
