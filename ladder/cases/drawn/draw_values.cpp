// q, K and V. Everything is N(0, 1) (random.hpp) but for what Values asks of q and K: each KV head then has a direction u,
// a vector of signs, and q and k lie along it.
//   equal      every k is one and the same random vector. Of op mla, where v is a part of k, that part of q is 0 instead,
//              and only the rest of k is one and the same
//   large      q and k are +-large_amplitude * u, a coin for each, plus noise that moves the logit by about 2
//   first_max  q's elements have the signs of u and are at least 1/2; among the first 16 keys of a request one is
//              peak_amplitude * u, so that every query meets its maximum there. last_max: among the last 16
// K and V that have scales are drawn twice: once to find these, and once to be stored.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ladder/cases/drawn/draw_parts.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "reference/element_io.hpp"

namespace flashladder::ladder {
namespace {

constexpr std::int32_t tile = 16;  // the smallest tile of keys that a rung walks

Random stream(const CaseSpec& spec, Stream s) { return Random(spec.seed, static_cast<std::uint64_t>(s)); }

struct Directions {
  std::vector<double> u, same;  // [num_kv_heads, head_dim_qk]  signs; the one key of Values::equal

  explicit Directions(const CaseSpec& spec) {
    Random random = stream(spec, Stream::directions);
    for (int i = 0; i < spec.params.num_kv_heads * spec.params.head_dim_qk; ++i) {
      u.push_back(random.sign());
      same.push_back(random.normal());
    }
  }
};

// Amplitude and noise of Values::large: noise * N(0, 1) on each of head_dim elements moves a logit by about 2.
struct Large {
  double amplitude, noise;
  explicit Large(const AttentionParams& p)
      : amplitude(large_amplitude(p)),
        noise(std::min(amplitude / 8, 2 / (double{p.sm_scale} * amplitude * std::sqrt(double(p.head_dim_qk))))) {}
};

// Whether feature d of a key is also one of its value.
bool is_value(const CaseSpec& spec, std::int64_t d) { return spec.op == Op::mla && d < spec.params.head_dim_vo; }

template <class T>
void draw_q(Case& c, const Directions& directions) {
  const AttentionParams& p = c.spec.params;
  const Large large(p);
  Random random = stream(c.spec, Stream::q);
  T* q = c.q.view().data_as<T>();
  for (std::int64_t row = 0; row < c.spec.nnz_qo(); ++row) {
    for (std::int32_t head = 0; head < p.num_qo_heads; ++head) {
      const double* u = &directions.u[static_cast<std::size_t>(head / p.group_size()) * p.head_dim_qk];
      const double sign = random.sign();
      for (std::int32_t d = 0; d < p.head_dim_qk; ++d) {
        double x = random.normal();
        if (c.spec.values == Values::large) x = sign * large.amplitude * u[d] + large.noise * x;
        if (c.spec.values == Values::equal && is_value(c.spec, d)) x = 0;
        if (c.spec.values == Values::first_max || c.spec.values == Values::last_max) x = (0.5 + std::abs(x)) * u[d];
        *q++ = static_cast<T>(static_cast<float>(x));
      }
    }
  }
}

// The key of request b that Values::first_max or last_max raises; -1 for none.
std::int32_t draw_peak(const CaseSpec& spec, std::int32_t b, Random& random) {
  const std::int32_t len = spec.kv_lens[b];
  if (len == 0 || (spec.values != Values::first_max && spec.values != Values::last_max)) return -1;
  const auto from_the_end = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(std::min(len, tile))));
  return spec.values == Values::first_max ? from_the_end : len - 1 - from_the_end;
}

// Calls row(slot, KV head, values) for each key, in the order of the stream.
template <class F>
void each_key(const CaseSpec& spec, const AttentionProblem& problem, const Directions& directions, F&& row) {
  const AttentionParams& p = spec.params;
  const Large large(p);
  const double peak = peak_amplitude(p);
  Random random = stream(spec, Stream::k), peaks = stream(spec, Stream::peaks);
  const PageTable table = problem.page_table();
  std::vector<float> k(static_cast<std::size_t>(p.head_dim_qk));
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    const std::int32_t peak_key = draw_peak(spec, b, peaks);
    for (std::int32_t key = 0; key < table.length(b); ++key) {
      for (std::int32_t head = 0; head < p.num_kv_heads; ++head) {
        const std::size_t at = static_cast<std::size_t>(head) * p.head_dim_qk;
        const double sign = random.sign();
        for (std::size_t d = 0; d < k.size(); ++d) {
          double x = random.normal();
          if (spec.values == Values::equal && !is_value(spec, static_cast<std::int64_t>(d))) x = directions.same[at + d];
          if (spec.values == Values::large) x = sign * large.amplitude * directions.u[at + d] + large.noise * x;
          if (key == peak_key) x = peak * directions.u[at + d];
          k[d] = static_cast<float>(x);
        }
        row(table.locate(b, key), head, k);
      }
    }
  }
}

template <class F>
void each_value(const CaseSpec& spec, const AttentionProblem& problem, F&& row) {
  Random random = stream(spec, Stream::v);
  const PageTable table = problem.page_table();
  std::vector<float> v(static_cast<std::size_t>(spec.params.head_dim_vo));
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    for (std::int32_t key = 0; key < table.length(b); ++key) {
      for (std::int32_t head = 0; head < spec.params.num_kv_heads; ++head) {
        for (float& x : v) x = static_cast<float>(random.normal());
        row(table.locate(b, key), head, v);
      }
    }
  }
}

// The scales with which the largest number of all rows, or of each head's, is stored as the largest of fp8.
template <class Each>
std::vector<float> calibrated(const CaseSpec& spec, Each&& each) {
  if (spec.kv_scales == KvScaling::none) return {};
  const float largest = spec.cache_dtype() == DType::f8_e5m2 ? 57344.0f : 448.0f;
  std::vector<float> scales(static_cast<std::size_t>(spec.params.num_kv_heads), 0.0f);
  each([&](KvSlot, std::int32_t head, const std::vector<float>& row) {
    for (const float x : row) scales[head] = std::max(scales[head], std::abs(x));
  });
  if (spec.kv_scales == KvScaling::number) scales = {*std::max_element(scales.begin(), scales.end())};
  for (float& s : scales) s = s > 0 ? s / largest : 1;
  return scales;
}

// Draws all rows of K, or of V, and stores each divided by its scale.
template <class T, class Each>
void store(const Each& each, void* base, const KvStrides& strides, const std::vector<float>& scales) {
  each([&](KvSlot slot, std::int32_t head, const std::vector<float>& row) {
    const float scale = scales.empty() ? 1 : scales.size() == 1 ? scales[0] : scales[head];
    T* to = static_cast<T*>(base) + strides.offset(slot, head);
    for (const float x : row) *to++ = static_cast<T>(x / scale);
  });
}

template <class T>
void fill_with_nan(OwnedTensor& t) {
  std::fill_n(t.view().data_as<T>(), t.size(), static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
}

template <class T>
void draw_cache(Case& c, const Directions& directions) {
  for (OwnedTensor* cache : {&c.kv_cache, &c.k_cache, &c.v_cache}) fill_with_nan<T>(*cache);
  const AttentionProblem problem = c.problem();
  const auto keys = [&](auto&& row) { each_key(c.spec, problem, directions, row); };
  const auto values = [&](auto&& row) { each_value(c.spec, problem, row); };
  c.k_scale = calibrated(c.spec, keys);
  if (c.spec.op == Op::mla) {  // a value is a part of its key
    c.v_scale = c.k_scale;
    return store<T>(keys, problem.kv.k, problem.kv.k_strides, c.k_scale);
  }
  c.v_scale = calibrated(c.spec, values);
  store<T>(keys, problem.kv.k, problem.kv.k_strides, c.k_scale);
  store<T>(values, problem.kv.v, problem.kv.v_strides, c.v_scale);
}

}  // namespace

void draw_values(Case& c) {
  const Directions directions(c.spec);
  reference::visit_dtype(c.spec.dtype, [&]<class T>(T) { draw_q<T>(c, directions); });
  reference::visit_cache_dtype(c.spec.cache_dtype(), [&]<class T>(T) { draw_cache<T>(c, directions); });
}

}  // namespace flashladder::ladder
