// The rules of q and o, in the words of whoever calls.
#include <string>

#include "core/error.hpp"
#include "core/validate.hpp"

namespace flashladder {
namespace {

std::string named(const RowsRule& rule, const char* what, int dim) {
  return std::string(rule.name) + " " + what + "[" + std::to_string(dim) + "]";
}

void require_shape(const ConstTensor& t, const RowsRule& rule, int dim, std::int64_t expected, const char* of_what) {
  if (t.shape[dim] == expected) return;
  throw InputError(named(rule, "shape", dim), std::to_string(t.shape[dim]),
                   std::string("must be ") + of_what + " (" + std::to_string(expected) + ")");
}

[[noreturn]] void refuse_stride(const ConstTensor& t, const RowsRule& rule, int dim, const char* why) {
  throw InputError(named(rule, "stride", dim), std::to_string(t.strides[dim]), why);
}

// The inner one of the two row strides steps over head_dim, the outer one over all that the inner one walks. By division,
// because the product of a wrong stride could overflow.
void require_disjoint_rows(const ConstTensor& t, const RowsRule& rule) {
  constexpr const char* why = "must not let rows overlap";
  const int outer = t.strides[0] >= t.strides[1] ? 0 : 1, inner = 1 - outer;
  if (t.shape[inner] > 1 && t.strides[inner] < t.shape[2]) refuse_stride(t, rule, inner, why);
  if (t.shape[outer] > 1 && t.strides[outer] < t.shape[2]) refuse_stride(t, rule, outer, why);
  if (t.shape[outer] > 1 && t.shape[inner] > 1 &&
      (t.strides[outer] - t.shape[2]) / t.strides[inner] < t.shape[inner] - 1) {
    refuse_stride(t, rule, outer, why);
  }
}

}  // namespace

void validate_rows(const ConstTensor& t, const RowsRule& rule) {
  if (t.rank != 3) {
    throw InputError(std::string(rule.name) + " rank", std::to_string(t.rank),
                     std::string("must be 3: [nnz_qo, num_qo_heads, ") + rule.head_dim_is + "]");
  }
  require_shape(t, rule, 0, rule.nnz_qo, rule.nnz_qo_is);
  require_shape(t, rule, 1, rule.num_qo_heads, "num_qo_heads");
  require_shape(t, rule, 2, rule.head_dim, rule.head_dim_is);
  if (rule.head_dim > 1 && t.strides[2] != 1) refuse_stride(t, rule, 2, "must be 1: dense along head_dim");
  require(t.data != nullptr || t.size() == 0, rule.name, "null", "must point to data, since its size is not 0");
}

void validate_written_rows(const ConstTensor& t, const RowsRule& rule) {
  validate_rows(t, rule);
  require_disjoint_rows(t, rule);
}

}  // namespace flashladder
