// fl_serving_call: one struct for the calls of api/serving_calls.hpp, each of which takes what it knows of it.
#include <algorithm>
#include <limits>

#include "api/serving_calls.hpp"
#include "capi/arguments.hpp"
#include "capi/errors.hpp"
#include "capi/structs.hpp"
#include "core/mask_bits.hpp"
#include "core/validate.hpp"

using namespace flashladder;
using namespace flashladder::capi;

namespace {

using Ints = std::span<const std::int32_t>;
using Words = std::span<const std::uint32_t>;

// Sizes first: a product of two negative ones would pass for a table's.
fl_serving_call with_sizes(const fl_serving_call& c) {
  require(c.batch >= 0, "batch", c.batch, "must not be negative");
  require(c.max_pages >= 0, "max_pages", c.max_pages, "must not be negative");
  require(c.max_kv_len >= 0, "max_kv_len", c.max_kv_len, "must not be negative");
  return c;
}

// The parts of a call that all have, checked for what this one has not.
struct Given {
  fl_serving_call c;
  Tensor q, o;
  PagedKvCache kv;
  api::Workspace workspace{};
  Ints block_tables, seq_lens, cum_seq_lens_q, seq_lens_q;
  bool there;           // lengths of a prefill lie where q does,
  bool lens_on_device;  // and are those of seq_lens_q
  std::span<const float> sinks;
  float scale, other_scale;
  std::int32_t window_left = -1;
  AttentionOutput out;

  Given(const fl_serving_call* call, bool prefill, bool cudnn, bool with_workspace)
      : c(with_sizes(read(call, "call"))), q(tensor_of(c.q, "q")), o(tensor_of(c.o, "o")), kv(paged_cache_of(c.kv)),
        block_tables(array(c.block_tables, std::int64_t{c.batch} * c.max_pages, "block_tables")),
        seq_lens(array(c.seq_lens, c.batch, "seq_lens")), there(flag(c.lengths_on_device, "lengths_on_device")),
        lens_on_device(there && prefill && cudnn), sinks(if_given(c.sinks, heads_of(q))),
        scale(c.bmm1_scale == 0 ? 1 : c.bmm1_scale), other_scale(c.bmm2_scale == 0 ? 1 : c.bmm2_scale),
        out{o, if_given(c.lse_log2, rows_and_heads(q)), if_given(c.lse_natural, rows_and_heads(q))} {
    const KvScales scales = scales_of(c.kv, kv.num_kv_heads);
    constexpr const char* rule = "must be 0 here: bmm1_scale and bmm2_scale are the scales of these calls";
    require(scales.k == 1, "kv.k_scale", scales.k, rule);
    require(scales.v == 1, "kv.v_scale", scales.v, rule);
    require_null(scales.k_per_head.data(), "kv.k_scale_per_head", "must be NULL here: these calls have no scales per head");
    require_null(scales.v_per_head.data(), "kv.v_scale_per_head", "must be NULL here: these calls have no scales per head");
    if (with_workspace) workspace = workspace_of(c.workspace_buffer);
    require(prefill || !there, "lengths_on_device", 1, "must be 0: it is a prefill's; a decode's lengths always lie there");
    if (lens_on_device) seq_lens_q = array(c.seq_lens_q, c.batch, "seq_lens_q");
    else if (prefill) cum_seq_lens_q = array(c.cum_seq_lens_q, std::int64_t{c.batch} + 1, "cum_seq_lens_q");
    if (!prefill) require_null(c.cum_seq_lens_q, "cum_seq_lens_q", "must be NULL: it is a prefill's");
    if (lens_on_device) require_null(c.cum_seq_lens_q, "cum_seq_lens_q", "must be NULL: seq_lens_q says as much");
    else require_null(c.seq_lens_q, "seq_lens_q", "must be NULL: it is cuDNN's prefill's, with lengths_on_device");
    if (flag(c.use_window, "use_window")) {
      require(c.window_left >= 0, "window_left", c.window_left, "must be at least 0, since use_window is 1");
      window_left = c.window_left;
    } else {
      require(c.window_left == 0 || c.window_left == -1, "window_left", c.window_left, "counts with use_window = 1 only");
    }
    require(!cudnn || c.use_window == 0, "use_window", c.use_window, "must be 0: cuDNN's calls have no window");
    require(!cudnn || c.sinks == nullptr, "sinks", "a pointer", "must be NULL: cuDNN's calls have none");
    require(!cudnn || other_scale == 1, "bmm2_scale", other_scale, "must be 1, or 0 for 1");
    require((prefill && cudnn) || c.causal == 0, "causal", c.causal, "must be 0: it is cuDNN's prefill's");
  }
};

// use(call): the C++ call that `which` names.
template <class Use>
void with_call(std::int32_t which, const fl_serving_call* call, bool with_workspace, Use&& use) {
  require(which >= FL_TRTLLM_BATCH_DECODE && which <= FL_XQA, "which", which,
          "must be one of FL_TRTLLM_BATCH_DECODE .. FL_XQA");
  const bool prefill = which == FL_TRTLLM_BATCH_CONTEXT || which == FL_CUDNN_BATCH_PREFILL;
  const Given g(call, prefill, which == FL_CUDNN_BATCH_DECODE || which == FL_CUDNN_BATCH_PREFILL, with_workspace);
  const bool drafts = which == FL_TRTLLM_BATCH_DECODE || which == FL_XQA;
  require(prefill || drafts || g.c.max_q_len == 0, "max_q_len", g.c.max_q_len,
          "must be 0: this decode has one query a request");
  require(drafts || g.c.mask == nullptr, "mask", "a pointer", "must be NULL: it is of trtllm's decode and of xqa");
  const std::int32_t q_len = g.c.max_q_len == 0 ? 1 : g.c.max_q_len;
  const Words mask = if_given(g.c.mask, std::int64_t{g.c.batch} * q_len * words_of_row(q_len));
  if (which == FL_TRTLLM_BATCH_DECODE) {
    return use(api::TrtllmBatchDecode{.query = g.q, .kv_cache = g.kv, .workspace_buffer = g.workspace,
                                      .block_tables = g.block_tables, .seq_lens = g.seq_lens, .max_seq_len = g.c.max_kv_len,
                                      .bmm1_scale = g.scale, .bmm2_scale = g.other_scale, .window_left = g.window_left,
                                      .out = g.out, .sinks = g.sinks, .q_len_per_req = q_len, .mask = mask});
  }
  if (which == FL_TRTLLM_BATCH_CONTEXT) {
    return use(api::TrtllmBatchContext{
        .query = g.q, .kv_cache = g.kv, .workspace_buffer = g.workspace, .block_tables = g.block_tables,
        .seq_lens = g.seq_lens, .max_q_len = g.c.max_q_len, .max_kv_len = g.c.max_kv_len, .bmm1_scale = g.scale,
        .bmm2_scale = g.other_scale, .batch_size = g.c.batch, .cum_seq_lens_q = g.cum_seq_lens_q, .cum_seq_lens_kv = {},
        .window_left = g.window_left, .out = g.out, .sinks = g.sinks, .lengths_on_device = g.there});
  }
  if (which == FL_CUDNN_BATCH_DECODE) {
    return use(api::CudnnBatchDecode{.q = g.q, .kv_cache = g.kv, .scale = g.scale, .workspace_buffer = g.workspace,
                                     .max_sequence_kv = g.c.max_kv_len, .actual_seq_lens_kv = g.seq_lens,
                                     .block_tables = g.block_tables, .out = g.out});
  }
  if (which == FL_CUDNN_BATCH_PREFILL) {
    std::vector<std::int32_t> lens_q(g.lens_on_device ? 0 : g.seq_lens.size());
    if (!g.lens_on_device) validate_qo_indptr(g.cum_seq_lens_q, g.c.batch, "cum_seq_lens_q");
    for (std::size_t b = 0; b < lens_q.size(); ++b) lens_q[b] = g.cum_seq_lens_q[b + 1] - g.cum_seq_lens_q[b];
    return use(api::CudnnBatchPrefill{.q = g.q, .kv_cache = g.kv, .scale = g.scale, .workspace_buffer = g.workspace,
                                      .max_token_per_sequence = g.c.max_q_len, .max_sequence_kv = g.c.max_kv_len,
                                      .actual_seq_lens_q = g.lens_on_device ? g.seq_lens_q : Ints(lens_q),
                                      .actual_seq_lens_kv = g.seq_lens, .block_tables = g.block_tables,
                                      .causal = flag(g.c.causal, "causal"), .out = g.out,
                                      .lengths_on_device = g.lens_on_device});
  }
  require(g.c.max_kv_len == 0, "max_kv_len", g.c.max_kv_len, "must be 0: xqa takes what max_pages holds");
  use(api::Xqa{.q = g.q, .kv_cache = g.kv, .page_table = g.block_tables,
               .seq_lens = {reinterpret_cast<const std::uint32_t*>(g.seq_lens.data()), g.seq_lens.size()}, .output = g.out,
               .workspace_buffer = g.workspace, .sinks = g.sinks, .q_scale = g.scale, .kv_scale = g.other_scale,
               .sliding_win_size = std::min(g.window_left, std::numeric_limits<std::int32_t>::max() - 1) + 1,
               .q_seq_len = q_len, .mask = mask});
}

void attend(const api::TrtllmBatchDecode& call, const api::On& on) { trtllm_batch_decode_with_kv_cache(call, on); }
void attend(const api::TrtllmBatchContext& call, const api::On& on) { trtllm_batch_context_with_kv_cache(call, on); }
void attend(const api::CudnnBatchDecode& call, const api::On& on) { cudnn_batch_decode_with_kv_cache(call, on); }
void attend(const api::CudnnBatchPrefill& call, const api::On& on) { cudnn_batch_prefill_with_kv_cache(call, on); }
void attend(const api::Xqa& call, const api::On& on) { xqa(call, on); }

}  // namespace

fl_status fl_serving_bytes(std::int32_t which, const fl_serving_call* call, const fl_on* on, std::size_t* device_bytes,
                           std::size_t* staging_bytes) {
  return guarded([&] {
    out_pointer(device_bytes, "device_bytes"), out_pointer(staging_bytes, "staging_bytes");
    with_call(which, call, false, [&](const auto& made) {
      const api::WorkspaceBytes bytes = api::workspace_bytes(made, on_of(on));
      *device_bytes = bytes.device, *staging_bytes = bytes.staging;
    });
  });
}

fl_status fl_serving_run(std::int32_t which, const fl_serving_call* call, const fl_on* on) {
  return guarded([&] { with_call(which, call, true, [&](const auto& made) { attend(made, on_of(on)); }); });
}
