// fl_attention: one AttentionSession, which is what the C++ classes of plan and run are, and single calls.
#include <memory>
#include <optional>
#include <string>

#include "api/attention_session.hpp"
#include "api/contiguous_cache.hpp"
#include "api/single_attention.hpp"
#include "capi/arguments.hpp"
#include "capi/errors.hpp"
#include "capi/plan_json.hpp"
#include "capi/structs.hpp"

using namespace flashladder;
using namespace flashladder::capi;

struct fl_attention {
  api::AttentionSession session;
  api::AttentionSession::Kind kind;
  std::int32_t num_qo_heads;
  bool planned;
  std::string text;  // what fl_attention_explain or fl_attention_plan_json gave last
};

namespace {

using Kind = api::AttentionSession::Kind;

bool is_graph(std::int32_t kind) {
  return kind == FL_GRAPH_DECODE || kind == FL_GRAPH_PREFILL || kind == FL_BATCH_ATTENTION || kind == FL_GRAPH_RAGGED_PREFILL;
}

Kind kind_of(std::int32_t kind) {
  require(kind >= FL_DECODE && kind <= FL_GRAPH_RAGGED_PREFILL, "kind", kind,
          "must be one of FL_DECODE .. FL_GRAPH_RAGGED_PREFILL");
  return {.decode = kind == FL_DECODE || kind == FL_GRAPH_DECODE,
          .ragged = kind == FL_RAGGED_PREFILL || kind == FL_GRAPH_RAGGED_PREFILL, .mixed = kind == FL_BATCH_ATTENTION};
}

api::WorkspaceBytes bytes_for_batch(std::int32_t kind, const fl_attention_config* config, const fl_batch* batch) {
  require(!is_graph(kind), "kind", kind, "must be no graph: a graph's memory is for limits");
  const Kind made = kind_of(kind);
  api::AttentionSession session(config_of(config), made);
  return session.bytes_for(lengths_of(read(batch, "batch"), made));
}
api::WorkspaceBytes bytes_for_limits(std::int32_t kind, const fl_attention_config* config,
                                     const fl_attention_limits* limits) {
  Kind made = kind_of(kind);
  const api::AttentionLimits most = limits_of(limits);
  if (is_graph(kind)) made.graph = most;
  return api::AttentionSession(config_of(config), made).bytes_for(most);
}

using Single = void (*)(const ConstTensor&, const ConstTensor&, const ConstTensor&, const AttentionOutput&,
                        const api::SingleAttentionOptions&, const api::On&);

fl_status single(const fl_attention_arguments* arguments, const fl_logits* logits, const fl_on* on, Single call) {
  return guarded([&] {
    const fl_attention_arguments given = read(arguments, "arguments");
    require_null(given.page_ids, "page_ids", "must be NULL: the cache has no pages");
    require(given.num_page_ids == 0, "num_page_ids", given.num_page_ids, "must be 0: the cache has no pages");
    const fl_kv_cache kv = read(given.kv, "kv");
    const api::AttentionArguments a = arguments_of(given, heads_of(tensor_of(given.q, "q")));
    const KvLayout layout = layout_of(kv.layout, "kv.layout");
    const Tensor k = tensor_of(kv.k, "kv.k");
    const std::int64_t kv_heads = k.shape[layout == KvLayout::NHD ? 1 : 0];
    call(a.q, k, tensor_of(kv.v, "kv.v"), a.output,
         {.logits = logits_of(logits), .kv_layout = layout, .sinks = a.sinks,
          .custom_mask = a.custom_mask, .packed_custom_mask = a.packed_custom_mask, .scales = scales_of(given.kv, kv_heads)},
         on_of(on));
  });
}

}  // namespace

fl_status fl_attention_bytes_for_batch(std::int32_t kind, const fl_attention_config* config, const fl_batch* batch,
                                       std::size_t* device_bytes, std::size_t* staging_bytes) {
  return guarded([&] { put(bytes_for_batch(kind, config, batch), device_bytes, staging_bytes); });
}

fl_status fl_attention_bytes_for_limits(std::int32_t kind, const fl_attention_config* config,
                                        const fl_attention_limits* limits, std::size_t* device_bytes,
                                        std::size_t* staging_bytes) {
  return guarded([&] { put(bytes_for_limits(kind, config, limits), device_bytes, staging_bytes); });
}
fl_status fl_attention_least_device_bytes_for_batch(std::int32_t kind, const fl_attention_config* config,
                                                    const fl_batch* batch, std::size_t* device_bytes) {
  return guarded(
      [&] { *out_pointer(device_bytes, "device_bytes") = bytes_for_batch(kind, config, batch).least_device; });
}
fl_status fl_attention_least_device_bytes_for_limits(std::int32_t kind, const fl_attention_config* config,
                                                     const fl_attention_limits* limits, std::size_t* device_bytes) {
  return guarded(
      [&] { *out_pointer(device_bytes, "device_bytes") = bytes_for_limits(kind, config, limits).least_device; });
}

fl_status fl_attention_create(std::int32_t kind, const fl_attention_config* config, const fl_attention_limits* limits,
                              const fl_workspace* workspace, fl_attention** out) {
  return guarded([&] {
    *out_pointer(out) = nullptr;
    Kind made = kind_of(kind);
    if (is_graph(kind)) made.graph = limits_of(limits);
    else require_null(limits, "limits", "must be NULL: only graphs are made for limits");
    const api::AttentionConfig c = config_of(config);
    auto attention = std::make_unique<fl_attention>(
        fl_attention{api::AttentionSession(c, made), made, c.heads.num_qo_heads, false, {}});
    attention->session.attach(workspace_of(workspace));
    *out = attention.release();
  });
}

void fl_attention_destroy(fl_attention* attention) { delete attention; }

fl_status fl_attention_plan(fl_attention* attention, const fl_batch* batch, void* stream) {
  return guarded([&] {
    fl_attention& a = *require_pointer(attention, "attention");
    a.planned = false;  // until all is well
    const fl_batch given = read(batch, "batch");
    if (!a.kind.graph || a.kind.ragged) {
      require_null(given.page_ids, "page_ids", a.kind.ragged ? "must be NULL: a ragged cache has none"
                                                             : "must be NULL: only graphs keep page ids, others take run()'s");
    }
    a.session.plan(lengths_of(given, a.kind), page_ids_of(given.page_ids, given.num_page_ids),
                   device_of(given.page_ids_on, "page_ids_on"), stream);
    a.planned = true;
  });
}

fl_status fl_attention_run(fl_attention* attention, const fl_attention_arguments* arguments, void* stream) {
  return guarded([&] {
    fl_attention& a = *require_pointer(attention, "attention");
    require(a.planned, "fl_attention_run", "", "must come after plan(); none is in force, or the last one was refused");
    const fl_attention_arguments given = read(arguments, "arguments");
    const bool takes_ids = !a.kind.graph && !a.kind.ragged;
    if (!takes_ids) {
      require_null(given.page_ids, "page_ids", "must be NULL: a graph keeps plan()'s, a ragged cache has none");
    }
    api::AttentionArguments made = arguments_of(given, a.num_qo_heads);
    made.kv = a.kind.ragged ? tokens_of(given.kv) : paged_cache_of(given.kv);
    made.identity_pages = a.kind.ragged;
    made.scales = scales_of(given.kv, made.kv.num_kv_heads);
    a.session.run(made, stream);
  });
}

fl_status fl_attention_explain(fl_attention* attention, const char** text) {
  return guarded([&] {
    out_pointer(text, "text");
    require_pointer(attention, "attention")->text = attention->session.explain();
    *text = attention->text.c_str();
  });
}

fl_status fl_attention_plan_json(fl_attention* attention, const char** json) {
  return guarded([&] {
    out_pointer(json, "json");
    require(require_pointer(attention, "attention")->planned, "fl_attention_plan_json", "", "must come after plan()");
    attention->text = plan_json(attention->session.current_plan(), attention->session.explain());
    *json = attention->text.c_str();
  });
}

fl_status fl_single_decode_with_kv_cache(const fl_attention_arguments* arguments, const fl_logits* logits,
                                         const fl_on* on) {
  return single(arguments, logits, on, api::single_decode_with_kv_cache);
}
fl_status fl_single_prefill_with_kv_cache(const fl_attention_arguments* arguments, const fl_logits* logits,
                                          const fl_on* on) {
  return single(arguments, logits, on, api::single_prefill_with_kv_cache);
}
