#include "api/serving_calls.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "api/serving_session.hpp"
#include "core/checks.hpp"
#include "core/error.hpp"
#include "core/refuse.hpp"
#include "core/validate.hpp"

namespace flashladder::api {
namespace {

using Ints = std::span<const std::int32_t>;
using Call = ServingCall;

AttentionConfig config_for(const ConstTensor& q, const PagedKvCache& kv, const AttentionOutput& out, LogitsConfig logits,
                           const On& on) {
  const std::int64_t heads = q.rank == 3 ? q.shape[1] : 0;
  require(q.rank == 3 && heads <= std::numeric_limits<std::int32_t>::max(), "q rank", q.rank,
          "must be 3: [tokens, num_qo_heads, head_dim]");
  return {.heads = {.num_qo_heads = static_cast<std::int32_t>(heads), .num_kv_heads = kv.num_kv_heads,
                    .head_dim_qk = kv.head_dim_qk, .head_dim_vo = kv.head_dim_vo},
          .cache = {.page_size = kv.page_size, .dtype = kv.dtype}, .logits = std::move(logits),
          .execution = {.device = on.device, .enable_pdl = on.enable_pdl}, .q_dtype = q.dtype, .o_dtype = out.o.dtype};
}

// A request's length may be no more than a bound that the caller gives beside it.
void require_at_most(std::int64_t request, std::int32_t len, std::int32_t most, const char* argument, const char* bound) {
  if (len <= most) return;
  refuse(element(argument, request), len, std::string("must be at most ") + bound + " (" + std::to_string(most) + ")",
         static_cast<int>(request));
}
void require_at_most(Ints lens, std::int32_t most, const char* argument, const char* bound) {
  for (std::size_t b = 0; b < lens.size(); ++b) {
    require_at_most(static_cast<std::int64_t>(b), lens[b], most, argument, bound);
  }
}

Call call_of(const TrtllmBatchDecode& c, const On& on) {
  require_scale(c.bmm1_scale, "bmm1_scale");
  require_scale(c.bmm2_scale, "bmm2_scale");
  const MaskMode mask = c.q_len_per_req > 1 ? MaskMode::causal : MaskMode::none;
  const LogitsConfig logits{.sm_scale = c.bmm1_scale, .mask = mask, .window_left = c.window_left, .sinks = !c.sinks.empty()};
  const BlockTableLengths table = table_of(c.block_tables, c.seq_lens, "block_tables", "seq_lens");
  Call call{.config = config_for(c.query, c.kv_cache, c.out, logits, on),
            .lengths = {.block_table = table, .max_seq_len = most_in(table, c.kv_cache.page_size, c.max_seq_len)},
            .arguments = {.q = c.query, .kv = c.kv_cache, .page_ids = c.block_tables, .output = c.out, .sinks = c.sinks,
                          .scales = {.v = c.bmm2_scale}},
            .queries = c.q_len_per_req};
  if (c.mask.empty()) return call;
  require(c.q_len_per_req >= 1, "q_len_per_req", c.q_len_per_req, "must be at least 1");
  mask_drafts(call, c.mask, "max_seq_len");
  return call;
}

Call call_of(const CudnnBatchDecode& c, const On& on) {
  require_scale(c.scale, "scale");
  require(c.max_sequence_kv >= 0, "max_sequence_kv", c.max_sequence_kv, "must not be negative");
  const BlockTableLengths table = table_of(c.block_tables, c.actual_seq_lens_kv, "block_tables", "actual_seq_lens_kv");
  return {.config = config_for(c.q, c.kv_cache, c.out, {.sm_scale = c.scale}, on),
          .lengths = {.block_table = table, .max_seq_len = most_in(table, c.kv_cache.page_size, c.max_sequence_kv)},
          .arguments = {.q = c.q, .kv = c.kv_cache, .page_ids = c.block_tables, .output = c.out, .sinks = {}}};
}

// [batch, 1, heads, dim] or [batch, 1, q_seq_len, heads, dim] as [batch * q_seq_len, heads, dim].
template <class AnyTensor>
AnyTensor without_beam(const AnyTensor& t, std::int32_t q_seq_len, const std::string& name) {
  if (t.rank != 4 && t.rank != 5) return t;
  require(t.shape[1] == 1, (name + ".shape[1]").c_str(), t.shape[1], "must be a beam of 1");
  const auto heads = static_cast<std::size_t>(t.rank) - 2;
  AnyTensor rows = t;
  rows.rank = 3;
  rows.shape = {t.shape[0], t.shape[heads], t.shape[heads + 1]};
  rows.strides = {t.strides[0], t.strides[heads], t.strides[heads + 1]};
  if (t.rank == 4) return rows;
  require_equal(t.shape[2], q_seq_len, (name + ".shape[2]").c_str(), "q_seq_len");
  require(t.shape[0] <= 1 || t.strides[0] == q_seq_len * t.strides[2], (name + ".strides[0]").c_str(), t.strides[0],
          "must be q_seq_len times strides[2]: requests lie one after the other");
  rows.shape[0] = wrapping_product(t.shape[0], t.shape[2]), rows.strides[0] = t.strides[2];
  return rows;
}

Call call_of(const Xqa& c, const On& on) {
  require_scale(c.q_scale, "q_scale");
  require_scale(c.kv_scale, "kv_scale");
  require(c.sliding_win_size >= 0, "sliding_win_size", c.sliding_win_size, "must be at least 1, or 0 for no window");
  require(c.q_seq_len >= 1, "q_seq_len", c.q_seq_len, "must be at least 1");
  // The same bits: a length beyond 2^31 - 1 is a negative one, which counts as 0.
  const Ints seq_lens(reinterpret_cast<const std::int32_t*>(c.seq_lens.data()), c.seq_lens.size());
  const BlockTableLengths table = table_of(c.page_table, seq_lens, "page_table", "seq_lens");
  const LogitsConfig logits{.sm_scale = c.q_scale * default_sm_scale(std::max(c.kv_cache.head_dim_qk, 1)),
                            .mask = c.q_seq_len > 1 ? MaskMode::causal : MaskMode::none,
                            .window_left = c.sliding_win_size - 1, .sinks = !c.sinks.empty()};
  AttentionOutput output = c.output;
  output.o = without_beam(c.output.o, c.q_seq_len, "output");
  const ConstTensor q = without_beam(c.q, c.q_seq_len, "q");
  Call call{.config = config_for(q, c.kv_cache, output, logits, on),
            .lengths = {.block_table = table, .max_seq_len = most_in(table, c.kv_cache.page_size)},
            .arguments = {.q = q, .kv = c.kv_cache, .page_ids = c.page_table, .output = output, .sinks = c.sinks,
                          .scales = {.k = c.kv_scale, .v = c.kv_scale}},
            .queries = c.q_seq_len};
  if (!c.mask.empty()) mask_drafts(call, c.mask, "max_pages * page_size");
  return call;
}

// Of which request an entry of [batch + 1] offsets is: whose beginning it is, and of the last one whose end.
int request_of(std::size_t entry, std::size_t batch) { return static_cast<int>(std::min(entry + 1, batch)) - 1; }

// cum_seq_lens_kv [batch + 1], or left out.
void require_sums(Ints cum_seq_lens_kv, Ints seq_lens) {
  if (cum_seq_lens_kv.empty()) return;
  const std::size_t batch = seq_lens.size();
  require_equal(static_cast<std::int64_t>(cum_seq_lens_kv.size()), static_cast<std::int64_t>(batch) + 1,
                "cum_seq_lens_kv size", "batch_size + 1");
  std::int64_t sum = 0;
  for (std::size_t b = 0; b <= batch; ++b) {
    if (cum_seq_lens_kv[b] != sum) {
      refuse(element("cum_seq_lens_kv", static_cast<std::int64_t>(b)), cum_seq_lens_kv[b],
             "must be the sum of the seq_lens before (" + std::to_string(sum) + ")", request_of(b, batch));
    }
    if (b < batch) sum += seq_lens[b];
  }
}

// A prefill whose lengths lie on the device.
void plan_there(Call& call, std::int32_t max_kv_len, std::int32_t max_q_len) {
  BatchLengths& lengths = call.lengths;
  lengths.max_seq_len = most_in(*lengths.block_table, call.config.cache.page_size, max_kv_len);
  lengths.most_queries = MostQueries{call.arguments.q.shape[0], max_q_len};
  call.config.execution.policy = SplitPolicy::none;
}

Call call_of(const TrtllmBatchContext& c, const On& on) {
  require_scale(c.bmm1_scale, "bmm1_scale");
  require_scale(c.bmm2_scale, "bmm2_scale");
  const auto batch = static_cast<std::int64_t>(c.seq_lens.size());
  require_equal(batch, c.batch_size, "seq_lens size", "batch_size");
  require_equal(static_cast<std::int64_t>(c.cum_seq_lens_q.size()), batch + 1, "cum_seq_lens_q size", "batch_size + 1");
  const LogitsConfig logits{.sm_scale = c.bmm1_scale, .mask = MaskMode::causal, .window_left = c.window_left,
                            .sinks = !c.sinks.empty()};
  const BlockTableLengths table = table_of(c.block_tables, c.seq_lens, "block_tables", "seq_lens");
  Call call{.config = config_for(c.query, c.kv_cache, c.out, logits, on),
            .lengths = {.qo_indptr = c.cum_seq_lens_q, .block_table = table},
            .arguments = {.q = c.query, .kv = c.kv_cache, .page_ids = c.block_tables, .output = c.out, .sinks = c.sinks,
                          .scales = {.v = c.bmm2_scale}}};
  if (c.lengths_on_device) {
    require(c.cum_seq_lens_kv.empty() || c.cum_seq_lens_kv.size() == c.cum_seq_lens_q.size(), "cum_seq_lens_kv size",
            c.cum_seq_lens_kv.size(), "must be batch_size + 1, or left out");
    if (on.device == Device::cpu) require_sums(c.cum_seq_lens_kv, c.seq_lens);
    plan_there(call, c.max_kv_len, c.max_q_len);
    return call;
  }
  validate_qo_indptr(c.cum_seq_lens_q, batch, "cum_seq_lens_q");
  for (std::int64_t b = 0; b < batch; ++b) {
    require_at_most(b, c.cum_seq_lens_q[b + 1] - c.cum_seq_lens_q[b], c.max_q_len, "cum_seq_lens_q: queries", "max_q_len");
  }
  require_at_most(c.seq_lens, c.max_kv_len, "seq_lens", "max_kv_len");
  require_sums(c.cum_seq_lens_kv, c.seq_lens);
  return call;
}

// Offsets in elements that are where rows of `row` elements, one request after the other, begin.
void require_dense(std::span<const std::int64_t> offsets, Ints qo_indptr, std::int64_t row, const char* argument) {
  if (offsets.empty()) return;
  if (offsets.size() != qo_indptr.size()) {
    refuse(std::string(argument) + " size", static_cast<std::int64_t>(offsets.size()), "must be batch + 1");
  }
  for (std::size_t b = 0; b < offsets.size(); ++b) {
    if (offsets[b] == qo_indptr[b] * row) continue;
    refuse(element(argument, static_cast<std::int64_t>(b)), offsets[b],
           "must be where the request before ends, in elements (" + std::to_string(qo_indptr[b] * row) + ")",
           request_of(b, offsets.size() - 1));
  }
}

Call call_of(const CudnnBatchPrefill& c, const On& on) {
  require_scale(c.scale, "scale");
  const Ints lens_q = c.actual_seq_lens_q;
  require_equal(static_cast<std::int64_t>(lens_q.size()), static_cast<std::int64_t>(c.actual_seq_lens_kv.size()),
                "actual_seq_lens_q size", "that of actual_seq_lens_kv");
  if (!c.lengths_on_device) {
    require_at_most(lens_q, c.max_token_per_sequence, "actual_seq_lens_q", "max_token_per_sequence");
    require_at_most(c.actual_seq_lens_kv, c.max_sequence_kv, "actual_seq_lens_kv", "max_sequence_kv");
  }
  Call call{.config = config_for(c.q, c.kv_cache, c.out,
                                 {.sm_scale = c.scale, .mask = c.causal ? MaskMode::causal : MaskMode::none}, on),
            .lengths = {.block_table =
                            table_of(c.block_tables, c.actual_seq_lens_kv, "block_tables", "actual_seq_lens_kv")},
            .arguments = {.q = c.q, .kv = c.kv_cache, .page_ids = c.block_tables, .output = c.out, .sinks = {}},
            .qo_indptr = {0}};
  if (c.lengths_on_device) {
    const bool offsets = !c.batch_offsets_q.empty() || !c.batch_offsets_o.empty();
    require(!offsets, "batch_offsets_q", "", "and batch_offsets_o must be left out where lengths lie on the device");
    if (!lens_q.empty()) call.qo_indptr.clear(), call.lengths.qo_lens = lens_q;
    plan_there(call, c.max_sequence_kv, c.max_token_per_sequence);
    return call;
  }
  std::int64_t rows = 0;
  for (std::size_t b = 0; b < lens_q.size(); ++b) {
    rows += lens_q[b];
    require(lens_q[b] >= 0 && rows <= std::numeric_limits<std::int32_t>::max(), "actual_seq_lens_q", lens_q[b],
            "must not be negative, and 2^31 - 1 in all", static_cast<int>(b));
    call.qo_indptr.push_back(static_cast<std::int32_t>(rows));
  }
  require_dense(c.batch_offsets_q, call.qo_indptr, c.q.strides[0], "batch_offsets_q");
  require_dense(c.batch_offsets_o, call.qo_indptr, c.out.o.strides[0], "batch_offsets_o");
  return call;
}

}  // namespace

WorkspaceBytes workspace_bytes(const TrtllmBatchDecode& call, const On& on) { return serving_bytes(call_of(call, on)); }
WorkspaceBytes workspace_bytes(const TrtllmBatchContext& call, const On& on) { return serving_bytes(call_of(call, on)); }
WorkspaceBytes workspace_bytes(const CudnnBatchDecode& call, const On& on) { return serving_bytes(call_of(call, on)); }
WorkspaceBytes workspace_bytes(const CudnnBatchPrefill& call, const On& on) { return serving_bytes(call_of(call, on)); }
WorkspaceBytes workspace_bytes(const Xqa& call, const On& on) { return serving_bytes(call_of(call, on)); }

void trtllm_batch_decode_with_kv_cache(const TrtllmBatchDecode& call, const On& on) {
  attend_served(call_of(call, on), call.workspace_buffer, on);
}
void trtllm_batch_context_with_kv_cache(const TrtllmBatchContext& call, const On& on) {
  attend_served(call_of(call, on), call.workspace_buffer, on);
}
void cudnn_batch_decode_with_kv_cache(const CudnnBatchDecode& call, const On& on) {
  attend_served(call_of(call, on), call.workspace_buffer, on);
}
void cudnn_batch_prefill_with_kv_cache(const CudnnBatchPrefill& call, const On& on) {
  attend_served(call_of(call, on), call.workspace_buffer, on);
}
void xqa(const Xqa& call, const On& on) { attend_served(call_of(call, on), call.workspace_buffer, on); }

}  // namespace flashladder::api
