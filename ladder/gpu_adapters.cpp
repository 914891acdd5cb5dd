#include "ladder/gpu_adapters.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "core/error.hpp"
#include "gpu/attention/needs_general.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/device.hpp"
#include "gpu/device_buffer.hpp"
#include "gpu/prefill/prefill.hpp"
#include "ladder/mask_step.hpp"
#include "planner/planner.hpp"

namespace flashladder::ladder {
namespace {

using gpu::AttentionCall;
using gpu::DeviceBuffer;

// Is the cache copied into q's dtype first? Not with RoPE inside attention, whose copy is of 16-bit caches.
bool widens(const GpuRung& about, const CaseSpec& spec) {
  return about.widen != nullptr && spec.cache_dtype() == DType::f8_e4m3 && spec.dtype != DType::f32 &&
         spec.params.pos_encoding_mode != PosEncodingMode::ROPE_LLAMA;
}

Support supports(const GpuRung& about, const CaseSpec& spec) {
  const std::int32_t most = about.most_queries != nullptr ? about.most_queries(spec.params) : 1;
  for (std::int32_t b = 0; about.one_query && b < spec.batch(); ++b) {
    const std::int32_t len = spec.qo_lens[b];
    if (len > most || (len == 0 && most == 1)) {
      return {"request " + std::to_string(b) + " has " + std::to_string(len) + " queries, this decode rung takes " +
              (most == 1 ? "one of each" : "up to " + std::to_string(most))};
    }
  }
  const gpu::AttentionDTypes dtypes{.q = spec.dtype, .kv = widens(about, spec) ? spec.dtype : spec.cache_dtype(),
                                    .k_per_head = spec.kv_scales == KvScaling::per_head};
  std::string reason = about.why_not(about.rotate != nullptr ? gpu::behind_rotation(spec.params) : spec.params, dtypes);
  if (reason.empty() && about.why_not_pages != nullptr && about.compact == nullptr) {
    reason = about.why_not_pages(spec.page_size);
  }
  return {reason.empty() ? about.why_no_device() : "this rung does not compute " + reason};
}

}  // namespace

Rung gpu_rung(const GpuRung& about) {
  return {.name = about.name, .idea = about.idea, .teaches = about.teaches, .device = Device::gpu,
          .must_equal = about.must_equal, .longest_chain = about.longest_chain, .p_as_kv = about.p_as_kv,
          .one_query = about.one_query,
          .supports = [about](const CaseSpec& spec) { return supports(about, spec); },
          .workspace_bytes = [](const CaseSpec&, const Settings&) { return std::size_t{0}; }, .prepare = {}};
}

namespace {

Rung direct_on_gpu(const GpuRung& about, void (*attend)(const AttentionCall&, cudaStream_t)) {
  Rung rung = gpu_rung(about);
  rung.workspace_bytes = [](const CaseSpec& spec, const Settings&) { return bytes_with_mask(0, spec); };
  rung.prepare = [attend](const Buffers& buffers, const CaseSpec& spec, const Settings&) -> Runner {
    return [attend, mask = MaskStep(buffers, spec, 0),
            call = gpu::attention_call(buffers.problem, buffers.output)](void* stream_) {
      const auto stream = static_cast<cudaStream_t>(stream_);
      attend(mask(call, stream), stream);
    };
  };
  return rung;
}

// What is copied first, behind the partials in the workspace, and who copies; none where all is read in place.
struct Copied {
  gpu::CompactedShape shape;
  gpu::CompactPages copy;
};
std::optional<Copied> copied(const GpuRung& about, const CaseSpec& spec) {
  const gpu::CompactedShape shape{spec.batch(), spec.total_kv()};
  if (about.rotate != nullptr && spec.params.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) {
    return Copied{{shape.requests, shape.tokens, spec.nnz_qo()}, about.rotate};
  }
  if (widens(about, spec)) return Copied{shape, about.widen};
  if (about.compact == nullptr || about.why_not_pages(spec.page_size).empty()) return {};
  return Copied{shape, about.compact};
}

// The chunk (0: none) with the smallest predicted makespan when blocks take the items in order, merging included.
std::int32_t quickest_chunk(planner::PlanInputs inputs) {
  constexpr float keys_per_partial = 18;  // what a partial costs the merge, in key-equivalents: fitted, docs/measurements
  std::int32_t best = 0;
  float least = 0;
  for (const std::int32_t chunk : {0, 4096, 2048, 1024, 512, 256, 128}) {
    inputs.policy = chunk == 0 ? planner::SplitPolicy::none : planner::SplitPolicy::fixed;
    inputs.chunk_size = chunk;
    const Plan plan = planner::make_plan(inputs);
    std::int32_t partials = 0;
    for (const PlanPart& part : plan.parts) {
      for (const Merge& m : part.merges) partials = std::max(partials, m.num_partials);
    }
    const float cost = plan.makespan + keys_per_partial * static_cast<float>(partials);
    if (chunk == 0 || cost < least) best = chunk, least = cost;
  }
  return best;
}

GpuPlanShape lane_groups_plan_shape(const CaseSpec& spec) {
  return {gpu::lane_groups_grid(spec.params.group_size()), false};
}
GpuPlanShape p1_plan_shape(const CaseSpec& spec) { return {gpu::p1::grid(spec.params), false}; }
GpuPlanShape lower_prefill_plan_shape(const CaseSpec&) { return {gpu::lower_prefill_grid, false}; }
GpuPlanShape p5_plan_shape(const CaseSpec& spec) { return {gpu::p5::grid(gpu::behind_rotation(spec.params)), false}; }

void d6_attend(const AttentionCall& call, const gpu::PackedShape& shape, std::byte* packed, void* partials,
               cudaStream_t stream) {
  gpu::d6::attend(call, shape, packed, partials, stream);
}

}  // namespace

GpuPlanShape d5_plan_shape(const CaseSpec& spec) { return {gpu::d5::grid(spec.params.head_dim_qk), false}; }
GpuPlanShape d6_plan_shape(const CaseSpec& spec) {
  return {gpu::d6::grid(spec.params.head_dim_qk, gpu::needs_general(spec.params)), true};
}
GpuPlanShape d7_plan_shape(const CaseSpec& spec) {
  const std::int32_t head_dim = spec.params.head_dim_qk;
  const std::int32_t rows = gpu::d7::query_tile(head_dim, gpu::needs_general(spec.params));
  const std::int32_t group = spec.params.group_size(), row_tiles = div_up(group, rows);
  const std::int32_t resident = gpu::d7::clusters(head_dim);
  const std::int32_t most_keys = spec.kv_lens.empty() ? 0 : std::ranges::max(spec.kv_lens);
  const gpu::d7::BatchShape batch{.tiles = std::int64_t{spec.batch()} * spec.params.num_kv_heads * row_tiles,
                                  .most_keys = most_keys, .rows = div_up(group, row_tiles),
                                  .head_dim = gpu::cost_dim(head_dim, spec.cache_dtype())};
  const std::int32_t paying = gpu::d7::expected_times(batch, resident).clusters;  // 0: more tiles than clusters
  return {.grid = {rows, 1}, .queues = true, .clusters = paying > 0 ? paying : resident};
}
GpuPlanShape p11_plan_shape(const CaseSpec& spec) {
  const std::int32_t pack = gpu::p11::pack(spec.params, spec.nnz_qo(), spec.batch());
  return {gpu::p11::grid(spec.params, pack), false, pack};
}

planner::CostModel d6_cost(std::int32_t head_dim) {
  return {.per_item = gpu::d6::keys_per_item(head_dim), .per_many = gpu::d6::keys_per_grouped_item(head_dim)};
}

namespace {

planner::CostModel d7_cost(std::int32_t head_dim) { return {.per_item = gpu::d7::keys_per_item(head_dim)}; }

// For fewer SMs, as many of the clusters.
planner::MachineShape machine_of(const Settings& settings, const GpuPlanShape& shape) {
  const std::int32_t all = gpu::multiprocessors(), sms = settings.num_sms > 0 ? settings.num_sms : all;
  if (shape.clusters > 0) return {.num_sms = std::max(1, shape.clusters * std::min(sms, all) / all), .ctas_per_sm = 1};
  return {.num_sms = sms, .ctas_per_sm = shape.grid.ctas_per_sm};
}

gpu::PackedShape packed_shape(const Plan& plan, const GpuPlanShape& of_rung) {
  gpu::PackedShape shape = gpu::shape_of(plan);
  if (of_rung.clusters > 0) shape.counters = shape.query_tile;
  return shape;
}

}  // namespace

planner::PlanInputs gpu_plan_inputs(const CaseSpec& spec, const Settings& settings, const GpuPlanShape& shape) {
  const AttentionParams& p = spec.params;
  const bool decode = std::all_of(spec.qo_lens.begin(), spec.qo_lens.end(), [](std::int32_t len) { return len == 1; });
  const std::int32_t most = shape.grid.query_tile, rows = shape.pack > 0 ? shape.pack : p.group_size();  // of a query
  planner::PlanInputs inputs{.kv_lens = spec.kv_lens, .num_qo_heads = p.num_qo_heads, .num_kv_heads = p.num_kv_heads,
                             .head_dim_qk = p.head_dim_qk, .head_dim_vo = p.head_dim_vo, .page_size = spec.page_size,
                             .mask = p.mask, .window_left = p.window_left,
                             .query_tile = decode ? div_up(rows, div_up(rows, most)) : most, .pack = shape.pack,
                             .policy = settings.policy, .chunk_size = settings.chunk_size,
                             .machine = machine_of(settings, shape)};
  if (!decode) inputs.qo_lens = spec.qo_lens;
  inputs.claimed = !shape.queues;
  const std::int32_t dim = gpu::cost_dim(p.head_dim_qk, spec.cache_dtype());
  if (shape.queues) inputs.cost = shape.clusters > 0 ? d7_cost(dim) : d6_cost(dim);
  if (settings.policy == planner::SplitPolicy::balanced && !shape.queues) {
    inputs.chunk_size = quickest_chunk(inputs);
    inputs.policy = inputs.chunk_size == 0 ? planner::SplitPolicy::none : planner::SplitPolicy::fixed;
  }
  return inputs;
}

Rung planned_on_gpu(const GpuRung& about, PlanShapeOf shape_of_rung, PlannedAttend attend) {
  Rung rung = gpu_rung(about);
  const auto make_plan = [shape_of_rung](const CaseSpec& spec, const Settings& settings) {
    return planner::make_plan(gpu_plan_inputs(spec, settings, shape_of_rung(spec)));
  };
  const auto copy_at = [](const gpu::PackedShape& shape, const CaseSpec& spec) {
    return (gpu::partial_bytes(shape, spec.params.head_dim_vo) + 15) / 16 * 16;
  };
  const auto bytes_without_mask = [=](const gpu::PackedShape& shape, const CaseSpec& spec) {
    const auto copy = copied(about, spec);
    return copy ? copy_at(shape, spec) + gpu::compacted_bytes(copy->shape, spec.params, spec.dtype)
                : gpu::partial_bytes(shape, spec.params.head_dim_vo);
  };
  rung.workspace_bytes = [=](const CaseSpec& spec, const Settings& settings) {
    const gpu::PackedShape shape = packed_shape(make_plan(spec, settings), shape_of_rung(spec));
    return bytes_with_mask(bytes_without_mask(shape, spec), spec);
  };
  rung.prepare = [=, attend = std::move(attend)](const Buffers& buffers, const CaseSpec& spec,
                                                 const Settings& settings) -> Runner {
    const Plan plan = make_plan(spec, settings);
    const gpu::PackedShape shape = packed_shape(plan, shape_of_rung(spec));
    const gpu::PageRows pages{spec.page_size, buffers.problem.max_pages()};
    const auto copy = copied(about, spec);
    const std::size_t list_at = gpu::packed_bytes(shape);
    std::vector<std::byte> packed(list_at + (copy ? gpu::compaction_list_bytes(copy->shape) : 0));
    gpu::pack(plan, copy ? gpu::PageRows{} : pages, shape, packed);
    if (copy) gpu::pack_compaction(plan, spec.params, pages, copy->shape, std::span(packed).subspan(list_at));
    const auto on_device = std::make_shared<const DeviceBuffer>(packed.data(), packed.size());
    const gpu::Compaction to{copy ? copy->shape : gpu::CompactedShape{}, on_device->data() + list_at,
                             buffers.workspace.data() + copy_at(shape, spec), shape.num_ctas};
    return [attend, on_device, shape, to, compact = copy ? copy->copy : nullptr,
            mask = MaskStep(buffers, spec, bytes_without_mask(shape, spec)),
            call = gpu::attention_call(buffers.problem, buffers.output),
            workspace = buffers.workspace.data()](void* stream_) {
      const auto stream = static_cast<cudaStream_t>(stream_);
      const AttentionCall masked_call = mask(call, stream);
      attend(compact ? compact(masked_call, to, stream) : masked_call, shape, on_device->data(), workspace, stream);
    };
  };
  return rung;
}

namespace {

// What D7 wants beyond Hopper: room for a cluster, which a part of a GPU may not have.
const std::string& why_no_clusters() {
  if (!gpu::why_no_hopper().empty()) return gpu::why_no_hopper();
  static const std::string reason = gpu::d7::clusters(128) > 0 ? "" : "this GPU has no room for a cluster of " +
                                    std::to_string(gpu::d7::ctas) + " CTAs";  // the driver is asked once
  return reason;
}

// P6 to P10: alike in all but their idea.
Rung hopper_rung(const char* name, const char* idea, const char* teaches, const char* must_equal, PlannedAttend attend) {
  return planned_on_gpu({.name = name, .idea = idea, .teaches = teaches, .must_equal = must_equal,
                         .why_not = gpu::why_not_lower_prefill, .why_not_pages = gpu::p11::why_not_pages,
                         .why_no_device = gpu::why_no_hopper, .one_query = false, .p_as_kv = true},
                        p11_plan_shape, std::move(attend));
}

}  // namespace

std::vector<Rung> gpu_rungs() {
  const auto lower = gpu::why_not_lower_rungs, prefill = gpu::why_not_lower_prefill;
  return {
      direct_on_gpu({.name = "D1", .idea = "GPU decode: one block a query head, scalar loads", .teaches = "06",
                     .must_equal = "C4", .why_not = gpu::d1::why_not, .longest_chain = gpu::d1::key_tile}, gpu::d1::attend),
      direct_on_gpu({"D2", "16-byte loads, lane groups, K and V once for a group of heads", "06", "D1", lower},
                    gpu::d2::attend),
      planned_on_gpu({"D3", "split-K over a plan, merge kernel", "07", "D2", lower}, lane_groups_plan_shape,
                     gpu::d3::attend),
      planned_on_gpu({"D4", "cp.async pipeline, page ids fetched ahead", "07", "D3", lower}, lane_groups_plan_shape,
                     gpu::d4::attend),
      planned_on_gpu({.name = "D5", .idea = "tensor cores: tokens are M, heads are N", .teaches = "08", .must_equal = "D4",
                      .why_not = lower, .p_as_kv = true}, d5_plan_shape, gpu::d5::attend),
      planned_on_gpu({.name = "D6", .idea = "persistent CTAs run a balanced plan's queues, the last one merges",
                      .teaches = "09", .must_equal = "D5", .why_not = gpu::d6::why_not,
                      .most_queries = gpu::d6::most_queries, .p_as_kv = true},
                     d6_plan_shape, d6_attend),
      planned_on_gpu({.name = "D7", .idea = "clusters of CTAs share a tile and meet in shared memory", .teaches = "15",
                      .must_equal = "D6", .why_not = gpu::d6::why_not, .why_no_device = why_no_clusters, .p_as_kv = true},
                     d7_plan_shape, gpu::d7::attend),
      planned_on_gpu({.name = "P1", .idea = "GPU prefill: one thread a row, work is claimed", .teaches = "10",
                      .must_equal = "C4", .why_not = gpu::p1::why_not, .one_query = false},
                     p1_plan_shape, gpu::p1::attend),
      planned_on_gpu({.name = "P2", .idea = "tiles in shared memory, online softmax", .teaches = "11", .must_equal = "P1",
                      .why_not = prefill, .one_query = false}, lower_prefill_plan_shape, gpu::p2::attend),
      planned_on_gpu({.name = "P3", .idea = "tensor cores; scores stay in registers", .teaches = "11", .must_equal = "P2",
                      .why_not = prefill, .one_query = false, .p_as_kv = true}, lower_prefill_plan_shape, gpu::p3::attend),
      planned_on_gpu({.name = "P4", .idea = "swizzled tiles and ldmatrix: no bank conflicts", .teaches = "12",
                      .must_equal = "P3", .why_not = prefill, .one_query = false, .p_as_kv = true},
                     lower_prefill_plan_shape, gpu::p4::attend),
      planned_on_gpu({.name = "P5", .idea = "copies under way while tensor cores compute: FlashAttention-2's class",
                      .teaches = "12", .must_equal = "P4", .why_not = gpu::p5::why_not, .rotate = gpu::rotated::copy,
                      .widen = gpu::p11::compact_pages, .one_query = false, .p_as_kv = true},
                     p5_plan_shape, gpu::p5::attend),
      hopper_rung("P6", "Hopper: pages arrive as boxes (TMA), wgmma reads them from shared memory", "14", "P5",
                  gpu::p6::attend),
      hopper_rung("P7", "a warp that only copies, two warp groups that only compute", "14", "P6", gpu::p7::attend),
      hopper_rung("P8", "exponents during products: within a warp group, and by turns of two", "14", "P7", gpu::p8::attend),
      hopper_rung("P9", "CTAs stay and claim: the next work arrives while one is computed", "14", "P8", gpu::p9::attend),
      hopper_rung("P10", "a stale softmax reference with redo, no running maximum", "13", "P9", gpu::p10::attend),
      planned_on_gpu({.name = "P11", .idea = "Q in registers, P in halves, all features: FlashAttention-3's class",
                      .teaches = "13", .must_equal = "P10", .why_not = gpu::p11::why_not,
                      .why_not_pages = gpu::p11::why_not_pages, .compact = gpu::p11::compact_pages,
                      .rotate = gpu::rotated::copy, .widen = gpu::p11::compact_pages,
                      .why_no_device = gpu::why_no_hopper, .one_query = false, .p_as_kv = true},
                     p11_plan_shape, gpu::p11::attend),
      mixed_on_gpu({.name = "P12", .idea = "mixed batches: some CTAs decode first, the others prefill meanwhile",
                    .teaches = "18", .must_equal = "P11", .why_not = gpu::p12::why_not,
                    .why_not_pages = gpu::p11::why_not_pages, .why_no_device = gpu::why_no_hopper, .one_query = false,
                    .p_as_kv = true}, gpu::p12::attend),
  };
}

}  // namespace flashladder::ladder
