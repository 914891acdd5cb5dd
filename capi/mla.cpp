// fl_mla: an AttentionSession of latent attention, which is what BatchMLAPagedAttention is. And its calls over a block table.
#include <algorithm>
#include <memory>
#include <string>

#include "api/attention_session.hpp"
#include "api/batch_mla.hpp"
#include "api/serving_mla.hpp"
#include "capi/arguments.hpp"
#include "capi/errors.hpp"
#include "capi/plan_json.hpp"
#include "capi/structs.hpp"

using namespace flashladder;
using namespace flashladder::capi;

struct fl_mla {
  api::AttentionSession session;
  bool planned;
  std::string text;  // what fl_mla_explain or fl_mla_plan_json gave last
};

namespace {

api::AttentionSession session_of(const fl_mla_config* config, const api::AttentionLimits& limits) {
  return {mla_config_of(config).attention(), {.decode = false, .latent = true, .graph = limits}};
}

api::TrtllmBatchDecodeMla decode_of(const fl_mla_decode_call* call, bool with_workspace) {
  const fl_mla_decode_call c = read(call, "call");
  require(c.batch >= 0, "batch", c.batch, "must not be negative");
  require(c.max_pages >= 0, "max_pages", c.max_pages, "must not be negative");
  const MlaScales scales = mla_scales_of(c.kv_cache);
  constexpr const char* rule = "must be 0 here: bmm1_scale and bmm2_scale are the scales of this call";
  require(scales.k == 1, "kv_cache.ckv_scale", scales.k, rule);
  require(scales.kpe == 1, "kv_cache.kpe_scale", scales.kpe, rule);
  const Tensor query = tensor_of(c.query, "query");
  require(query.rank == 3 || query.rank == 4, "query rank", query.rank, "must be 4, or 3 with one query a request");
  const std::int64_t q_len = query.rank == 3 ? 1 : query.shape[1];
  const std::int64_t rows = std::max<std::int64_t>(c.batch * q_len * query.shape[query.rank == 3 ? 1 : 2], 0);
  return {.query = query, .kv_cache = mla_cache_of(c.kv_cache),
          .workspace_buffer = with_workspace ? workspace_of(c.workspace_buffer) : api::Workspace{},
          .block_tables = array(c.block_tables, std::int64_t{c.batch} * c.max_pages, "block_tables"),
          .seq_lens = array(c.seq_lens, c.batch, "seq_lens"), .max_seq_len = c.max_seq_len, .bmm1_scale = c.bmm1_scale,
          .bmm2_scale = c.bmm2_scale == 0 ? 1 : c.bmm2_scale,
          .out = {tensor_of(c.o, "o"), if_given(c.lse_log2, rows), if_given(c.lse_natural, rows)}};
}

}  // namespace

fl_status fl_mla_decode_bytes(const fl_mla_decode_call* call, const fl_on* on, std::size_t* device_bytes,
                              std::size_t* staging_bytes) {
  return guarded([&] {
    out_pointer(device_bytes, "device_bytes"), out_pointer(staging_bytes, "staging_bytes");
    put(api::workspace_bytes(decode_of(call, false), on_of(on)), device_bytes, staging_bytes);
  });
}

fl_status fl_mla_decode_run(const fl_mla_decode_call* call, const fl_on* on) {
  return guarded([&] { api::trtllm_batch_decode_with_kv_cache_mla(decode_of(call, true), on_of(on)); });
}

fl_status fl_mla_bytes_for_limits(const fl_mla_config* config, const fl_attention_limits* limits, std::size_t* device_bytes,
                                  std::size_t* staging_bytes) {
  return guarded([&] {
    const api::AttentionLimits most = limits_of(limits);
    put(session_of(config, most).bytes_for(most), device_bytes, staging_bytes);
  });
}

fl_status fl_mla_create(const fl_mla_config* config, const fl_attention_limits* limits, const fl_workspace* workspace,
                        fl_mla** out) {
  return guarded([&] {
    *out_pointer(out) = nullptr;
    auto mla = std::make_unique<fl_mla>(fl_mla{session_of(config, limits_of(limits)), false, {}});
    mla->session.attach(workspace_of(workspace));
    *out = mla.release();
  });
}

void fl_mla_destroy(fl_mla* mla) { delete mla; }

fl_status fl_mla_plan(fl_mla* mla, const fl_batch* batch, void* stream) {
  return guarded([&] {
    fl_mla& m = *require_pointer(mla, "mla");
    m.planned = false;  // until all is well
    const fl_batch given = read(batch, "batch");
    require(given.lengths_on_device == 0, "lengths_on_device", given.lengths_on_device, "must be 0: lengths are the host's");
    m.session.plan(lengths_of(given, {.decode = false}), page_ids_of(given.page_ids, given.num_page_ids),
                   device_of(given.page_ids_on, "page_ids_on"), stream);
    m.planned = true;
  });
}

fl_status fl_mla_run(fl_mla* mla, const fl_mla_arguments* arguments, void* stream) {
  return guarded([&] {
    fl_mla& m = *require_pointer(mla, "mla");
    require(m.planned, "fl_mla_run", "", "must come after plan(); none is in force, or the last one was refused");
    const fl_mla_arguments a = read(arguments, "arguments");
    const Tensor q_nope = tensor_of(a.q_nope, "q_nope");
    const std::int64_t lse = rows_and_heads(q_nope);
    m.session.run({.q = q_nope, .kv = {}, .page_ids = {},
                   .output = {tensor_of(a.o, "o"), if_given(a.lse_log2, lse), if_given(a.lse_natural, lse)}, .sinks = {},
                   .latent = api::LatentTensors{tensor_of(a.q_pe, "q_pe"), mla_cache_of(a.cache), mla_scales_of(a.cache)}},
                  stream);
  });
}

fl_status fl_mla_explain(fl_mla* mla, const char** text) {
  return guarded([&] {
    out_pointer(text, "text");
    require_pointer(mla, "mla")->text = mla->session.explain();
    *text = mla->text.c_str();
  });
}

fl_status fl_mla_plan_json(fl_mla* mla, const char** json) {
  return guarded([&] {
    out_pointer(json, "json");
    require(require_pointer(mla, "mla")->planned, "fl_mla_plan_json", "", "must come after plan()");
    mla->text = plan_json(mla->session.current_plan(), mla->session.explain());
    *json = mla->text.c_str();
  });
}
