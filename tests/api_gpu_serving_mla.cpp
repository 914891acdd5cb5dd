// Latent attention over a block table on the GPU: FlashInfer's calls against the oracle, eager and in a graph whose lengths
// change in place, with one query a request and with several; scales. tests/api_serving_mla.cpp has what needs no GPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/device_mla_problem.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_gpu.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/refusal.hpp"
#include "tests/skip_without_device.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

CaseSpec served_latents(std::int32_t heads, std::int32_t q_len, DType dtype, std::int32_t page_size = 64) {
  CaseSpec spec{.name = "served latents", .op = Op::mla, .seed = 41, .qo_lens = std::vector<std::int32_t>(5, q_len),
                .kv_lens = {1700, 40, 0, 900, 411}, .page_size = page_size, .dtype = dtype, .block_table = true};
  spec.params =
      MlaParams{.num_heads = heads, .sm_scale = 0.07f, .mask = q_len > 1 ? MaskMode::causal : MaskMode::none}.attention();
  return spec;
}

// A case on the GPU, with its outputs, as these calls want it.
struct ServedLatents {
  Case c;
  DeviceMlaProblem problem;
  gpu::DeviceBuffer seq_lens;
  std::int64_t batch, q_len, heads;
  AttentionConfig of_output;  // what GpuOutput asks of a config
  GpuOutput output;

  explicit ServedLatents(const CaseSpec& spec)
      : c(draw_case(spec)), problem(c.mla()), seq_lens(spec.kv_lens.data(), spec.kv_lens.size() * sizeof(std::int32_t)),
        batch(spec.batch()), q_len(spec.qo_lens.front()), heads(spec.params.num_qo_heads),
        of_output{.heads = {spec.params.num_qo_heads, 1, 576, 512}, .cache = {}, .q_dtype = spec.dtype, .o_dtype = DType::f32},
        output(static_cast<std::int32_t>(spec.nnz_qo()), of_output) {}

  std::span<const std::int32_t> lens() const {
    return {seq_lens.as<std::int32_t>(), static_cast<std::size_t>(batch)};
  }
  TrtllmBatchDecodeMla call() const {
    const MlaProblem view = problem.view();  // both parts of a query lie side by side
    AttentionOutput out = output.view();
    out.o = contiguous(out.o.data, DType::f32, {batch, q_len, heads, 512});
    return {.query = contiguous(view.q_nope.data, c.spec.dtype, {batch, q_len, heads, 576}), .kv_cache = view.cache,
            .workspace_buffer = {}, .block_tables = view.block_tables,
            .seq_lens = q_len == 1 ? lens() : std::span<const std::int32_t>(c.spec.kv_lens), .max_seq_len = 1 << 20,
            .bmm1_scale = c.spec.params.sm_scale, .out = out};
  }
  // "" if it is the oracle's.
  std::string wrong(cudaStream_t stream) const {
    const Result result = output.result(stream);
    const Comparison comparison = compare(c, result.floats(), result.lse_log2, make_oracle(c, c.spec.dtype));
    return comparison.ok() ? "" : comparison.message();
  }
};

}  // namespace

TEST_CASE("trtllm_batch_decode_with_kv_cache_mla on the GPU equals the oracle") {
  const GpuStream stream;
  const On on{Device::gpu, stream};
  for (const std::int32_t heads : {16, 128, 130}) {
    for (const std::int32_t q_len : {1, 2}) {
      for (const DType dtype : {DType::f16, DType::bf16}) {
        INFO(heads, " heads, ", q_len, " queries a request, ", name_of(dtype));
        ServedLatents served(served_latents(heads, q_len, dtype, heads == 130 ? 5 : 64));
        TrtllmBatchDecodeMla call = served.call();
        GpuWorkspace memory(workspace_bytes(call, on));
        call.workspace_buffer = memory.view();
        for (int i = 0; i < 6; ++i) {  // more plans than the staging memory holds
          served.output.poison(stream);
          trtllm_batch_decode_with_kv_cache_mla(call, on);
        }
        CHECK(served.wrong(stream) == "");
        CHECK(memory.guards_intact());
      }
    }
  }
}

TEST_CASE("latent decode on the GPU: a graph that captured the call plans anew in every replay") {
  const GpuStream stream;
  const On on{Device::gpu, stream};
  for (const bool by_xqa : {false, true}) {
    ServedLatents served(served_latents(128, 1, DType::bf16));
    TrtllmBatchDecodeMla trtllm = served.call();
    XqaMla of_xqa{.q = trtllm.query, .kv_cache = trtllm.kv_cache, .page_table = trtllm.block_tables,
                  .seq_lens = {served.seq_lens.as<std::uint32_t>(), 5}, .output = trtllm.out, .workspace_buffer = {},
                  .q_scale = 0.07f};
    GpuWorkspace memory(workspace_bytes(trtllm, on));
    CHECK(workspace_bytes(of_xqa, on).device == workspace_bytes(trtllm, on).device);
    trtllm.workspace_buffer = of_xqa.workspace_buffer = memory.view();
    const auto call = [&] { by_xqa ? xqa_mla(of_xqa, on) : trtllm_batch_decode_with_kv_cache_mla(trtllm, on); };
    call();
    const GpuGraph graph(stream, call);
    for (const std::vector<std::int32_t>& lens :
         {served.c.spec.kv_lens, {3, 0, 0, 900, 1}, {0, 0, 0, 0, 0}, {1700, 40, 0, 1, 2}}) {
      gpu::check(cudaMemcpyAsync(served.seq_lens.data(), lens.data(), served.seq_lens.size(), cudaMemcpyHostToDevice, stream));
      served.c.spec.kv_lens = lens;  // the oracle's too: of a block table they are all there is
      served.output.poison(stream);
      graph.launch(stream);
      CHECK(served.wrong(stream) == "");
      const Result replayed = served.output.result(stream);
      served.output.poison(stream);
      call();
      CHECK((served.output.result(stream) == replayed));
    }
    CHECK(memory.guards_intact());
  }
}

TEST_CASE("latent decode on the GPU: scales are those of the result") {
  const GpuStream stream;
  const On on{Device::gpu, stream};
  ServedLatents served(served_latents(16, 1, DType::f16));
  TrtllmBatchDecodeMla call = served.call();
  GpuWorkspace memory(workspace_bytes(call, on));
  call.workspace_buffer = memory.view();
  call.bmm2_scale = 4;
  trtllm_batch_decode_with_kv_cache_mla(call, on);
  std::vector<float> scaled = served.output.result(stream).floats();
  for (float& x : scaled) x /= 4;
  const std::vector<float> lse = served.output.result(stream).lse_log2;
  const Comparison comparison = compare(served.c, scaled, lse, make_oracle(served.c, served.c.spec.dtype));
  CHECK_MESSAGE(comparison.ok(), comparison.message());
}

TEST_CASE("latent decode on the GPU: E4M3 rows, by one call and by the class") {
  const GpuStream stream;
  const On on{Device::gpu, stream};
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const std::int32_t heads : {20, 128}) {
      INFO(heads, " heads, ", name_of(dtype));
      CaseSpec spec = served_latents(heads, 1, dtype, heads == 20 ? 5 : 64);
      spec.kv_dtype = DType::f8_e4m3, spec.kv_scales = KvScaling::number;
      ServedLatents served(spec);
      const MlaScales scales = served.c.mla().scales;
      TrtllmBatchDecodeMla call = served.call();
      call.bmm1_scale *= scales.k, call.bmm2_scale = scales.v;
      GpuWorkspace memory(workspace_bytes(call, on));
      call.workspace_buffer = memory.view();
      trtllm_batch_decode_with_kv_cache_mla(call, on);
      CHECK(served.wrong(stream) == "");
      CHECK(memory.guards_intact());

      const MlaConfig config{.num_heads = heads, .page_size = spec.page_size, .sm_scale = 0.07f, .kv_dtype = DType::f8_e4m3,
                             .q_dtype = dtype, .o_dtype = DType::f32, .execution = {.device = Device::gpu}};
      const MlaProblem& view = served.problem.view();
      const std::int32_t max_pages = view.frame().max_pages();
      const AttentionLimits limits{.max_batch = 5, .max_pages = 5 * max_pages, .max_nnz_qo = 5};
      GpuWorkspace of_class(BatchMLAPagedAttention::workspace_bytes(config, limits));
      BatchMLAPagedAttention attention(config, limits, of_class.view());
      CHECK(attention.explain().find("L4") != std::string::npos);
      attention.plan(served.c.qo_indptr, view.block_tables, BlockTableLengths{spec.kv_lens, max_pages}, stream, Device::gpu);
      served.output.poison(stream);
      attention.run(view.q_nope, view.q_pe, view.cache, served.output.view(), stream, scales);
      CHECK(served.wrong(stream) == "");

      // kpe's scale a quarter, and q_pe four times as large: the same scores.
      std::vector<std::byte> q_bytes(served.c.q.bytes.size());
      for (std::int64_t i = 0; i < served.c.q.size(); ++i) {
        float x = 0;
        reference::load_row(served.c.q.view(), i, 1, &x);
        if (i % 576 >= 512) x *= 4;
        reference::store_row(&x, 1, contiguous(q_bytes.data(), dtype, {served.c.q.size()}), i);
      }
      const gpu::DeviceBuffer larger(q_bytes.data(), q_bytes.size());
      Tensor q_nope = view.q_nope, q_pe = view.q_pe;
      q_nope.data = larger.data(), q_pe.data = larger.data() + 512 * size_of(dtype);
      served.output.poison(stream);
      attention.run(q_nope, q_pe, view.cache, served.output.view(), stream, {scales.k, scales.kpe / 4, scales.v});
      const Result apart = served.output.result(stream);
      const Comparison comparison = compare(served.c, apart.floats(), apart.lse_log2, make_oracle(served.c, dtype));
      CHECK_MESSAGE(comparison.ok(), comparison.message());
      CHECK(of_class.guards_intact());
    }
  }
}

TEST_CASE("latent decode on the GPU: what is refused") {
  const GpuStream stream;
  ServedLatents served(served_latents(16, 2, DType::f16));
  TrtllmBatchDecodeMla call = served.call();
  const On on{Device::gpu, stream};
  GpuWorkspace memory(workspace_bytes(call, on));
  call.workspace_buffer = memory.view();
  std::string said;
  const GpuGraph graph(stream, [&] { said = refusal([&] { trtllm_batch_decode_with_kv_cache_mla(call, on); }); });
  CHECK(said.starts_with("stream = capturing: can't plan a prefill"));
  call.kv_cache.head_dim_ckv = 448, call.kv_cache.head_dim_kpe = 128;
  CHECK(refusal([&] { trtllm_batch_decode_with_kv_cache_mla(call, on); })
            .find("head_dim_ckv 448 with head_dim_kpe 128 is not 512 with 64") != std::string::npos);
}
