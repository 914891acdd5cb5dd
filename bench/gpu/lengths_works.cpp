// Family lengths: FlashInfer's calls over a block table whose lengths lie on the device. A call plans there and runs: both are
// timed, as one call a layer would have them. Beside it, the classes: planned on the host, and planned once on the device,
// with run() alone on the clock, as all layers but the first have it.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "api/batch_decode.hpp"
#include "api/batch_prefill.hpp"
#include "api/serving_calls.hpp"
#include "bench/gpu/api_decode.hpp"
#include "bench/gpu/families.hpp"
#include "bench/gpu/paged_pool.hpp"
#include "bench/gpu/prefill_data.hpp"
#include "core/page_table.hpp"

namespace flashladder::bench {
namespace {

struct TableData {
  PrefillData data;
  std::int32_t max_seq_len = 0;
  gpu::DeviceBuffer block_tables, seq_lens, cum_seq_lens_q;

  explicit TableData(const LengthsCase& c) : data(c.spec), max_seq_len(c.max_seq_len) {
    const std::int32_t max_pages = pages_for(max_seq_len, c.spec.page_size);
    std::vector<std::int32_t> table;
    for (std::int32_t b = 0; b < c.spec.batch(); ++b) {
      const auto ids = data.host_page_ids().begin();
      table.insert(table.end(), ids + data.kv_indptr()[b], ids + data.kv_indptr()[b + 1]);
      table.resize(static_cast<std::size_t>(b + 1) * static_cast<std::size_t>(max_pages), -1);
    }
    block_tables = to_device(table), seq_lens = to_device(c.spec.kv_lens), cum_seq_lens_q = to_device(data.qo_indptr());
  }
  std::int32_t most_queries() const { return *std::max_element(data.spec().qo_lens.begin(), data.spec().qo_lens.end()); }
  bool decode() const { return most_queries() == 1; }
  PagedKvCache kv() const { return paged_kv_cache(data.k(), data.v(), KvLayout::NHD); }
  api::DeviceBlockTableLengths lengths() const {
    return {span_of(seq_lens), pages_for(max_seq_len, data.spec().page_size), max_seq_len};
  }
  api::AttentionConfig config() const {
    return api::config_for(data.spec().params, {.page_size = data.spec().page_size, .dtype = data.spec().dtype},
                           {.device = Device::gpu});
  }
};
using Data = std::shared_ptr<TableData>;

api::TrtllmBatchDecode decode_call(const TableData& t) {
  return {.query = t.data.q(), .kv_cache = t.kv(), .workspace_buffer = {}, .block_tables = span_of(t.block_tables),
          .seq_lens = span_of(t.seq_lens), .max_seq_len = t.max_seq_len, .bmm1_scale = t.data.spec().params.sm_scale,
          .out = t.data.output()};
}

api::TrtllmBatchContext context_call(const TableData& t) {
  return {.query = t.data.q(), .kv_cache = t.kv(), .workspace_buffer = {}, .block_tables = span_of(t.block_tables),
          .seq_lens = span_of(t.seq_lens), .max_q_len = t.most_queries(), .max_kv_len = t.max_seq_len,
          .bmm1_scale = t.data.spec().params.sm_scale, .batch_size = t.data.spec().batch(),
          .cum_seq_lens_q = span_of(t.cum_seq_lens_q), .cum_seq_lens_kv = {}, .out = t.data.output(),
          .lengths_on_device = true};
}

// Plan and run, every time.
template <class Call>
Launch call_launch(const Data& data, Call call, void (*carry_out)(const Call&, const api::On&)) {
  const auto memory = std::make_shared<ApiMemory>(workspace_bytes(call, {Device::gpu}));
  call.workspace_buffer = memory->view();
  return [=](void* stream) {
    static_cast<void>(data), static_cast<void>(memory);  // live as long as the launch
    carry_out(call, {Device::gpu, stream});
  };
}

// run() of a class that is planned once; plan: with which lengths.
template <class Attention, class... Lengths>
Launch class_launch(const Data& data, std::span<const std::int32_t> page_ids, const GpuTimer& timer,
                    const Lengths&... lengths) {
  struct Planned {
    ApiMemory memory;
    Attention attention;
    Planned(const api::AttentionConfig& config, const api::WorkspaceBytes& bytes)
        : memory(bytes), attention(config, memory.view()) {}
  };
  const api::AttentionConfig config = data->config();
  const auto run = std::make_shared<Planned>(config, Attention::workspace_bytes(config, lengths...));
  run->attention.plan(lengths..., timer.stream());
  return [=](void* stream) { run->attention.run(data->data.q(), data->kv(), page_ids, data->data.output(), stream); };
}

}  // namespace

std::vector<TimedWork> lengths_works(const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const LengthsCase& c : lengths_cases()) {
    say("checking " + c.name());
    const auto data = std::make_shared<TableData>(c);
    const auto add = [&](const char* backend, const Launch& launch) {
      const PrefillData::Check check = data->data.check(*timer, launch);
      works.push_back({.line = {.family = name_of(Family::lengths), .work = c.name(),
                                .backend = std::string("flashladder ") + backend, .error = check.error,
                                .nearest = check.nearest},
                       .bytes = c.bytes(), .floor = Floor::read, .checked = checked_rows, .failure = check.failure,
                       .time_us = [=] { return timer->event_us(launch); }});
    };
    const PrefillData& of = data->data;
    if (data->decode()) {
      using Decode = api::BatchDecodeWithPagedKVCache;
      add("trtllm decode", call_launch(data, decode_call(*data), api::trtllm_batch_decode_with_kv_cache));
      add("planned on the device", class_launch<Decode>(data, span_of(data->block_tables), *timer, data->lengths()));
      add("planned on the host", class_launch<Decode>(data, of.page_ids(), *timer, of.kv_indptr(), of.last_page_len()));
    } else {
      using Prefill = api::BatchPrefillWithPagedKVCache;
      add("trtllm context", call_launch(data, context_call(*data), api::trtllm_batch_context_with_kv_cache));
      add("planned on the host",
          class_launch<Prefill>(data, of.page_ids(), *timer, of.qo_indptr(), of.kv_indptr(), of.last_page_len()));
    }
  }
  return works;
}

}  // namespace flashladder::bench
