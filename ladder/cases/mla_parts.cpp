#include "ladder/cases/mla_parts.hpp"

#include <cstring>
#include <tuple>

namespace flashladder::ladder {
namespace {

std::size_t row_bytes(const OwnedTensor& t) { return static_cast<std::size_t>(t.shape.back()) * size_of(t.dtype); }

// copy(row of both, row of a part, bytes), for every row of the last dimension.
template <class Both, class Part, class Copy>
void for_each_row(Both& both, Part& first, Part& second, const Copy& copy) {
  const std::size_t a = row_bytes(first), b = row_bytes(second), rows = both.bytes.size() / (a + b);
  for (std::size_t r = 0; r < rows; ++r) {
    if (a > 0) copy(both.bytes.data() + r * (a + b), first.bytes.data() + r * a, a);
    if (b > 0) copy(both.bytes.data() + r * (a + b) + a, second.bytes.data() + r * b, b);
  }
}

}  // namespace

Parts cut(const OwnedTensor& both, std::int64_t features_of_first) {
  std::vector<std::int64_t> a = both.shape, b = both.shape;
  a.back() = features_of_first;
  b.back() -= features_of_first;
  Parts parts{OwnedTensor(both.dtype, std::move(a)), OwnedTensor(both.dtype, std::move(b))};
  for_each_row(both, parts.first, parts.second,
               [](const std::byte* row, std::byte* part, std::size_t bytes) { std::memcpy(part, row, bytes); });
  return parts;
}

OwnedTensor joined(const OwnedTensor& first, const OwnedTensor& second) {
  std::vector<std::int64_t> shape = first.shape;
  shape.back() += second.shape.back();
  OwnedTensor both(first.dtype, std::move(shape));
  for_each_row(both, first, second,
               [](std::byte* row, const std::byte* part, std::size_t bytes) { std::memcpy(row, part, bytes); });
  return both;
}

void split_parts(Case& c) {
  const std::int64_t ckv = c.spec.params.head_dim_vo;
  std::tie(c.q_nope, c.q_pe) = cut(c.q, ckv);
  std::tie(c.ckv_cache, c.kpe_cache) = cut(c.k_cache, ckv);
  c.ckv_cache.shape = without_head(c.ckv_cache.shape);
  c.kpe_cache.shape = without_head(c.kpe_cache.shape);
}

std::vector<std::int64_t> with_head(const std::vector<std::int64_t>& shape) { return {shape[0], shape[1], 1, shape[2]}; }
std::vector<std::int64_t> without_head(const std::vector<std::int64_t>& shape) { return {shape[0], shape[1], shape[3]}; }

}  // namespace flashladder::ladder
