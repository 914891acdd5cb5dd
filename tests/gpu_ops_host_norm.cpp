// Which loads a norm and a merge may use: pieces of 16 bytes, and four elements at once, only where all of memory has them.
#include <cstddef>
#include <cstdint>

#include "gpu/merge/merge_params.hpp"
#include "gpu/norm/norm_params.hpp"
#include "tests/ops_data.hpp"

using namespace flashladder;
using namespace ops_test;

namespace {

alignas(16) std::byte data[32]{};

// Five tokens of so many heads of 64 elements, which lie that far apart in the input and in the output.
gpu::NormParams rows(std::int64_t in_token, std::int64_t out_token, std::int64_t heads) {
  return gpu::norm_params(strided(data, DType::f16, {5, heads, 64}, {in_token, 64, 1}),
                          strided(data, DType::f16, {5, heads, 64}, {out_token, 64, 1}),
                          strided(data, DType::f16, {64}, {1}), 0);
}

}  // namespace

TEST_CASE("heads are rows of one stride only where both the input's and the output's are") {
  CHECK(rows(128, 128, 2).num_heads == 1);
  CHECK(rows(128, 256, 2).num_heads == 2);
  CHECK(rows(256, 128, 2).num_heads == 2);
  CHECK(rows(256, 256, 1).num_heads == 1);
  CHECK(rows(256, 256, 1).input.stride == 256);
}

TEST_CASE("pieces of 16 bytes: the residual and the weight must begin with one, too") {
  const gpu::NormParams p = rows(64, 64, 1);
  CHECK(gpu::norm_shape(p, true, 132, false).aligned);
  gpu::NormParams by_residual = p, by_weight = p;
  by_residual.residual.data = data + 8;
  by_weight.weight = data + 8;
  CHECK_FALSE(gpu::norm_shape(by_residual, true, 132, false).aligned);
  CHECK_FALSE(gpu::norm_shape(by_weight, true, 132, false).aligned);
}

TEST_CASE("four elements at once: of a single row the stride has no meaning, its place has") {
  CHECK(gpu::is_vector(strided(data + 8, DType::f16, {1, 2, 8}, {7, 8, 1})));
  CHECK_FALSE(gpu::is_vector(strided(data + 4, DType::f16, {1, 2, 8}, {8, 8, 1})));
  CHECK_FALSE(gpu::is_vector(strided(data + 8, DType::f16, {2, 2, 8}, {7, 8, 1})));
}
