// Tensors: what the factories make and refuse, what can only be read, and what the checks of operations say.
#include <doctest/doctest.h>

#include <limits>
#include <type_traits>
#include <vector>

#include "core/checks.hpp"
#include "core/op_checks.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using test::refusal;

// A weight stays what it is: no tensor over const memory converts to one that can be written.
static_assert(std::is_convertible_v<Tensor, ConstTensor>);
static_assert(!std::is_convertible_v<ConstTensor, Tensor>);
static_assert(std::is_same_v<decltype(contiguous(static_cast<const float*>(nullptr), DType::f32, {1})), ConstTensor>);
static_assert(std::is_same_v<decltype(contiguous(static_cast<float*>(nullptr), DType::f32, {1})), Tensor>);
static_assert(std::is_same_v<decltype(strided(static_cast<const float*>(nullptr), DType::f32, {1}, {1})), ConstTensor>);

TEST_CASE("contiguous and strided: shape and strides as they were given") {
  std::vector<float> x(720);
  const Tensor dense = contiguous(x.data(), DType::f32, {6, 1, 5, 4, 6});
  CHECK(dense.rank == 5);
  CHECK(dense.strides == std::array<std::int64_t, 5>{120, 120, 24, 6, 1});
  CHECK(dense.size() == 720);
  const std::vector<float>& weights = x;
  const ConstTensor heads = strided(weights.data() + 24, DType::f32, {5, 2, 8}, {72, -8, 1});
  CHECK(heads.rank == 3);
  CHECK(heads.data_as<const float>() == weights.data() + 24);
  CHECK(heads.shape == std::array<std::int64_t, 5>{5, 2, 8, 0, 0});
  CHECK(heads.strides == std::array<std::int64_t, 5>{72, -8, 1, 0, 0});
  const ConstTensor same = dense;
  CHECK((same.data == dense.data && same.dtype == dense.dtype && same.rank == 5 && same.strides == dense.strides));
}

TEST_CASE("contiguous and strided: more dimensions than a tensor has are refused and nothing is written beyond it") {
  float x = 0;
  CHECK(refusal([&] { contiguous(&x, DType::f32, {1, 1, 1, 1, 1, 1}); }) == "shape = 6 sizes: must be at most 5");
  CHECK(refusal([&] { strided(&x, DType::f32, {1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1}); }) ==
        "shape = 6 sizes: must be at most 5");
  CHECK(refusal([&] { strided(&x, DType::f32, {1, 1}, {1}); }) == "strides = 1 strides: must be one for each size of shape");
  CHECK(contiguous(&x, DType::f32, {}).rank == 0);
}

TEST_CASE("tensors of any numbers can be looked at: unknown dtypes have a name and products wrap") {
  const auto unknown = static_cast<DType>(200);
  CHECK(std::string(name_of(unknown)) == "unknown");
  CHECK(size_of(unknown) == 0);
  const std::int64_t huge = std::int64_t{1} << 40;
  CHECK(contiguous(nullptr, DType::f16, {huge, huge, huge}).size() == 0);
}

TEST_CASE("operations say what is wrong in the caller's words") {
  std::vector<float> x(400);
  const auto t = [&](std::initializer_list<std::int64_t> shape) { return contiguous(x.data(), DType::f32, shape); };
  const Tensor w = contiguous(x.data() + 300, DType::f32, {4});
  const auto norm = [&](const Tensor& in, const Tensor& out) {
    return refusal([&] { check_rmsnorm(in, w, out, 0); });
  };
  CHECK(norm(t({1, 0}), t({1, 0})) == "input = [1, 0]: must have the shape [n, d] with d >= 1");
  CHECK(norm(t({1, 1, 1, 4}), t({1, 4})) == "input = [1, 1, 1, 4]: must have the shape [n, d]");
  CHECK(norm(t({-1, 4}), t({1, 4})) == "input = [-1, 4]: must have the shape [n, d] with n >= 0");
  CHECK(norm(t({2, 4}), t({3, 4})) == "out = [3, 4]: must have the shape [n, d] with n = 2");
  CHECK(norm(t({2, 2, 4}), t({2, 3, 4})) == "out = [2, 3, 4]: must have the shape [n, num_heads, d] with num_heads = 2");
  const auto row_stride = [&](std::int64_t stride) { return strided(x.data() + 100, DType::f32, {2, 4}, {stride, 1}); };
  CHECK(norm(t({2, 4}), row_stride(-4)) == "accepted");  // rows in falling order share nothing
  CHECK(norm(t({2, 4}), row_stride(-3)) == "out = strides [-3, 1]: is written, so its elements must not share memory");
  CHECK(norm(t({2, 4}), row_stride(0)) == "out = strides [0, 1]: is written, so its elements must not share memory");
  CHECK(refusal([&] { check_rmsnorm(row_stride(0), w, t({2, 4}), 0); }) == "accepted");  // of what is read they may
  CHECK(refusal([&] { check_rope(t({3, 1, 4}), t({2, 1, 4}), "pos_ids", std::span<const std::int32_t>{}); }) ==
        "k = [2, 1, 4]: must have the shape [nnz, num_kv_heads, head_dim] with nnz = 3");
  const std::vector<std::int32_t> positions(2);
  const Tensor k = contiguous(x.data() + 100, DType::f32, {3, 1, 4});
  CHECK(refusal([&] { check_rope(t({3, 1, 4}), k, "pos_ids", positions); }) == "pos_ids = 2 entries: must have 3 entries");
  const std::span<const std::int64_t> inside(reinterpret_cast<const std::int64_t*>(x.data() + 96), 3);  // the last one is in k
  CHECK(refusal([&] { check_rope(t({3, 1, 4}), k, "positions", inside); }) ==
        "k = memory of positions: is written, so it must not share memory with positions");
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();  // of one row the stride means nothing
  CHECK(norm(t({1, 4}), strided(x.data() + 100, DType::f32, {1, 4}, {most, 1})) == "accepted");
  CHECK(norm(t({2, 4}), contiguous(x.data() + 2, DType::f32, {2, 4})) ==
        "out = memory of input: is written, so it must be input itself (pointer, shape, strides, dtype) or not share memory "
        "with it");
}
