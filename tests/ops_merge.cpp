// Merging of attention states: against the softmax it must equal, with broken merges that the same comparison rejects.
#include <functional>
#include <limits>

#include "reference/merge_states.hpp"
#include "tests/ops_data.hpp"

using namespace flashladder;
using namespace ops_test;
using reference::merge_state;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

// Keys of one row and head: natural logits and values [keys, dim]. The attention over a range of them, in double, with the
// plain exp of the textbook (logits stay small enough for it).
struct Keys {
  std::vector<double> logits;
  std::vector<std::vector<double>> values;

  Keys(std::mt19937& random, int keys, int dim) : logits(keys), values(keys, std::vector<double>(dim)) {
    std::normal_distribution<double> normal;
    for (double& l : logits) l = 4 * normal(random);
    for (auto& row : values) {
      for (double& x : row) x = normal(random);
    }
  }
  void attend(int begin, int end, std::vector<double>& v, double& lse_log2) const {
    double sum = 0;
    v.assign(values[0].size(), 0);
    for (int j = begin; j < end; ++j) {
      sum += std::exp(logits[j]);
      for (std::size_t x = 0; x < v.size(); ++x) v[x] += std::exp(logits[j]) * values[j][x];
    }
    for (double& x : v) x = sum > 0 ? x / sum : 0;
    lse_log2 = std::log(sum) / std::log(2.0);  // log(0) = -inf: no keys
  }
};

struct State {  // v [n, heads, dim], s [n, heads]
  Padded v, s;
  State(DType dtype, int n, int heads, int dim) : v(dtype, {n, heads, dim}), s(DType::f32, {n, heads}) {}

  void put(std::int64_t row_and_head, const std::vector<double>& o, double lse_log2) {
    for (std::size_t x = 0; x < o.size(); ++x) v.set(row_and_head * o.size() + x, o[x]);
    s.set(row_and_head, lse_log2);
  }
  bool padding_untouched() const { return v.padding_untouched() && s.padding_untouched(); }
};

// Below, |lse| < 32 and |v| < 4: 4 roundings of a float lse; for v, the same lse error as a relative error of the weights;
// with 16 bits also the rounding of two inputs and the output.
double tolerance(DType dtype) { return 4 * 32 * 0x1p-24 + (dtype == DType::f32 ? 0 : 3 * unit_roundoff(dtype) * 4); }

// merge(v_a, s_a, v_b, s_b, v_out, s_out)
using MergeFunction = std::function<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                         const Tensor&)>;

// Cuts the keys of every (row, head) at each place, merges the two sides: does it equal the whole?
bool any_cut_gives_the_whole(const MergeFunction& merge_function, DType dtype) {
  constexpr int n = 2, heads = 3, dim = 5, keys = 9;
  std::mt19937 random(7);
  bool good = true;
  for (int cut = 0; cut <= keys; ++cut) {
    State a(dtype, n, heads, dim), b(dtype, n, heads, dim), out(dtype, n, heads, dim), whole(DType::f32, n, heads, dim);
    std::vector<double> o;
    double lse = 0;
    for (int i = 0; i < n * heads; ++i) {
      const Keys row(random, keys, dim);
      row.attend(0, cut, o, lse);
      a.put(i, o, lse);
      row.attend(cut, keys, o, lse);
      b.put(i, o, lse);
      row.attend(0, keys, o, lse);
      whole.put(i, o, lse);
    }
    merge_function(a.v.t(), a.s.t(), b.v.t(), b.s.t(), out.v.t(), out.s.t());
    for (int i = 0; i < n * heads; ++i) good = good && std::abs(out.s.get(i) - whole.s.get(i)) <= tolerance(DType::f32);
    for (int i = 0; i < n * heads * dim; ++i) good = good && std::abs(out.v.get(i) - whole.v.get(i)) <= tolerance(dtype);
    good = good && out.padding_untouched();
  }
  return good;
}

// For f32 tensors: a merge that is wrong in one chosen way.
template <class Weight, class Lse>
MergeFunction broken(Weight weight, Lse lse) {
  return [=](const Tensor& va, const Tensor& sa, const Tensor& vb, const Tensor& sb, const Tensor& v, const Tensor& s) {
    for (std::int64_t i = 0; i < va.shape[0]; ++i) {
      for (std::int64_t h = 0; h < va.shape[1]; ++h) {
        const float a = sa.data_as<float>()[i * sa.strides[0] + h], b = sb.data_as<float>()[i * sb.strides[0] + h];
        const float m = std::max(a, b), wa = weight(a, m), wb = weight(b, m);
        s.data_as<float>()[i * s.strides[0] + h] = lse(m, wa + wb);
        for (std::int64_t x = 0; x < va.shape[2]; ++x) {
          const auto at = [&](const Tensor& t) -> float& {
            return t.data_as<float>()[i * t.strides[0] + h * t.strides[1] + x];
          };
          at(v) = (at(va) * wa + at(vb) * wb) / (wa + wb);
        }
      }
    }
  };
}

struct States {  // [n, num_states, heads, dim], random; state 1 of row 0 saw nothing and has no v
  static constexpr int n = 3, num_states = 4, heads = 2, dim = 7;
  Padded v, s;
  States(DType dtype, unsigned seed) : v(dtype, {n, num_states, heads, dim}), s(DType::f32, {n, num_states, heads}) {
    std::mt19937 random(seed);
    v.fill(random, -1, 1);
    s.fill(random, -20, 20);
    for (int h = 0; h < heads; ++h) {
      s.set(heads + h, -inf);
      for (int x = 0; x < dim; ++x) v.set((heads + h) * dim + x, NAN);
    }
  }
  // The state `k` of all rows as its own tensors.
  void take(int k, State& one) const {
    for (int i = 0; i < n * heads; ++i) {
      const int from = (i / heads * num_states + k) * heads + i % heads;
      one.s.set(i, s.get(from));
      for (int x = 0; x < dim; ++x) one.v.set(i * dim + x, v.get(from * dim + x));
    }
  }
};

}  // namespace

TEST_CASE("merge_state: any cut of a softmax merges to the whole") {
  for (DType dtype : all_dtypes) {
    CAPTURE(name_of(dtype));
    CHECK(any_cut_gives_the_whole(merge_state, dtype));
  }
}

TEST_CASE("merge_state: the comparison rejects broken merges and accepts the formula") {
  const auto exp2_weight = [](float s, float m) { return std::exp2(s - m); };
  const auto exp_weight = [](float s, float m) { return std::exp(s - m); };
  const auto no_weight = [](float s, float) { return s == -inf ? 0.0f : 1.0f; };
  const auto log2_lse = [](float m, float d) { return m + std::log2(d); };
  const auto natural_lse = [](float m, float d) { return m + std::log(d); };
  CHECK(any_cut_gives_the_whole(broken(exp2_weight, log2_lse), DType::f32));
  CHECK_FALSE(any_cut_gives_the_whole(broken(exp_weight, natural_lse), DType::f32));  // base e all through
  CHECK_FALSE(any_cut_gives_the_whole(broken(exp2_weight, natural_lse), DType::f32));
  CHECK_FALSE(any_cut_gives_the_whole(broken(exp_weight, log2_lse), DType::f32));
  CHECK_FALSE(any_cut_gives_the_whole(broken(no_weight, log2_lse), DType::f32));  // v averaged
}

TEST_CASE("merge_state: a state that saw nothing is the identity and its v is not read") {
  State some(DType::f16, 1, 2, 9), nothing(DType::f16, 1, 2, 9), out(DType::f16, 1, 2, 9);
  std::mt19937 random(3);
  some.v.fill(random, -1, 1);
  some.s.fill(random, -1e5, 1e5);
  for (int h = 0; h < 2; ++h) nothing.s.set(h, -inf);  // its v stays NaN
  for (const auto& [a, b] : {std::pair(&some, &nothing), std::pair(&nothing, &some)}) {
    merge_state(a->v.t(), a->s.t(), b->v.t(), b->s.t(), out.v.t(), out.s.t());
    CHECK(out.v.bytes() == some.v.bytes());
    CHECK(out.s.bytes() == some.s.bytes());
  }
  merge_state(nothing.v.t(), nothing.s.t(), nothing.v.t(), nothing.s.t(), out.v.t(), out.s.t());
  for (int i = 0; i < 18; ++i) CHECK(out.v.get(i) == 0);
  for (int h = 0; h < 2; ++h) CHECK(out.s.get(h) == -inf);
}

TEST_CASE("merge_state: a NaN lse is no empty state and shows in v and s") {
  State a(DType::f32, 1, 1, 4), b(DType::f32, 1, 1, 4), out(DType::f32, 1, 1, 4);
  a.put(0, {1, 2, 3, 4}, NAN);
  b.put(0, {1, 2, 3, 4}, 0);
  for (const auto& [first, second] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    merge_state(first->v.t(), first->s.t(), second->v.t(), second->s.t(), out.v.t(), out.s.t());
    CHECK(std::isnan(out.s.get(0)));
    for (int x = 0; x < 4; ++x) CHECK(std::isnan(out.v.get(x)));
    out.put(0, {0, 0, 0, 0}, 0);
  }
}

TEST_CASE("merge_states: equals pairwise merges in any tree and order and the variable length form bit for bit") {
  constexpr int n = States::n, heads = States::heads, dim = States::dim, k = States::num_states;
  for (const DType dtype : all_dtypes) {
    CAPTURE(name_of(dtype));
    const States states(dtype, 11);
    State all(dtype, n, heads, dim);
    reference::merge_states(states.v.t(), states.s.t(), all.v.t(), all.s.t());
    CHECK(all.padding_untouched());
    for (const auto& order : {std::vector{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}}) {
      State chain(dtype, n, heads, dim), tree(dtype, n, heads, dim), next(dtype, n, heads, dim), left(dtype, n, heads, dim);
      states.take(order[0], chain);  // ((0 1) 2) 3
      for (int i = 1; i < k; ++i) {
        states.take(order[i], next);
        reference::merge_state_in_place(chain.v.t(), chain.s.t(), next.v.t(), next.s.t());
      }
      states.take(order[0], left);  // (0 1) (2 3)
      states.take(order[1], next);
      reference::merge_state_in_place(left.v.t(), left.s.t(), next.v.t(), next.s.t());
      states.take(order[2], tree);
      states.take(order[3], next);
      merge_state(tree.v.t(), tree.s.t(), next.v.t(), next.s.t(), tree.v.t(), tree.s.t());
      merge_state(left.v.t(), left.s.t(), tree.v.t(), tree.s.t(), tree.v.t(), tree.s.t());
      for (const State* other : {&chain, &tree}) {
        for (int i = 0; i < n * heads * dim; ++i) CHECK(std::abs(other->v.get(i) - all.v.get(i)) <= tolerance(dtype));
        for (int i = 0; i < n * heads; ++i) CHECK(std::abs(other->s.get(i) - all.s.get(i)) <= tolerance(DType::f32));
      }
    }
    State rows(dtype, n * k, heads, dim), out(dtype, n, heads, dim);
    for (int i = 0; i < n * k * heads * dim; ++i) rows.v.set(i, states.v.get(i));
    for (int i = 0; i < n * k * heads; ++i) rows.s.set(i, states.s.get(i));
    const std::vector indptr{0, k, 2 * k, 3 * k};
    reference::variable_length_merge_states(rows.v.t(), rows.s.t(), indptr, out.v.t(), out.s.t());
    CHECK(out.v.bytes() == all.v.bytes());
    CHECK(out.s.bytes() == all.s.bytes());
  }
}

TEST_CASE("variable_length_merge_states: no state gives 0 and -inf and one state its copy and many the formula") {
  constexpr int heads = 2, dim = 11;
  State in(DType::bf16, 4, heads, dim), out(DType::bf16, 3, heads, dim);
  std::mt19937 random(5);
  in.v.fill(random, -2, 2);
  in.s.fill(random, -3, 3);
  reference::variable_length_merge_states(in.v.t(), in.s.t(), std::vector{0, 1, 1, 4}, out.v.t(), out.s.t());
  for (int i = 0; i < heads * dim; ++i) {
    CHECK(out.v.get(i) == in.v.get(i));
    CHECK(out.v.get(heads * dim + i) == 0);
    double sum = 0, weighted = 0;
    for (int state = 1; state < 4; ++state) {
      const double weight = std::pow(2.0, in.s.get(state * heads + i / dim));
      sum += weight;
      weighted += weight * in.v.get(state * heads * dim + i);
    }
    CHECK(is_rounded_once(DType::bf16, out.v.get(2 * heads * dim + i), weighted / sum, 1e-6));
  }
  for (int h = 0; h < heads; ++h) {
    CHECK(out.s.get(h) == in.s.get(h));
    CHECK(out.s.get(heads + h) == -inf);
  }
  CHECK(out.padding_untouched());
}

TEST_CASE("merge_state_in_place: masked rows and padding keep their bits and other rows are merged") {
  const States states(DType::bf16, 13);
  constexpr int n = States::n, heads = States::heads, dim = States::dim;
  State ours(DType::bf16, n, heads, dim), other(DType::bf16, n, heads, dim), old(DType::bf16, n, heads, dim);
  State merged(DType::bf16, n, heads, dim);
  states.take(0, ours);
  states.take(0, old);
  states.take(2, other);
  for (int h = 0; h < heads; ++h) other.s.set(heads + h, ours.s.get(heads + h));  // equal weights in the masked row
  merge_state(ours.v.t(), ours.s.t(), other.v.t(), other.s.t(), merged.v.t(), merged.s.t());
  const std::vector<std::uint8_t> mask{1, 0, 255};
  reference::merge_state_in_place(ours.v.t(), ours.s.t(), other.v.t(), other.s.t(), mask);
  for (int i = 0; i < n * heads * dim; ++i) CHECK(ours.v.get(i) == (mask[i / (heads * dim)] ? merged : old).v.get(i));
  for (int i = 0; i < n * heads; ++i) CHECK(ours.s.get(i) == (mask[i / heads] ? merged : old).s.get(i));
  CHECK(merged.v.get(heads * dim) != old.v.get(heads * dim));  // the masked row would have changed
  CHECK(ours.padding_untouched());
}

TEST_CASE("merge: bad arguments are refused by name and nothing is written") {
  Padded v(DType::f16, {2, 3, 4}), s(DType::f32, {2, 3}), w(DType::f16, {2, 3, 4}), t(DType::f32, {2, 3});
  Padded v_out(DType::f16, {2, 3, 4}), s_out(DType::f32, {2, 3});
  Padded s_half(DType::f16, {2, 3}), other(DType::f16, {2, 3, 5});
  const auto refused = [&](const std::string& argument, const Tensor& a, const Tensor& sa, const Tensor& b, const Tensor& sb,
                           const Tensor& o, const Tensor& so) {
    check_refused(argument, {&v_out, &s_out}, [&] { merge_state(a, sa, b, sb, o, so); });
  };
  refused("v_a", s.t(), s.t(), w.t(), t.t(), v_out.t(), s_out.t());
  refused("s_a", v.t(), s_half.t(), w.t(), t.t(), v_out.t(), s_out.t());
  refused("v_b", v.t(), s.t(), other.t(), t.t(), v_out.t(), s_out.t());
  refused("v_out", v.t(), s.t(), w.t(), t.t(), other.t(), s_out.t());
  refused("s_out", v.t(), s.t(), w.t(), t.t(), v_out.t(), s_half.t());  // an LSE in 16 bits
  const auto refused_v_a = [&](auto change) {
    Tensor bad = v.t();
    change(bad);
    refused("v_a", bad, s.t(), w.t(), t.t(), v_out.t(), s_out.t());
  };
  refused_v_a([](Tensor& bad) { bad.data = nullptr; });
  refused_v_a([](Tensor& bad) { bad.dtype = DType::i32; });
  refused_v_a([](Tensor& bad) { bad.dtype = static_cast<DType>(200); });
  refused_v_a([](Tensor& bad) { bad.shape[0] = -1; });
  refused_v_a([](Tensor& bad) { bad.rank = 6; });
  refused_v_a([](Tensor& bad) { bad.strides[2] = 2; });                     // not dense
  refused_v_a([](Tensor& bad) { bad.strides[0] = std::int64_t{1} << 62; });  // no such memory
  Tensor overlapping = v_out.t();
  overlapping.strides[0] = 2;
  refused("v_out", v.t(), s.t(), w.t(), t.t(), overlapping, s_out.t());

  const std::vector<std::uint8_t> mask(3, 1);
  check_refused("mask", {&v, &s}, [&] { reference::merge_state_in_place(v.t(), s.t(), w.t(), t.t(), mask); });
  check_refused("v", {&v_out, &s_out}, [&] { reference::merge_states(v.t(), s.t(), v_out.t(), s_out.t()); });
  const auto varlen = [&](const std::string& argument, std::vector<std::int32_t> indptr, int request = -1) {
    check_refused(argument, {&v_out, &s_out}, [&] {
      reference::variable_length_merge_states(v.t(), s.t(), indptr, v_out.t(), s_out.t());
    }, request);
  };
  varlen("indptr", {0, 2});
  varlen("indptr", {1, 1, 2});
  varlen("indptr[2]", {0, 2, 1}, 1);
  varlen("indptr", {0, 1, 3});
}
