#include "tests/gpu_mutants/mutant_rungs.hpp"

#include <algorithm>
#include <cstdlib>

#include "gpu/check.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/prefill/prefill.hpp"
#include "gpu/prefill/rotated_copy.hpp"
#include "ladder/gpu_adapters.hpp"
#include "tests/gpu_cases.hpp"

namespace flashladder::test {

using namespace ladder;

namespace {

bool of_decode(Cases cases) { return cases <= Cases::narrow; }
bool is_latent(Cases cases) { return cases == Cases::latent || cases == Cases::narrow_latent; }

// Up to 8 rows, as the mutants are compiled: tests/gpu_mutants/one_instance.cuh.
GpuPlanShape claimed_shape(const CaseSpec&) { return {{8, 2}, false}; }
GpuPlanShape queues_shape(const CaseSpec&) { return {{8, 2}, true}; }
GpuPlanShape few_queries_shape(const CaseSpec&) { return {{16, 2}, true}; }
GpuPlanShape clusters_shape(const CaseSpec& spec) {
  return {.grid = {8, 1}, .queues = true, .clusters = gpu::d7::clusters(spec.params.head_dim_qk)};
}
GpuPlanShape p1_shape(const CaseSpec& spec) { return {gpu::p1::grid(spec.params), false}; }
GpuPlanShape p4_shape(const CaseSpec&) { return {gpu::lower_prefill_grid, false}; }
GpuPlanShape p5_shape(const CaseSpec& spec) { return {gpu::p5::grid(spec.params), false}; }

}  // namespace

const std::vector<MutantRung>& mutant_rungs() {
  static const std::vector<MutantRung> all = [] {
    std::vector<MutantRung> list;
    const auto add = [&](std::span<const GpuMutant> mutants, Cases cases, PlanShapeOf shape, bool p_as_kv) {
      for (const GpuMutant& m : mutants) {
        if (m.kernels.latent) {
          Rung rung = planned_mla_on_gpu({.name = m.name, .grid = gpu::l4::grid(), .why_not = gpu::l4::why_not,
                                          .why_no_device = gpu::l4::why_no_device},
                                         m.kernels.latent);
          list.push_back({m.name, m.mistake, m.noticed_by, cases, std::move(rung)});
          continue;
        }
        GpuRung about{.name = m.name, .why_not = gpu::p1::why_not, .one_query = false, .p_as_kv = p_as_kv};
        if (cases == Cases::prefill_on_a_copy) {
          about.why_not_pages = gpu::p11::why_not_pages, about.compact = m.kernels.compact;
        }
        if (cases == Cases::rotated_prefill) about.rotate = m.kernels.compact;
        if (cases == Cases::general_prefill) about.rotate = gpu::rotated::copy;
        Rung rung = m.kernels.mixed ? mixed_on_gpu(about, m.kernels.mixed) : planned_on_gpu(about, shape, m.kernels.attend);
        list.push_back({m.name, m.mistake, m.noticed_by, cases, std::move(rung)});
      }
    };
    add(d5_mutants(), Cases::plain, claimed_shape, true);
    add(d6_mutants(), Cases::plain, queues_shape, true);
    add(d6_general_mutants(), Cases::general, queues_shape, true);
    add(d6_rotated_mutants(), Cases::rotated, queues_shape, true);
    add(d6_narrow_mutants(), Cases::narrow, queues_shape, true);
    add(d6_few_mutants(), Cases::few_queries, few_queries_shape, true);
    add(l4_mutants(), Cases::latent, nullptr, true);
    add(l4_narrow_mutants(), Cases::narrow_latent, nullptr, true);
    add(p1_mutants(), Cases::prefill, p1_shape, false);
    add(p4_mutants(), Cases::plain_prefill, p4_shape, true);
    add(p5_mutants(), Cases::plain_prefill, p5_shape, true);
    add(p5_general_mutants(), Cases::general_prefill, p5_shape, true);
#ifdef FLASHLADDER_HOPPER
    add(d7_mutants(), Cases::plain, clusters_shape, true);
    add(l5_mutants(), Cases::latent, nullptr, true);
    for (const auto of_rung : {p6_mutants, p7_mutants, p8_mutants, p9_mutants, p10_mutants,
                               p11_mutants, p12_mutants}) {
      add(of_rung(), Cases::prefill_in_boxes, p11_plan_shape, true);
    }
    add(p11_masked_mutants(), Cases::masked_prefill, p11_plan_shape, true);
    add(compact_mutants(), Cases::prefill_on_a_copy, p11_plan_shape, true);
    add(rotated_mutants(), Cases::rotated_prefill, p11_plan_shape, true);
#endif
    return list;
  }();
  return all;
}

namespace {

// With a custom mask, and nothing that is not Masked's.
CaseSpec as_masked_prefill(const CaseSpec& spec) {
  constexpr CustomMask masks[] = {CustomMask::holes, CustomMask::tree, CustomMask::random, CustomMask::empty_rows};
  const CustomMask given = spec.custom_mask;
  CaseSpec masked = in_boxes(as_plain_prefill(spec));
  masked.custom_mask = given == CustomMask::none ? masks[spec.seed % 4] : given;
  masked.params.mask = MaskMode::custom;
  return masked;
}

// As many queries a request as D6's tile of 16 rows has.
CaseSpec as_few_queries(const CaseSpec& spec) {
  CaseSpec few = as_plain_prefill(spec);
  AttentionParams& p = few.params;
  if (p.group_size() > 8) p.num_qo_heads = 4 * p.num_kv_heads;
  for (std::int32_t& len : few.qo_lens) len = std::min(len, gpu::d6::most_queries(p));
  few.name += " of few queries";
  return few;
}

}  // namespace

CaseSpec for_one_instance(CaseSpec spec, Cases cases) {
  if (cases == Cases::masked_prefill) return as_masked_prefill(spec);
  if (cases == Cases::few_queries) return as_few_queries(spec);
  if (is_latent(cases)) {
    spec.kv_dtype.reset(), spec.kv_scales = KvScaling::none;
    if (cases == Cases::narrow_latent) spec.kv_dtype = DType::f8_e4m3, spec.kv_scales = KvScaling::number;
    return as_latent(spec, DType::f16);
  }
  if (cases == Cases::plain_prefill) return as_plain_prefill(spec);
  if (cases == Cases::prefill_in_boxes) return in_boxes(as_plain_prefill(spec));
  if (cases == Cases::prefill_on_a_copy) {
    spec = as_plain_prefill(spec);
    if (spec.page_size % 8 == 0) spec.page_size = spec.page_size / 8 * 3;  // 3, 6, 12: 8, 16, 32
    if (spec.page_size % 8 == 0) ++spec.page_size;
    return spec;
  }
  if (cases == Cases::rotated_prefill) {
    spec = as_plain_prefill(spec);
    spec.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA;
    return decidable(spec);
  }
  if (cases == Cases::general_prefill) return as_prefill(spec, f16_and_128);
  if (cases == Cases::prefill) return in_one_dtype(spec, DType::f16);
  const bool plain = cases == Cases::plain || cases == Cases::narrow;
  const DType dtype = cases == Cases::narrow && spec.seed % 2 == 0 ? DType::bf16 : DType::f16;
  spec = plain ? as_plain_decode(spec, dtype) : as_decode(spec, dtype);
  if (cases == Cases::narrow) spec = on_fp8(spec, 2);
  spec.params.head_dim_qk = spec.params.head_dim_vo = 128;
  PosEncodingMode& mode = spec.params.pos_encoding_mode;
  if (cases == Cases::rotated) mode = PosEncodingMode::ROPE_LLAMA;
  if (cases == Cases::general && mode == PosEncodingMode::ROPE_LLAMA) mode = PosEncodingMode::ALIBI;
  return spec;
}

bool fits_one_instance(const CaseSpec& spec, Cases cases) {
  if (is_latent(cases)) return false;  // a plug-in is not told of latent attention
  const CaseSpec taken = for_one_instance(spec, cases);
  const AttentionParams &p = spec.params, &q = taken.params;
  return spec.cache_dtype() == taken.cache_dtype() && spec.dtype == taken.dtype && spec.kv_dtype == taken.kv_dtype &&
         spec.kv_scales == taken.kv_scales && spec.qo_lens == taken.qo_lens && spec.page_size == taken.page_size &&
         p.head_dim_qk == q.head_dim_qk && p.head_dim_vo == q.head_dim_vo && p.mask == q.mask &&
         p.pos_encoding_mode == q.pos_encoding_mode && p.logits_soft_cap == q.logits_soft_cap;
}

namespace {

// Partials enough that they are merged in groups, queues of several items, an empty request.
CaseSpec cut_often(Cases cases) {
  CaseSpec spec = for_one_instance(random_decode(1), cases);
  spec.name = "cut often";
  spec.page_size = cases == Cases::prefill_on_a_copy ? 5 : 16;
  spec.kv_lens = {2900, 33, 0, 300};
  spec.qo_lens = {1, 1, 1, 1};
  if (cases == Cases::few_queries) spec.qo_lens = {4, 3, 0, 2};
  else if (!of_decode(cases) && cases != Cases::prefill) spec.qo_lens = {40, 33, 2, 200};
  spec.params.num_qo_heads = 8;
  spec.params.num_kv_heads = 2;
  return spec;
}

// The same of latent attention. The rows of one request fill so many tiles that these are claimed; 20 heads do not divide a
// tile, so that it begins and ends within a query.
CaseSpec cut_often_latent(Cases cases) {
  CaseSpec spec = for_one_instance(mla_case_table().front(), cases);
  spec.name = "cut often";
  spec.page_size = 16;
  spec.kv_lens = {2900, 33, 0, 300};
  spec.qo_lens = {3, 1, 2, 40};
  spec.params.num_qo_heads = 20;
  spec.params.mask = MaskMode::causal;
  return spec;
}

std::vector<CaseSpec> specs_of_latents(Cases cases) {
  std::vector<CaseSpec> specs{cut_often_latent(cases)};
  for (std::uint64_t seed = 1; seed <= 24; ++seed) specs.push_back(for_one_instance(random_mla_spec(seed), cases));
  for (const CaseSpec& spec : mla_case_table()) specs.push_back(for_one_instance(spec, cases));
  return specs;
}

}  // namespace

std::vector<CaseSpec> specs_for(Cases kind) {
  if (is_latent(kind)) return specs_of_latents(kind);
  std::vector<CaseSpec> specs{cut_often(kind)};
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    const bool decode = of_decode(kind);
    const bool boxes = kind == Cases::prefill_in_boxes || kind == Cases::prefill_on_a_copy ||
                       kind == Cases::rotated_prefill || kind == Cases::masked_prefill;
    specs.push_back(for_one_instance(decode                        ? random_decode(seed)
                                     : kind == Cases::few_queries ? random_few_queries(seed)
                                     : boxes ? random_fast_prefill(seed) : random_spec(seed), kind));
  }
  for (const CaseSpec& spec : case_table()) specs.push_back(for_one_instance(spec, kind));
  return specs;
}

std::string why_no_mutants() {
  if (const std::string& reason = gpu::why_no_device(); !reason.empty()) return reason;
  int device = 0, major = 0;
  gpu::check(cudaGetDevice(&device));
  gpu::check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  if (std::atoi(FLASHLADDER_MUTANT_ARCH) / 10 == major) return "";
  return "the mutants are built for sm_" FLASHLADDER_MUTANT_ARCH " alone, which is not this GPU's architecture";
}

}  // namespace flashladder::test
