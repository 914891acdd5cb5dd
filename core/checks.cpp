#include "core/checks.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

namespace flashladder {
namespace {

std::string sizes_text(const std::int64_t* sizes, std::size_t rank) {
  std::string text = "[";
  for (std::size_t i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

std::string dtype_text(DType t) {
  return is_dtype(t) ? name_of(t) : std::string("#").append(std::to_string(static_cast<int>(t)));
}

std::size_t rank_of(const ConstTensor& t) { return static_cast<std::size_t>(t.rank); }

bool has_elements(const ConstTensor& t) {
  return std::all_of(t.shape.begin(), t.shape.begin() + t.rank, [](std::int64_t n) { return n > 0; });
}

// In double, because the product of a wrong shape may not fit int64.
double reach_in_bytes(const ConstTensor& t) {
  double elements = 1;
  for (std::size_t i = 0; i < rank_of(t); ++i) {
    elements += std::abs(static_cast<double>(t.strides[i])) * static_cast<double>(t.shape[i] - 1);
  }
  return elements * static_cast<double>(size_of(t.dtype));
}

// The memory of a tensor that has elements and a reach within int64.
struct Bytes {
  std::uintptr_t first = 0;  // the lowest address
  std::size_t rank = 0;      // of the dimensions that step: more than one element, a stride that is not 0
  std::array<std::int64_t, Tensor::max_rank> stride{}, count{};  // bytes, > 0, falling
  std::array<std::int64_t, Tensor::max_rank + 1> extent{};       // bytes that dimensions i, i + 1, ... cover
};

Bytes bytes_of(const ConstTensor& t) {
  const auto element = static_cast<std::int64_t>(size_of(t.dtype));
  Bytes b{.first = reinterpret_cast<std::uintptr_t>(t.data)};
  for (std::size_t i = 0; i < rank_of(t); ++i) {
    if (t.shape[i] <= 1 || t.strides[i] == 0) continue;  // of one element the stride may be any number
    const std::int64_t stride = t.strides[i] * element;
    if (stride < 0) b.first -= static_cast<std::uintptr_t>(-stride * (t.shape[i] - 1));
    std::size_t at = b.rank++;
    for (; at > 0 && b.stride[at - 1] < std::abs(stride); --at) {
      b.stride[at] = b.stride[at - 1];
      b.count[at] = b.count[at - 1];
    }
    b.stride[at] = std::abs(stride);
    b.count[at] = t.shape[i];
  }
  b.extent[b.rank] = element;
  for (std::size_t i = b.rank; i-- > 0;) b.extent[i] = b.extent[i + 1] + b.stride[i] * (b.count[i] - 1);
  return b;
}

// From the smallest stride up, each must step over all that the smaller ones cover.
bool elements_overlap(const Tensor& t) {
  for (std::size_t i = 0; i < rank_of(t); ++i) {
    if (t.shape[i] > 1 && t.strides[i] == 0) return true;
  }
  const Bytes b = bytes_of(t);
  for (std::size_t i = 0; i < b.rank; ++i) {
    if (b.stride[i] < b.extent[i + 1]) return true;
  }
  return false;
}

// Do two runs of bytes lie apart, each repeated any number of times after every `period` bytes (0: not repeated)?
bool runs_apart(std::uintptr_t a, std::int64_t a_size, std::uintptr_t b, std::int64_t b_size, std::int64_t period) {
  const auto distance = static_cast<std::int64_t>(b - a);
  if (period == 0) return distance >= a_size || -distance >= b_size;
  const std::int64_t behind = (distance % period + period) % period;  // where b begins in a's period
  return behind >= a_size && b_size <= period - behind;
}

bool is_same(const ConstTensor& a, const ConstTensor& b) {
  bool same = a.data == b.data && a.dtype == b.dtype && a.rank == b.rank;
  for (std::size_t i = 0; same && i < rank_of(a); ++i) {
    same = a.shape[i] == b.shape[i] && (a.shape[i] == 1 || a.strides[i] == b.strides[i]);
  }
  return same;
}

// "must have the shape [n, d] with d = 128": the first dimension that is wrong, by the name that `form` gives it.
std::string shape_rule(const ConstTensor& t, std::string_view form, std::initializer_list<std::int64_t> shape) {
  std::string rule = std::string("must have the shape ").append(form);
  if (rank_of(t) != shape.size()) return rule;
  form = form.substr(1, form.size() - 2);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::string_view name = form.substr(0, form.find(", "));
    form.remove_prefix(std::min(form.size(), name.size() + 2));
    const std::int64_t wanted = shape.begin()[i], least = i + 1 == shape.size() ? 1 : 0;
    if (wanted == any_size ? t.shape[i] >= least : t.shape[i] == wanted) continue;
    rule.append(" with ").append(name).append(wanted == any_size ? " >= " : " = ");
    return rule + std::to_string(wanted == any_size ? least : wanted);
  }
  return {};
}

}  // namespace

std::string element(const char* argument, std::int64_t index) {
  return std::string(argument) + "[" + std::to_string(index) + "]";
}

void check_tensor(const char* argument, const ConstTensor& t, const char* form, std::initializer_list<std::int64_t> shape,
                  Floats floats) {
  require(t.rank >= 0 && t.rank <= Tensor::max_rank, argument, t.rank, "must have a rank of at most 5");
  bool fits = rank_of(t) == shape.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i) {
    const std::int64_t wanted = shape.begin()[i];
    fits = wanted == any_size ? t.shape[i] >= (i + 1 == shape.size() ? 1 : 0) : t.shape[i] == wanted;
  }
  if (!fits) throw InputError(argument, sizes_text(t.shape.data(), rank_of(t)), shape_rule(t, form, shape));
  if (floats == Floats::wide ? !is_attention_dtype(t.dtype) : !is_cache_dtype(t.dtype)) {
    throw InputError(argument, dtype_text(t.dtype), floats == Floats::wide ? "must be f32, f16 or bf16" : cache_dtype_rule);
  }
  if (!has_elements(t)) return;
  require(t.data != nullptr, argument, "null", "must point to its elements");
  const std::size_t last = shape.size() - 1;
  require(t.shape[last] == 1 || t.strides[last] == 1, argument, t.strides[last], "is the innermost stride and must be 1");
  if (reach_in_bytes(t) < 0x1p62) return;
  throw InputError(argument, sizes_text(t.shape.data(), shape.size()), "reaches further than any memory");
}

void check_output(const char* argument, const Tensor& t, const char* form, std::initializer_list<std::int64_t> shape,
                  Floats floats) {
  check_tensor(argument, t, form, shape, floats);
  if (!has_elements(t) || !elements_overlap(t)) return;
  throw InputError(argument, "strides " + sizes_text(t.strides.data(), shape.size()),
                   "is written, so its elements must not share memory");
}

void check_dtype(const char* argument, const ConstTensor& t, DType wanted, const char* rule) {
  if (t.dtype != wanted) throw InputError(argument, dtype_text(t.dtype), rule);
}

bool share_memory(const ConstTensor& a_tensor, const ConstTensor& b_tensor) {
  if (!has_elements(a_tensor) || !has_elements(b_tensor)) return false;
  const Bytes a = bytes_of(a_tensor), b = bytes_of(b_tensor);
  std::int64_t a_period = 0;  // of the dimensions outside of i
  for (std::size_t i = 0; i <= a.rank; ++i) {
    std::int64_t period = a_period;
    for (std::size_t j = 0; j <= b.rank; ++j) {
      if (runs_apart(a.first, a.extent[i], b.first, b.extent[j], period)) return false;
      if (j < b.rank) period = std::gcd(period, b.stride[j]);
    }
    if (i < a.rank) a_period = std::gcd(a_period, a.stride[i]);
  }
  return true;
}

void check_apart(const char* argument, const ConstTensor& t, const char* other_name, const ConstTensor& other) {
  if (!share_memory(t, other)) return;
  throw InputError(argument, std::string("memory of ") + other_name,
                   std::string("is written, so it must not share memory with ") + other_name);
}

void check_same_or_apart(const char* argument, const ConstTensor& t, const char* other_name, const ConstTensor& other) {
  if (is_same(t, other) || !share_memory(t, other)) return;
  throw InputError(argument, std::string("memory of ") + other_name,
                   std::string("is written, so it must be ") + other_name +
                       " itself (pointer, shape, strides, dtype) or not share memory with it");
}

void check_index_output(const char* argument, std::span<const std::int32_t> written,
                        std::initializer_list<NamedIndices> others) {
  const ConstTensor t = contiguous(written.data(), DType::i32, {static_cast<std::int64_t>(written.size())});
  for (const NamedIndices& other : others) check_apart(argument, t, other.name, other.values);
}

void check_indptr(const char* argument, std::span<const std::int32_t> indptr, std::int64_t count) {
  check_span(argument, indptr, count + 1);
  require(indptr[0] == 0, argument, indptr[0], "must start at 0");
  for (std::int64_t i = 0; i < count; ++i) {
    require_element(indptr[i] <= indptr[i + 1], argument, i + 1, indptr[i + 1], "must not be less than the entry before it",
                    static_cast<int>(i));
  }
}

}  // namespace flashladder
