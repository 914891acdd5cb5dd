#include "reference/merge_states.hpp"

#include "core/checks.hpp"
#include "core/op_checks.hpp"
#include "core/softmax_state.hpp"
#include "reference/element_io.hpp"
#include "reference/kept.hpp"

namespace flashladder::reference {
namespace {

template <class Void>
std::int64_t offset(const BasicTensor<Void>& t, std::int64_t row, std::int64_t head) {
  return row * t.strides[0] + head * t.strides[1];
}

// One (row, head) while its states are folded in: the softmax state and the output that belongs to it.
class Fold {
 public:
  explicit Fold(std::int64_t head_dim)
      : o_(kept<float, struct MergedOutput>(head_dim)), next_(kept<float, struct NextOutput>(head_dim)) {}

  void restart() {
    state_ = {};
    for (float& o : o_) o = 0;
  }
  void add(const ConstTensor& v, const ConstTensor& s, std::int64_t row, std::int64_t head) {
    const auto next_state = SoftmaxState<float>::from_lse_log2(s.data_as<const float>()[offset(s, row, head)]);
    if (next_state.d == 0) return;  // no keys, no v: nobody has to have written it, so it may hold NaN
    load_row(v, offset(v, row, head), static_cast<std::int64_t>(next_.size()), next_.data());
    const MergeWeights<float> w = merge(state_, next_state);
    for (std::size_t x = 0; x < o_.size(); ++x) o_[x] = o_[x] * w.a + next_[x] * w.b;
  }
  void finish(const Tensor& v_out, const Tensor& s_out, std::int64_t row, std::int64_t head, float lse_factor) {
    const float inverse_d = state_.inverse_d();
    for (float& o : o_) o *= inverse_d;
    store_row(o_.data(), static_cast<std::int64_t>(o_.size()), v_out, offset(v_out, row, head));
    s_out.data_as<float>()[offset(s_out, row, head)] = state_.lse_log2() * lse_factor;
  }

 private:
  SoftmaxState<float> state_;
  std::span<float> o_, next_;  // [head_dim]  o_ is not divided by state_.d yet
};

// add_states(fold, row, head) adds what belongs to one output row and head.
template <class AddStates>
void merge_rows(const Tensor& v_out, const Tensor& s_out, std::span<const std::uint8_t> mask, AddStates&& add_states,
                float lse_factor = 1) {
  if (v_out.size() == 0) return;  // any number of rows without heads
  Fold fold(v_out.shape[2]);
  for (std::int64_t row = 0; row < v_out.shape[0]; ++row) {
    if (!mask.empty() && mask[static_cast<std::size_t>(row)] == 0) continue;
    for (std::int64_t head = 0; head < v_out.shape[1]; ++head) {
      fold.restart();
      add_states(fold, row, head);
      fold.finish(v_out, s_out, row, head, lse_factor);
    }
  }
}

// t[:, index]: the tensor of one state of each row.
ConstTensor state_of_rows(const ConstTensor& t, std::int64_t index) {
  ConstTensor one{.data = t.data_as<const std::byte>() + index * t.strides[1] * static_cast<std::int64_t>(size_of(t.dtype)),
                  .dtype = t.dtype, .rank = t.rank - 1};
  std::size_t to = 0;
  for (std::size_t from = 0; from < static_cast<std::size_t>(t.rank); ++from) {
    if (from == 1) continue;
    one.shape[to] = t.shape[from];
    one.strides[to++] = t.strides[from];
  }
  return one;
}

}  // namespace

void merge_state(const ConstTensor& v_a, const ConstTensor& s_a, const ConstTensor& v_b, const ConstTensor& s_b,
                 const Tensor& v_out, const Tensor& s_out) {
  check_merge_state(v_a, s_a, v_b, s_b, v_out, s_out);
  merge_rows(v_out, s_out, {}, [&](Fold& fold, std::int64_t row, std::int64_t head) {
    fold.add(v_a, s_a, row, head);
    fold.add(v_b, s_b, row, head);
  });
}

void merge_state_in_place(const Tensor& v, const Tensor& s, const ConstTensor& v_other, const ConstTensor& s_other,
                          std::span<const std::uint8_t> mask) {
  check_merge_state_in_place(v, s, v_other, s_other, mask);
  merge_rows(v, s, mask, [&](Fold& fold, std::int64_t row, std::int64_t head) {
    fold.add(v, s, row, head);
    fold.add(v_other, s_other, row, head);
  });
}

void merge_states(const ConstTensor& v, const ConstTensor& s, const Tensor& v_out, const Tensor& s_out,
                  float lse_factor) {
  check_merge_states(v, s, v_out, s_out);
  const auto add_states = [&](Fold& fold, std::int64_t row, std::int64_t head) {
    for (std::int64_t k = 0; k < v.shape[1]; ++k) fold.add(state_of_rows(v, k), state_of_rows(s, k), row, head);
  };
  merge_rows(v_out, s_out, {}, add_states, lse_factor);
}

void variable_length_merge_states(const ConstTensor& v, const ConstTensor& s, std::span<const std::int32_t> indptr,
                                  const Tensor& v_out, const Tensor& s_out) {
  check_variable_length_merge_states(v, s, indptr, v_out, s_out);
  check_indptr("indptr", indptr, v_out.shape[0]);
  require(indptr.back() == v.shape[0], "indptr", indptr.back(), "must end at the number of states");
  merge_rows(v_out, s_out, {}, [&](Fold& fold, std::int64_t row, std::int64_t head) {
    const auto at = static_cast<std::size_t>(row);
    for (std::int32_t state = indptr[at]; state < indptr[at + 1]; ++state) fold.add(v, s, state, head);
  });
}

}  // namespace flashladder::reference
