// What the public classes refuse, and with which sentence: the config, the memory, plan(), run(), a graph's limits.
#include <doctest/doctest.h>

#include <limits>

#include "api/flashladder.hpp"
#include "tests/count_allocations.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using flashladder::test::refusal;

namespace {

// Three requests of 7, 0 and 2 tokens over 5 pages of 4; 6 query heads on 2 KV heads of 8 features. The vectors have room to
// spare, so that a case may take a longer span of them.
struct Valid {
  AttentionConfig config{.heads = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 8},
                         .cache = {.page_size = 4, .dtype = DType::f32}, .execution = {.threads = 1}};
  std::vector<float> q = std::vector<float>(4 * 6 * 8), k = std::vector<float>(5 * 4 * 2 * 8), v = k;
  std::vector<float> o = q, lse = std::vector<float>(4 * 6), sink_values = std::vector<float>(7);
  std::vector<std::int32_t> indptr{0, 2, 2, 3}, last{3, 0, 2}, indices{4, 1, 0, 2};
  Tensor q_tensor = contiguous(q.data(), DType::f32, {3, 6, 8}), o_tensor = contiguous(o.data(), DType::f32, {3, 6, 8});
  PagedKvCache kv = paged_kv_cache(contiguous(k.data(), DType::f32, {5, 4, 2, 8}),
                                   contiguous(v.data(), DType::f32, {5, 4, 2, 8}), KvLayout::NHD);
  std::span<float> lse_log2 = std::span(lse).first(18);
  std::span<const float> sinks{};
  std::span<const std::int32_t> page_ids = indices;
  std::size_t missing_bytes = 0;

  void plan_and_run() {
    const auto bytes = BatchDecodeWithPagedKVCache::workspace_bytes(config, indptr, last);
    std::vector<std::byte> memory(bytes.device - missing_bytes);
    BatchDecodeWithPagedKVCache decode(config, {.device = memory});
    decode.plan(indptr, last);
    decode.run(q_tensor, kv, page_ids, {o_tensor, lse_log2}, nullptr, sinks);
  }
};

struct Refusal {
  void (*breaks)(Valid&);
  std::string sentence;
};

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

const Refusal refusals[] = {
    {[](Valid& c) { c.config.heads.num_qo_heads = 0; }, "num_qo_heads = 0: must be 1 .. 16384"},
    {[](Valid& c) { c.config.heads.num_kv_heads = 4; }, "num_qo_heads = 6: must be a multiple of num_kv_heads (4)"},
    {[](Valid& c) { c.config.heads.head_dim_qk = 0; }, "head_dim_qk = 0: must be 1 .. 16384"},
    {[](Valid& c) { c.config.cache.page_size = 0; }, "page_size = 0: must be at least 1"},
    {[](Valid& c) { c.config.cache.dtype = DType::u8; }, "dtype = u8: must be f32, f16, bf16, f8_e4m3 or f8_e5m2"},
    {[](Valid& c) { c.config.o_dtype = DType::f16; }, "o_dtype = f16: must be f32 or q's dtype (f32)"},
    {[](Valid& c) { c.config.logits.sm_scale = 0.0f; }, "sm_scale = 0: must be finite and greater than 0"},
    {[](Valid& c) { c.config.logits.logits_soft_cap = nan; },
     "logits_soft_cap = nan: must be finite and greater than 0, or 0 for no cap"},
    {[](Valid& c) { c.config.logits.window_left = -2; }, "window_left = -2: must be at least 0, or -1 for no window"},
    {[](Valid& c) { c.config.execution.threads = -1; }, "threads = -1: must be 1 .. 4096, or 0 for all"},
    {[](Valid& c) { c.config.execution.num_sms = -1; }, "num_sms = -1: must be at least 1, or 0 for all"},
    {[](Valid& c) { c.config.execution.backend = api::Backend::fa3; },
     "backend = fa3: is a kernel of the GPU, and the device is cpu"},
    {[](Valid& c) { c.config.execution.device = static_cast<Device>(7); }, "device = 7: must be cpu or gpu"},
    {[](Valid& c) { c.config.execution.policy = SplitPolicy::fixed; },
     "chunk_size = 0: must be a positive multiple of 64, since policy is fixed"},

    {[](Valid& c) { c.indptr[0] = 1; }, "paged_kv_indptr[0] = 1: must be the start (0)"},
    {[](Valid& c) { c.indptr[2] = 1; },
     "paged_kv_indptr[2] = 1 (request 1): must not be less than the entry before it (2)"},
    {[](Valid& c) { c.indptr.pop_back(); },
     "paged_kv_indptr size = 3: must be batch + 1, batch being the size of paged_kv_last_page_len (4)"},
    {[](Valid& c) { c.last[2] = 5; }, "paged_kv_last_page_len[2] = 5 (request 2): must be 1 .. page_size (4)"},
    {[](Valid& c) { c.last[1] = 1; }, "paged_kv_last_page_len[1] = 1 (request 1): must be 0 for a request without pages"},
    {[](Valid& c) { c.config.cache.dtype = DType::f16, c.missing_bytes = 1; }, "must be at least "},

    {[](Valid& c) { c.q_tensor.rank = 2; }, "q rank = 2: must be 3: [nnz_qo, num_qo_heads, head_dim_qk]"},
    {[](Valid& c) { c.q_tensor.dtype = DType::f16; }, "q dtype = f16: must be that of the config (f32)"},
    {[](Valid& c) { c.q_tensor.shape[0] = 2; },
     "q shape[0] = 2: must be the number of requests that were planned (3)"},
    {[](Valid& c) { c.q_tensor.shape[1] = 5; }, "q shape[1] = 5: must be num_qo_heads (6)"},
    {[](Valid& c) { c.q_tensor.shape[2] = 4; }, "q shape[2] = 4: must be head_dim_qk (8)"},
    {[](Valid& c) { c.q_tensor.strides[2] = 2; }, "q stride[2] = 2: must be 1: dense along head_dim"},
    {[](Valid& c) { c.q_tensor.data = nullptr; }, "q = null: must point to data, since its size is not 0"},
    {[](Valid& c) { c.kv.dtype = DType::bf16; }, "kv cache dtype = bf16: must be that of the config (f32)"},
    {[](Valid& c) { c.kv.num_kv_heads = 1; }, "kv cache num_kv_heads = 1: must be that of the config (2)"},
    {[](Valid& c) { c.kv.page_size = 2; }, "kv cache page_size = 2: must be that of the config (4)"},
    {[](Valid& c) { c.kv.head_dim_vo = 4; }, "v cache head_dim = 4: must be head_dim_vo of the config (8)"},
    {[](Valid& c) { c.kv.v = nullptr; }, "v cache = null: must point to data, since its size is not 0"},
    {[](Valid& c) { c.page_ids = c.page_ids.first(2); },
     "paged_kv_indices size = 2: must be at least the last entry of paged_kv_indptr (3)"},
    {[](Valid& c) { c.indices[1] = 5; }, "paged_kv_indices[1] = 5 (request 0): must be a page of the pool, 0 .. 4"},
    {[](Valid& c) { c.o_tensor.dtype = DType::f16; }, "o dtype = f16: must be that of the config (f32)"},
    {[](Valid& c) { c.o_tensor.strides[1] = 7; }, "o stride[1] = 7: must not let rows overlap"},
    {[](Valid& c) { c.o_tensor.strides[0] = 47; }, "o stride[0] = 47: must not let rows overlap"},
    {[](Valid& c) { c.o_tensor.data = c.q.data() + 8; },
     "it must be q itself (pointer, shape, strides, dtype) or not share memory"},
    {[](Valid& c) { c.o_tensor.data = c.q.data(), c.o_tensor.strides = {56, 8, 1}; }, "it must be q itself"},
    {[](Valid& c) { c.o_tensor.data = c.k.data() + 300; }, "it must not share memory with the k cache"},
    {[](Valid& c) { c.o_tensor.data = c.v.data() + 10; }, "it must not share memory with the v cache"},
    {[](Valid& c) { c.lse_log2 = std::span(c.o).first(18); }, "it must not share memory with o"},
    {[](Valid& c) { c.lse_log2 = std::span(c.q).first(18); }, "it must not share memory with q"},
    {[](Valid& c) { c.lse_log2 = std::span(c.k).first(18); }, "it must not share memory with the k cache"},
    {[](Valid& c) { c.lse_log2 = std::span(c.v).first(18); }, "it must not share memory with the v cache"},
    {[](Valid& c) { c.lse_log2 = c.lse_log2.first(17); },
     "lse_log2 size = 17: must be rows of o * num_qo_heads, or 0 if not wanted (18)"},
    {[](Valid& c) { c.sinks = c.sink_values; }, "sinks size = 7: must be 0, since logits.sinks is off (0)"},
    {[](Valid& c) { c.config.logits.sinks = true; }, "sinks size = 0: must be num_qo_heads, since logits.sinks is on (6)"},
    {[](Valid& c) { c.config.logits.sinks = true, c.sink_values[2] = nan, c.sinks = std::span(c.sink_values).first(6); },
     "sinks[2] = nan: must be a number or -inf"},
};

}  // namespace

TEST_CASE("every refusal names argument, value, request and rule") {
  Valid valid;
  CHECK(refusal([&] { valid.plan_and_run(); }) == "accepted");
  for (const Refusal& r : refusals) {
    Valid c;
    r.breaks(c);
    const std::string sentence = refusal([&] { c.plan_and_run(); });
    CHECK_MESSAGE(sentence.find(r.sentence) != std::string::npos, "got: ", sentence, "\nwanted: ", r.sentence);
  }
}

TEST_CASE("run before plan, and after a plan that was refused") {
  Valid c;
  std::vector<std::byte> memory(BatchDecodeWithPagedKVCache::workspace_bytes(c.config, c.indptr, c.last).device);
  BatchDecodeWithPagedKVCache decode(c.config, {.device = memory});
  const auto run = [&] { decode.run(c.q_tensor, c.kv, c.page_ids, {c.o_tensor, {}}); };
  const std::string sentence = "run(): must come after plan(); none is in force, or the last one was refused";
  CHECK(refusal(run) == sentence);
  decode.plan(c.indptr, c.last);
  CHECK(refusal(run) == "accepted");
  c.last[0] = 9;
  CHECK_THROWS_AS(decode.plan(c.indptr, c.last), InputError);
  CHECK(refusal(run) == sentence);
  c.last[0] = 4;
  decode.plan(c.indptr, c.last);
  CHECK(refusal(run) == "accepted");
}

TEST_CASE("a graph refuses what exceeds its limits, and says what") {
  Valid c;
  const auto graph_for = [&](AttentionLimits limits, std::vector<std::byte>& memory) {
    memory.resize(CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(c.config, limits).device);
    return CUDAGraphBatchDecodeWithPagedKVCache(c.config, limits, {.device = memory});
  };
  std::vector<std::byte> memory;
  const auto planned = [&](AttentionLimits limits) {
    return refusal([&] { graph_for(limits, memory).plan(c.indptr, c.indices, c.last); });
  };
  CHECK(planned({3, 3}) == "accepted");
  CHECK(planned({2, 3}) == "batch = 3: exceeds what was captured: max_batch 2");
  CHECK(planned({3, 2}) == "pages = 3: exceeds what was captured: max_pages 2");
  CHECK(planned({-1, 2}) == "max_batch = -1: must not be negative");
  CHECK(planned({3, -2}) == "max_pages = -2: must be 0 .. 2^31 - 1");

  auto graph = graph_for({4, 8}, memory);
  const std::vector<std::int32_t> seq_lens{7, 0, 2}, table(9, 0);
  CHECK(refusal([&] { graph.plan({seq_lens, 3}, table); }) == "pages = 9: exceeds what was captured: max_pages 8");
  graph.plan(c.indptr, c.indices, c.last);
  CHECK(refusal([&] { graph.run(c.q_tensor, c.kv, {c.o_tensor, {}}); }).find("q shape[0] = 3") == 0);  // max_batch rows
  const auto too_few_ids = [&] { graph.plan(c.indptr, std::span(c.indices).first(2), c.last); };
  CHECK(refusal(too_few_ids).find("paged_kv_indices size = 2") == 0);
  CHECK(refusal([&] { graph.plan(c.indptr, c.indices, c.last, nullptr, Device::gpu); }) ==
        "indices_on = gpu: must be cpu, as the object's device is");
  c.config.cache.dtype = DType::f16;  // whose o is rounded from f32 in the workspace
  memory.resize(CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(c.config, {4, 8}).device);
  std::vector<std::byte> small(memory.size() - 1);
  CHECK(refusal([&] { CUDAGraphBatchDecodeWithPagedKVCache(c.config, {4, 8}, {.device = small}); })
            .find("must be at least " + std::to_string(memory.size())) != std::string::npos);
}

TEST_CASE("the bytes of a custom mask are counted in 64 bits") {
  const AttentionConfig config{.heads = {.num_qo_heads = 1, .num_kv_heads = 1, .head_dim_qk = 1},
                               .cache = {.page_size = 1 << 16, .dtype = DType::f32},
                               .logits = {.mask = MaskMode::custom}, .execution = {.threads = 1}};
  const std::vector<std::int32_t> qo_indptr{0, 1 << 16}, indptr{0, 1}, last{1 << 16}, ids{0};
  std::vector<float> q(1 << 16), kv(2 << 16), o(q.size());
  std::vector<std::byte> memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, qo_indptr, indptr, last).device);
  BatchPrefillWithPagedKVCache prefill(config, {.device = memory});
  prefill.plan(qo_indptr, indptr, last);
  const PagedKvCache cache = paged_kv_cache(contiguous(kv.data(), DType::f32, {1, 2, 1 << 16, 1, 1}), KvLayout::NHD);
  const std::string sentence = refusal([&] {
    prefill.run(contiguous(q.data(), DType::f32, {1 << 16, 1, 1}), cache, ids,
                {contiguous(o.data(), DType::f32, {1 << 16, 1, 1}), {}});
  });
  CHECK(sentence ==
        "custom_mask size = 0: must be the sum of qo_len * kv_len, since logits.mask is custom (4294967296)");
}

TEST_CASE("an empty batch is planned and run") {
  Valid c;
  c.indptr = {0};
  c.last.clear();
  c.q_tensor.shape[0] = c.o_tensor.shape[0] = 0;
  c.lse_log2 = {};
  CHECK(refusal([&] { c.plan_and_run(); }) == "accepted");
}

TEST_CASE("planning again for no more work allocates nothing") {
  const AttentionConfig config{.heads = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128},
                               .cache = {.page_size = 16}, .execution = {.threads = 8}};
  std::vector<std::int32_t> indptr{0}, last;
  for (std::int32_t b = 0; b < 64; ++b) indptr.push_back(indptr.back() + 1 + b * 37 % 90), last.push_back(1 + b % 16);
  std::vector<std::byte> memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, indptr, last).device);
  BatchDecodeWithPagedKVCache decode(config, {.device = memory});
  decode.plan(indptr, last);
  const std::size_t before = allocations;
  decode.plan(indptr, last);
  CHECK(allocations == before);
  CHECK(before > 0);
}

TEST_CASE("a cascade planned and run again allocates nothing") {
  const AttentionConfig config{.heads = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64},
                               .cache = {.page_size = 16, .dtype = DType::f16}, .execution = {.threads = 1}};
  const std::vector<std::int32_t> one{0, 4}, four{0, 1, 2, 3, 4}, prefix{0, 60}, full{16}, own{0, 1, 3, 9, 10};
  const std::vector<std::int32_t> last{16, 3, 2, 9}, ids(60);
  const std::vector<CascadeLevel> levels{{one, prefix, full}, {four, own, last}};
  std::vector<std::byte> memory(MultiLevelCascadeAttention::workspace_bytes(config, levels).device + 5000);
  MultiLevelCascadeAttention cascade(2, config, {.device = memory});
  std::vector<Half> pool(60 * 2 * 16 * 2 * 64, Half(0.5f)), q(4 * 8 * 64, Half(0.25f));
  const Tensor rows = contiguous(q.data(), DType::f16, {4, 8, 64});
  const PagedKvCache cache = paged_kv_cache(contiguous(pool.data(), DType::f16, {60, 2, 16, 2, 64}), KvLayout::NHD);
  const std::span<const std::int32_t> page_ids[] = {ids, ids};
  const auto step = [&] {
    cascade.plan(levels);
    cascade.run(rows, cache, page_ids, {.o = rows});
  };
  step();
  const std::size_t before = allocations;
  step();
  CHECK(allocations == before);
}

// One thread: of several, one may get its first work in a later run, and then allocates its scratch there.
TEST_CASE("run allocates nothing after the first call") {
  for (const DType dtype : {DType::f32, DType::f16}) {
    for (const MaskMode mask : {MaskMode::causal, MaskMode::custom}) {
      const AttentionConfig config{.heads = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64},
                                   .cache = {.page_size = 16, .dtype = dtype},
                                   .logits = {.mask = mask, .sinks = true}, .execution = {.threads = 1}};
      const std::vector<std::int32_t> qo_indptr{0, 40, 41, 41}, indptr{0, 20, 50, 50}, last{16, 3, 0};
      std::vector<std::int32_t> ids(50);
      for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
      std::vector<float> q(41 * 8 * 64, 0.1f), kv(50 * 2 * 16 * 2 * 64, 0.1f), o(q.size()), lse(41 * 8), sinks(8);
      const std::vector<std::uint8_t> visible(mask == MaskMode::custom ? 40 * 320 + 467 : 0, 1);
      const Tensor rows = contiguous(q.data(), dtype, {41, 8, 64}), out = contiguous(o.data(), dtype, {41, 8, 64});
      const PagedKvCache cache = paged_kv_cache(contiguous(kv.data(), dtype, {50, 2, 16, 2, 64}), KvLayout::NHD);
      std::vector<std::byte> memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, qo_indptr, indptr, last).device);
      BatchPrefillWithPagedKVCache prefill(config, {.device = memory});
      prefill.plan(qo_indptr, indptr, last);
      const auto run = [&] { prefill.run(rows, cache, ids, {out, lse}, nullptr, sinks, visible); };
      run();
      const std::size_t before = allocations;
      run();
      CHECK(allocations == before);
    }
  }
}

TEST_CASE("the GPU, asked for where there is none, says why") {
  if (why_no_gpu().empty()) return;
  Valid c;
  c.config.execution.device = Device::gpu;
  CHECK(refusal([&] { c.plan_and_run(); }) == "device = gpu: " + why_no_gpu());
  CHECK(refusal([&] { require_device(Device::gpu); }) == "device = gpu: " + why_no_gpu());
  CHECK(best_device() == Device::cpu);
}
