#include "core/checks.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace flashladder {
namespace {

std::string sizes_text(const std::int64_t* sizes, std::size_t rank) {
  std::string text = "[";
  for (std::size_t i = 0; i < rank; ++i) {
    text += (i ? ", " : "") + (sizes[i] == any_size ? std::string("any") : std::to_string(sizes[i]));
  }
  return text + "]";
}

std::string dtype_text(DType t) {
  return t <= DType::u8 ? name_of(t) : std::string("#").append(std::to_string(static_cast<int>(t)));
}

bool has_elements(const Tensor& t) {
  return std::all_of(t.shape.begin(), t.shape.begin() + t.rank, [](std::int64_t n) { return n > 0; });
}

// In double, because the product of a wrong shape may not fit int64.
double reach_in_bytes(const Tensor& t) {
  double elements = 1;
  for (int i = 0; i < t.rank; ++i) {
    elements += std::abs(static_cast<double>(t.strides[i])) * static_cast<double>(t.shape[i] - 1);
  }
  return elements * static_cast<double>(size_of(t.dtype));
}

// Walking from the smallest stride up, each must step over all that the smaller ones reach.
bool elements_overlap(const Tensor& t) {
  std::vector<std::pair<std::int64_t, std::int64_t>> dims;  // stride, size
  for (int i = 0; i < t.rank; ++i) {
    if (t.shape[i] > 1) dims.emplace_back(t.strides[i], t.shape[i]);
  }
  std::sort(dims.begin(), dims.end());
  std::int64_t reach = 0;
  for (const auto& [stride, size] : dims) {
    if (stride <= reach) return true;
    reach += stride * (size - 1);
  }
  return false;
}

}  // namespace

std::string element(const char* argument, std::int64_t index) {
  return std::string(argument) + "[" + std::to_string(index) + "]";
}

void check_tensor(const char* argument, const Tensor& t, const char* form, std::initializer_list<std::int64_t> shape) {
  const std::size_t rank = shape.size();
  require(t.rank >= 0 && t.rank <= Tensor::max_rank, argument, t.rank, "must have a rank of at most 5");
  bool fits = static_cast<std::size_t>(t.rank) == rank;
  for (std::size_t i = 0; fits && i < rank; ++i) {
    const std::int64_t wanted = shape.begin()[i];
    fits = wanted == any_size ? t.shape[i] >= (i + 1 == rank ? 1 : 0) : t.shape[i] == wanted;
  }
  if (!fits) {
    throw InputError(argument, sizes_text(t.shape.data(), static_cast<std::size_t>(t.rank)),
                     std::string("must have the shape ") + form + " = " + sizes_text(shape.begin(), rank));
  }
  require(is_attention_dtype(t.dtype), argument, dtype_text(t.dtype), "must be f32, f16 or bf16");
  if (!has_elements(t)) return;
  require(t.data != nullptr, argument, "null", "must point to its elements");
  require(t.shape[t.rank - 1] == 1 || t.strides[t.rank - 1] == 1, argument, t.strides[t.rank - 1],
          "is the innermost stride and must be 1");
  require(reach_in_bytes(t) < 0x1p62, argument, sizes_text(t.shape.data(), rank), "reaches further than any memory");
}

void check_output(const char* argument, const Tensor& t, const char* form, std::initializer_list<std::int64_t> shape) {
  check_tensor(argument, t, form, shape);
  if (!has_elements(t) || !elements_overlap(t)) return;
  throw InputError(argument, "strides " + sizes_text(t.strides.data(), shape.size()),
                   "is written, so its elements must not share memory");
}

void check_dtype(const char* argument, const Tensor& t, DType wanted, const char* rule) {
  require(t.dtype == wanted, argument, dtype_text(t.dtype), rule);
}

void check_distinct(const char* argument, const Tensor& t, const Tensor& other, const char* rule) {
  require(t.data != other.data || !has_elements(t) || !has_elements(other), argument, "the same memory", rule);
}

void check_indptr(const char* argument, std::span<const std::int32_t> indptr, std::int64_t count) {
  check_span(argument, indptr, count + 1);
  require(indptr[0] == 0, argument, indptr[0], "must start at 0");
  for (std::int64_t i = 0; i < count; ++i) {
    require(indptr[i] <= indptr[i + 1], element(argument, i + 1).c_str(), indptr[i + 1],
            "must not be less than the entry before it", static_cast<int>(i));
  }
}

}  // namespace flashladder
