// What the planner is told of each kernel: tiles, queues or claims, CTAs and costs. gpu_call.cpp says which kernel it is.
#include "api/gpu_call.hpp"

#include <algorithm>

#include "gpu/attention/needs_general.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/prefill/mixed_cost.hpp"
#include "gpu/prefill/one_wave.hpp"
#include "gpu/prefill/prefill.hpp"

namespace flashladder::api {
namespace {

gpu::p12::MixedWork mixed_work(const AttentionParams& params, const BatchSize& size) {
  return {size.decode_keys * params.num_kv_heads, size.prefill_pairs * params.num_qo_heads};
}

}  // namespace

bool GpuChoice::takes_mixed(const AttentionParams& params, const BatchSize& size, const BackendKind& kind) const {
  if (!p12_for_mixed) return false;
  return kind.for_graphs ? kind.mixed : gpu::p12::pays(mixed_work(params, size));
}

// Measured with 16-bit caches and head_dim 128 alone. A window would leave less of the keys than their lengths say.
bool GpuChoice::in_one_wave(const AttentionConfig& config, const BatchSize& size, std::int32_t num_sms,
                            bool for_graphs) const {
  const AttentionParams params = config.params();
  const bool may = kernel == GpuKernel::p11 && copies == PageCopies::never && !for_graphs && !size.of_limits &&
                   config.execution.policy == SplitPolicy::balanced && params.head_dim_qk == 128 && params.window_left < 0;
  if (!may || !size.most_kv_len || size.most_qo_len < 2 || size.prefill_requests < size.with_queries()) return false;
  const std::int64_t heads = params.num_kv_heads;
  return gpu::p11::one_wave({.tiles = size.prefill_requests * heads,
                             .rows = static_cast<std::int32_t>(size.most_qo_len) * params.group_size(),
                             .most_keys = *size.most_kv_len, .keys = size.prefill_keys * heads}, num_sms);
}

namespace {

// D6, or D7 with as many clusters as pay.
AttentionMachine decode_machine(const AttentionParams& params, const BatchSize& size, const GpuRoom& room) {
  const std::int32_t head_dim = params.head_dim_qk;
  const gpu::RungGrid grid = gpu::d6::grid(head_dim, gpu::needs_general(params));
  AttentionMachine m{.shape = {.num_sms = room.num_sms, .ctas_per_sm = grid.ctas_per_sm},
                     .most_decode_rows = grid.query_tile, .prefill_rows = grid.query_tile};
  m.decode_queries = std::max(1, static_cast<std::int32_t>(size.most_qo_len));
  const std::int32_t dim = gpu::cost_dim(head_dim, room.kv_dtype);
  m.cost = {.per_item = gpu::d6::keys_per_item(dim), .per_many = gpu::d6::keys_per_grouped_item(dim)};
  const std::int32_t rows = m.query_tile(true, params.group_size());
  if (!size.most_kv_len || m.decode_queries > 1) return m;  // clusters take one query
  const std::int64_t tiles = size.with_queries() * params.num_kv_heads * div_up(params.group_size(), rows);
  const std::int64_t seen = params.window_left < 0 ? *size.most_kv_len : std::int64_t{params.window_left} + 1;
  m.clusters = gpu::d7::worth_clusters({tiles, std::min(*size.most_kv_len, seen), rows, dim}, room.clusters);
  if (m.clusters > 0) {
    m.shape = {.num_sms = m.clusters, .ctas_per_sm = 1};
    m.cost = {.per_item = gpu::d7::keys_per_item(dim)};
  }
  return m;
}

// P12: P11's tiles for the requests of many queries, D6's for those of one, in queues of the CTAs that decode first.
AttentionMachine mixed_machine(const AttentionParams& params, const BatchSize& size, const GpuRoom& room) {
  const gpu::p12::MixedWork work = mixed_work(params, size);
  const std::int32_t pack = size.of_limits ? gpu::p11::pack(params, size.nnz_qo, size.batch)
                                           : gpu::p11::pack(params, size.prefill_queries, size.prefill_requests);
  const gpu::RungGrid grid = gpu::p11::grid(params, pack);
  AttentionMachine m{.shape = {.num_sms = room.num_sms, .ctas_per_sm = grid.ctas_per_sm}, .prefill_rows = grid.query_tile,
                     .pack = pack, .claimed = true, .enough_tiles = 1};
  const std::int32_t group = params.group_size(), head_dim = params.head_dim_qk;
  const bool known = work.decode_keys + work.prefill_pairs > 0;  // else: of any batch within the limits
  const std::int32_t ctas = known ? gpu::p12::decode_ctas(room.num_sms, work) : room.num_sms;
  m.decode_tile = div_up(group, div_up(group, gpu::MixedShape::decode_rows));
  m.decode_queues = ctas * gpu::MixedShape::queues_per_cta;
  m.queue_room = (size.of_limits ? room.num_sms : ctas) * gpu::MixedShape::queues_per_cta;
  m.decode_cost = {.per_item = gpu::d6::keys_per_item(head_dim), .per_many = gpu::d6::keys_per_grouped_item(head_dim)};
  return m;
}

// L4 or L5.
AttentionMachine latent_machine(const AttentionParams& params, const BatchSize& size, const GpuRoom& room) {
  constexpr gpu::RungGrid grid = gpu::l5::grid();
  static_assert(gpu::l4::grid().query_tile == grid.query_tile && gpu::l4::grid().ctas_per_sm == grid.ctas_per_sm);
  AttentionMachine m{.shape = {.num_sms = room.num_sms, .ctas_per_sm = grid.ctas_per_sm},
                     .most_decode_rows = grid.query_tile, .prefill_rows = grid.query_tile};
  const std::int64_t heads = params.num_qo_heads;
  const bool share_keys = std::max<std::int64_t>(size.most_qo_len, 1) * heads > grid.query_tile;
  const std::int64_t tiles = std::max(div_up<std::int64_t>(size.nnz_qo * heads, grid.query_tile), size.with_queries());
  // One query a request: a plan that may be made on the device, which makes queues.
  const bool decode = size.nnz_qo == 0 && !size.of_limits;
  m.claimed = !decode && gpu::l5::claims(share_keys, tiles, m.shape.num_ctas());
  if (m.claimed) m.enough_tiles = 1;
  else m.cost = {.per_item = gpu::l5::keys_per_item};
  return m;
}

}  // namespace

AttentionMachine gpu_machine(GpuKernel kernel, const AttentionParams& params, const BatchSize& size, const GpuRoom& room) {
  const auto machine = [&room](const gpu::RungGrid& grid) {
    return AttentionMachine{.shape = {.num_sms = room.num_sms, .ctas_per_sm = grid.ctas_per_sm},
                            .most_decode_rows = grid.query_tile, .prefill_rows = grid.query_tile};
  };
  if (kernel == GpuKernel::l4 || kernel == GpuKernel::l5) return latent_machine(params, size, room);
  if (kernel == GpuKernel::p12) return mixed_machine(params, size, room);
  if (kernel == GpuKernel::p11) {
    const std::int32_t pack = gpu::p11::pack(params, size.nnz_qo, size.batch);
    AttentionMachine m = machine(gpu::p11::grid(params, pack));
    m.pack = pack, m.claimed = true, m.enough_tiles = 4;
    return m;
  }
  if (kernel == GpuKernel::p1 || kernel == GpuKernel::p5) {
    AttentionMachine m = machine(kernel == GpuKernel::p1 ? gpu::p1::grid(params) : gpu::p5::grid(params));
    m.claimed = true, m.enough_tiles = 4;
    return m;
  }
  return decode_machine(params, size, room);
}

}  // namespace flashladder::api
