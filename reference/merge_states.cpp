#include "reference/merge_states.hpp"

#include <Eigen/Core>

#include "core/checks.hpp"
#include "core/softmax_state.hpp"
#include "reference/element_io.hpp"

namespace flashladder::reference {
namespace {

constexpr const char* v_form = "[n, num_heads, head_dim]";
constexpr const char* s_form = "[n, num_heads]";
constexpr const char* s_rule = "must be f32: an LSE in 16 bits has lost the weights";

float& lse_log2_at(const Tensor& s, std::int64_t row, std::int64_t head) {
  return s.data_as<float>()[row * s.strides[0] + head * s.strides[1]];
}
std::int64_t offset(const Tensor& v, std::int64_t row, std::int64_t head) {
  return row * v.strides[0] + head * v.strides[1];
}

// One (row, head) while its states are folded in: the softmax state and the output that belongs to it.
class Fold {
 public:
  explicit Fold(std::int64_t head_dim) : o_(head_dim), next_(head_dim) {}

  void restart() {
    state_ = {};
    o_.setZero();
  }
  void add(const Tensor& v, const Tensor& s, std::int64_t row, std::int64_t head) {
    const auto next_state = SoftmaxState<float>::from_lse_log2(lse_log2_at(s, row, head));
    if (next_state.d == 0) return;  // no keys, no v: nobody has to have written it, so it may hold NaN
    load_row(v, offset(v, row, head), next_.size(), next_.data());
    const MergeWeights<float> w = merge(state_, next_state);
    o_ = o_ * w.a + next_ * w.b;
  }
  void finish(const Tensor& v_out, const Tensor& s_out, std::int64_t row, std::int64_t head) {
    o_ *= state_.inverse_d();
    store_row(o_.data(), o_.size(), v_out, offset(v_out, row, head));
    lse_log2_at(s_out, row, head) = state_.lse_log2();
  }

 private:
  SoftmaxState<float> state_;
  Eigen::ArrayXf o_, next_;  // [head_dim]  o_ is not divided by state_.d yet
};

// add_states(fold, row, head) adds what belongs to one output row and head.
template <class AddStates>
void merge_rows(const Tensor& v_out, const Tensor& s_out, std::span<const std::uint8_t> mask, AddStates&& add_states) {
  Fold fold(v_out.shape[2]);
  for (std::int64_t row = 0; row < v_out.shape[0]; ++row) {
    if (!mask.empty() && mask[row] == 0) continue;
    for (std::int64_t head = 0; head < v_out.shape[1]; ++head) {
      fold.restart();
      add_states(fold, row, head);
      fold.finish(v_out, s_out, row, head);
    }
  }
}

// t[:, index]: the tensor of one state of each row.
Tensor state_of_rows(const Tensor& t, std::int64_t index) {
  Tensor one{.data = static_cast<std::byte*>(t.data) + index * t.strides[1] * static_cast<std::int64_t>(size_of(t.dtype)),
             .dtype = t.dtype, .rank = t.rank - 1};
  for (int from = 0, to = 0; from < t.rank; ++from) {
    if (from == 1) continue;
    one.shape[to] = t.shape[from];
    one.strides[to++] = t.strides[from];
  }
  return one;
}

struct Sizes {
  std::int64_t n, num_heads, head_dim;
};
void check_state(const char* v_name, const Tensor& v, const char* s_name, const Tensor& s, Sizes z) {
  check_tensor(v_name, v, v_form, {z.n, z.num_heads, z.head_dim});
  check_tensor(s_name, s, s_form, {v.shape[0], v.shape[1]});
  check_dtype(s_name, s, DType::f32, s_rule);
}
void check_result(const char* v_name, const Tensor& v, const char* s_name, const Tensor& s, Sizes z) {
  check_output(v_name, v, v_form, {z.n, z.num_heads, z.head_dim});
  check_output(s_name, s, s_form, {v.shape[0], v.shape[1]});
  check_dtype(s_name, s, DType::f32, s_rule);
  check_distinct(s_name, s, v, "is written, as v is: they must be two tensors");
}

}  // namespace

void merge_state(const Tensor& v_a, const Tensor& s_a, const Tensor& v_b, const Tensor& s_b, const Tensor& v_out,
                 const Tensor& s_out) {
  check_state("v_a", v_a, "s_a", s_a, {any_size, any_size, any_size});
  const Sizes sizes{v_a.shape[0], v_a.shape[1], v_a.shape[2]};
  check_state("v_b", v_b, "s_b", s_b, sizes);
  check_result("v_out", v_out, "s_out", s_out, sizes);
  merge_rows(v_out, s_out, {}, [&](Fold& fold, std::int64_t row, std::int64_t head) {
    fold.add(v_a, s_a, row, head);
    fold.add(v_b, s_b, row, head);
  });
}

void merge_state_in_place(const Tensor& v, const Tensor& s, const Tensor& v_other, const Tensor& s_other,
                          std::span<const std::uint8_t> mask) {
  check_result("v", v, "s", s, {any_size, any_size, any_size});
  const Sizes sizes{v.shape[0], v.shape[1], v.shape[2]};
  check_state("v_other", v_other, "s_other", s_other, sizes);
  if (!mask.empty()) check_span("mask", mask, sizes.n);
  merge_rows(v, s, mask, [&](Fold& fold, std::int64_t row, std::int64_t head) {
    fold.add(v, s, row, head);
    fold.add(v_other, s_other, row, head);
  });
}

void merge_states(const Tensor& v, const Tensor& s, const Tensor& v_out, const Tensor& s_out) {
  check_tensor("v", v, "[n, num_states, num_heads, head_dim]", {any_size, any_size, any_size, any_size});
  check_tensor("s", s, "[n, num_states, num_heads]", {v.shape[0], v.shape[1], v.shape[2]});
  check_dtype("s", s, DType::f32, s_rule);
  check_result("v_out", v_out, "s_out", s_out, {v.shape[0], v.shape[2], v.shape[3]});
  merge_rows(v_out, s_out, {}, [&](Fold& fold, std::int64_t row, std::int64_t head) {
    for (std::int64_t k = 0; k < v.shape[1]; ++k) fold.add(state_of_rows(v, k), state_of_rows(s, k), row, head);
  });
}

void variable_length_merge_states(const Tensor& v, const Tensor& s, std::span<const std::int32_t> indptr,
                                  const Tensor& v_out, const Tensor& s_out) {
  check_state("v", v, "s", s, {any_size, any_size, any_size});
  check_result("v_out", v_out, "s_out", s_out, {any_size, v.shape[1], v.shape[2]});
  check_indptr("indptr", indptr, v_out.shape[0]);
  require(indptr.back() == v.shape[0], "indptr", indptr.back(), "must end at the number of states");
  merge_rows(v_out, s_out, {}, [&](Fold& fold, std::int64_t row, std::int64_t head) {
    for (std::int32_t state = indptr[row]; state < indptr[row + 1]; ++state) fold.add(v, s, state, head);
  });
}

}  // namespace flashladder::reference
