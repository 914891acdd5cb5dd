// The chain of family graph: RMSNorm, RoPE + append, decode, layer after layer, each layer on a cache of its own. A layer's
// output is the next one's input, so nothing overlaps but what programmatic dependent launch lets overlap.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench/gpu/api_decode.hpp"
#include "bench/gpu/device_rows.hpp"
#include "bench/gpu/families.hpp"
#include "bench/gpu/paged_pool.hpp"
#include "bench/gpu/rope_table.hpp"
#include "bench/sampled_check.hpp"
#include "gpu/append/append.hpp"
#include "gpu/check.hpp"
#include "gpu/norm/norm.hpp"
#include "reference/norm.hpp"
#include "reference/rope_ops.hpp"

namespace flashladder::bench {
namespace {

constexpr std::int32_t hidden = 4096, dim = PagedPool::head_dim, kv_width = PagedPool::width, least_layers = 8;
constexpr float eps = 1e-6f;

double bytes_of(const ChainCase& c) { return 2.0 * c.batch * c.kv_len * kv_width * 2; }
std::int32_t layers_of(const ChainCase& c) { return std::max(least_layers, rotation_for(bytes_of(c)).caches); }

std::vector<std::int32_t> counting(std::int32_t n) {
  std::vector<std::int32_t> all;
  for (std::int32_t i = 0; i < n; ++i) all.push_back(i);
  return all;
}

struct ChainRun {
  ChainCase c;
  std::int32_t layers;
  bool enable_pdl;
  PagedPool pool;
  gpu::DeviceBuffer x, weight, q, k, v, o, batch_indices;  // x [batch, 4096]; q, k, v and o [layers, batch, ...]
  RopeTable table;                                         // the new token's position: kv_len - 1
  ApiDecode decode;
  std::vector<Launch> attend;  // [layers]
  std::vector<std::int64_t> rows;
  std::vector<Half> checked;   // the last layer's o

  ChainRun(const ChainCase& c_, bool enable_pdl_, const GpuTimer& timer)
      : c(c_), layers(layers_of(c)), enable_pdl(enable_pdl_), pool(c.spec().kv_lens, layers, 1),
        x(random_halves(std::int64_t{c.batch} * hidden, 3)), weight(random_halves(hidden, 4)), q(layer_bytes(hidden)),
        k(random_halves(std::int64_t{layers} * c.batch * kv_width, 5)),
        v(random_halves(std::int64_t{layers} * c.batch * kv_width, 6)), o(layer_bytes(hidden)),
        batch_indices(to_device(counting(c.batch))),
        table(std::vector<std::int32_t>(static_cast<std::size_t>(c.batch), c.kv_len - 1)),
        decode(c.spec(), {.o_dtype = DType::f16, .enable_pdl = enable_pdl}), rows(sampled_rows(c.batch)) {
    decode.plan(timer.stream());
    q.poison();
    o.poison();
    for (std::int32_t l = 0; l < layers; ++l) {
      attend.push_back(decode.launch(heads(q, l, 32), pool.cache(l), pool.device_table().paged_kv_indices,
                                     {.o = heads(o, l, 32), .lse_log2 = {}}));
    }
  }

  std::size_t layer_bytes(std::int64_t width) const { return static_cast<std::size_t>(layers * c.batch * width) * 2; }
  std::byte* at(const gpu::DeviceBuffer& b, std::int32_t layer, std::int64_t width) const {
    return b.data() + layer * c.batch * width * 2;
  }
  Tensor heads(const gpu::DeviceBuffer& b, std::int32_t layer, std::int32_t count) const {
    return contiguous(at(b, layer, count * dim), DType::f16, {c.batch, count, dim});
  }
  std::byte* input(std::int32_t layer) const { return layer == 0 ? x.data() : at(o, layer - 1, hidden); }

  void launch(std::int32_t layer, void* stream) const {
    const auto s = static_cast<cudaStream_t>(stream);
    gpu::rmsnorm(contiguous(input(layer), DType::f16, {c.batch, hidden}), contiguous(weight.data(), DType::f16, {hidden}),
                 contiguous(at(q, layer, hidden), DType::f16, {c.batch, hidden}), eps, s, enable_pdl);
    gpu::rope_with_cos_sin_cache_append_paged_kv_cache(
        heads(q, layer, 32), heads(k, layer, 8), heads(v, layer, 8), table.device_cache(), true, span_of(batch_indices),
        table.device_positions(), pool.cache(layer), pool.device_table(), s, enable_pdl);
    attend[static_cast<std::size_t>(layer)](stream);
  }

  std::vector<Half> last_output() const {
    return HostRows(at(o, layers - 1, hidden), rows, hidden).values;
  }

  std::string check_query(std::int32_t layer) const;
  std::string check_append(std::int32_t layer) const;
  std::string check_decode(std::int32_t layer) const;

  // All layers once; then the first and the last, stage by stage, each on what the GPU itself gave it.
  std::string check(const GpuTimer& timer) {
    for (std::int32_t l = 0; l < layers; ++l) launch(l, timer.stream());
    timer.synchronise();
    for (const std::int32_t layer : {0, layers - 1}) {
      for (const auto stage : {&ChainRun::check_query, &ChainRun::check_append, &ChainRun::check_decode}) {
        const std::string wrong = (this->*stage)(layer);
        if (!wrong.empty()) return "layer " + std::to_string(layer) + ", " + wrong;
      }
    }
    checked = last_output();
    return "";
  }
};

// The norm may be a neighbouring f16, which the rotation carries into both numbers of its pair, of length at most theirs.
std::string ChainRun::check_query(std::int32_t layer) const {
  const std::int64_t one[] = {0};
  HostRows in(input(layer), rows, hidden), w(weight.data(), one, hidden), want = in;
  reference::rmsnorm(in.tensor(), contiguous(w.values.data(), DType::f16, {hidden}), want.tensor(), eps);
  std::vector<Half> unused(static_cast<std::size_t>(c.batch) * kv_width, Half(0.0f));
  reference::apply_rope_with_cos_sin_cache_inplace(table.positions_of(rows), want.heads(dim),
                                                   contiguous(unused.data(), DType::f16, {c.batch, 8, dim}),
                                                   table.host_cache(), true);
  const HostRows got(at(q, layer, hidden), rows, hidden);
  for (std::size_t i = 0; i < got.values.size(); ++i) {
    const std::size_t pair = i % dim < dim / 2 ? i + dim / 2 : i - dim / 2;
    const double a = static_cast<float>(want.values[i]), b = static_cast<float>(want.values[pair]);
    const double ulp = 2 * unit_roundoff(DType::f16), allowed = ulp * (std::abs(a) + std::sqrt(2.0) * std::hypot(a, b));
    if (!(std::abs(static_cast<float>(got.values[i]) - a) <= allowed + 0x1p-23)) return "q at " + std::to_string(i);
  }
  return "";
}

std::string ChainRun::check_append(std::int32_t layer) const {
  HostRows want_k(at(k, layer, kv_width), rows, kv_width);
  const HostRows want_v(at(v, layer, kv_width), rows, kv_width);
  std::vector<Half> unused(static_cast<std::size_t>(c.batch) * hidden, Half(0.0f));
  reference::apply_rope_with_cos_sin_cache_inplace(table.positions_of(rows),
                                                   contiguous(unused.data(), DType::f16, {c.batch, 32, dim}),
                                                   want_k.heads(dim), table.host_cache(), true);
  std::vector<std::int64_t> keys, values;
  for (std::int32_t b = 0; b < c.batch; ++b) {
    keys.push_back(pool.row_of(b, c.kv_len - 1, 0));
    values.push_back(pool.row_of(b, c.kv_len - 1, 1));
  }
  std::string wrong = same_rows("value", {pool.bytes(layer), values, kv_width}, want_v, rows);
  return wrong.empty() ? compare_rows("key", {pool.bytes(layer), keys, kv_width}, want_k, rows, RopeTable::slack) : wrong;
}

// Against the double oracle on the q and the cache that the GPU holds; o was rounded to f16 beside.
std::string ChainRun::check_decode(std::int32_t layer) const {
  ladder::Case given;
  given.spec = c.spec();
  pool.download(layer, given);
  given.q = ladder::OwnedTensor(DType::f16, {c.batch, 32, dim});
  const HostRows queries(at(q, layer, hidden), rows, hidden), got(at(o, layer, hidden), rows, hidden);
  std::memcpy(given.q.view().data, queries.values.data(), queries.values.size() * sizeof(Half));
  given.qo_indptr = counting(c.batch + 1);
  const SampledOracle sample = sampled_oracle(given, DType::f16, 1e9);
  for (std::size_t i = 0; i < got.values.size(); ++i) {
    const auto b = static_cast<std::int32_t>(i / hidden), head = static_cast<std::int32_t>(i % hidden / dim);
    if (!sample.in_sample(b, head)) continue;
    const double want = sample.oracle.o[i];
    const double allowed = sample.oracle.tolerance[i / dim].o + unit_roundoff(DType::f16) * std::abs(want) + 0x1p-25;
    if (!(std::abs(static_cast<float>(got.values[i]) - want) <= allowed)) return "o at " + std::to_string(i);
  }
  return "";
}

}  // namespace

std::vector<TimedWork> chain_works(const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const ChainCase& c : chain_cases()) {
    for (const bool enable_pdl : {false, true}) {
      say("preparing " + c.name());
      const auto run = std::make_shared<ChainRun>(c, enable_pdl, *timer);
      const std::string failure = run->check(*timer);
      std::vector<Launch> launches;
      for (std::int32_t i = 0; i < run->layers * std::max(1, 20 / run->layers); ++i) {
        launches.push_back([=](void* stream) { run->launch(i % run->layers, stream); });
      }
      const auto graph = std::make_shared<CapturedGraph>(launches, timer->stream());
      works.push_back({.line = {.family = name_of(Family::graph), .work = c.name(),
                                .backend = enable_pdl ? "flashladder pdl" : "flashladder"},
                       .bytes = bytes_of(c), .floor = Floor::none,
                       .checked = "first and last of " + std::to_string(run->layers) + " layers equal the CPU references",
                       .failure = failure, .time_us = [=] { return timer->graph_us(*graph); },
                       .recheck = [=]() -> std::string {
                         const std::vector<Half> now = run->last_output();
                         const bool same = std::memcmp(now.data(), run->checked.data(), now.size() * sizeof(Half)) == 0;
                         return same ? "" : "other bits than in the run that was checked";
                       }});
    }
  }
  return works;
}

}  // namespace flashladder::bench
