// q, K and V. Everything is N(0, 1) (random.hpp) but for what Values asks of q and K: each KV head then has a direction u,
// a vector of signs, and q and k lie along it.
//   equal      every k is one and the same random vector. Of op mla, where v is a part of k, that part of q is 0 instead,
//              and only the rest of k is one and the same
//   large      q and k are +-large_amplitude * u, a coin for each, plus noise that moves the logit by about 2
//   first_max  q's elements have the signs of u and are at least 1/2; among the first 16 keys of a request one is
//              peak_amplitude * u, so that every query meets its maximum there. last_max: among the last 16
#include <algorithm>
#include <cmath>
#include <limits>

#include "ladder/cases/drawn/draw_parts.hpp"
#include "ladder/cases/drawn/random.hpp"

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
bool is_value(const CaseSpec& spec, std::int32_t d) { return spec.op == Op::mla && d < spec.params.head_dim_vo; }

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

template <class T>
void draw_keys(const Case& c, const AttentionProblem& problem, const Directions& directions) {
  const AttentionParams& p = c.spec.params;
  const Large large(p);
  const double peak = peak_amplitude(p);
  Random random = stream(c.spec, Stream::k), peaks = stream(c.spec, Stream::peaks);
  const PageTable table = problem.page_table();
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    const std::int32_t peak_key = draw_peak(c.spec, b, peaks);
    for (std::int32_t key = 0; key < table.length(b); ++key) {
      const KvSlot slot = table.locate(b, key);
      for (std::int32_t head = 0; head < p.num_kv_heads; ++head) {
        T* k = static_cast<T*>(problem.kv.k) + problem.kv.k_strides.offset(slot, head);
        const std::size_t at = static_cast<std::size_t>(head) * p.head_dim_qk;
        const double sign = random.sign();
        for (std::int32_t d = 0; d < p.head_dim_qk; ++d) {
          double x = random.normal();
          if (c.spec.values == Values::equal && !is_value(c.spec, d)) x = directions.same[at + d];
          if (c.spec.values == Values::large) x = sign * large.amplitude * directions.u[at + d] + large.noise * x;
          if (key == peak_key) x = peak * directions.u[at + d];
          k[d] = static_cast<T>(static_cast<float>(x));
        }
      }
    }
  }
}

template <class T>
void draw_v(const Case& c, const AttentionProblem& problem) {
  Random random = stream(c.spec, Stream::v);
  const PageTable table = problem.page_table();
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    for (std::int32_t key = 0; key < table.length(b); ++key) {
      const KvSlot slot = table.locate(b, key);
      for (std::int32_t head = 0; head < problem.kv.num_kv_heads; ++head) {
        T* v = static_cast<T*>(problem.kv.v) + problem.kv.v_strides.offset(slot, head);
        for (std::int32_t d = 0; d < problem.kv.head_dim_vo; ++d) v[d] = static_cast<T>(static_cast<float>(random.normal()));
      }
    }
  }
}

template <class T>
void fill_with_nan(OwnedTensor& t) {
  std::fill_n(t.view().data_as<T>(), t.size(), static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
}

template <class T>
void draw(Case& c) {
  for (OwnedTensor* cache : {&c.kv_cache, &c.k_cache, &c.v_cache}) fill_with_nan<T>(*cache);
  const Directions directions(c.spec);
  const AttentionProblem problem = c.problem();
  draw_q<T>(c, directions);
  draw_keys<T>(c, problem, directions);
  if (c.spec.op != Op::mla) draw_v<T>(c, problem);
}

}  // namespace

void draw_values(Case& c) {
  if (c.spec.dtype == DType::f16) return draw<Half>(c);
  if (c.spec.dtype == DType::bf16) return draw<BFloat16>(c);
  draw<float>(c);
}

}  // namespace flashladder::ladder
