// fl_cascade: one MultiLevelCascadeAttention, or its sister for graphs. Levels are fl_batch, as of a prefill over page lists.
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "api/multi_level_cascade.hpp"
#include "capi/arguments.hpp"
#include "capi/errors.hpp"
#include "capi/plan_json.hpp"
#include "core/checks.hpp"

using namespace flashladder;
using namespace flashladder::capi;

using Cascade = api::MultiLevelCascadeAttention;
using GraphCascade = api::CUDAGraphMultiLevelCascadeAttention;

struct fl_cascade {
  std::variant<Cascade, GraphCascade> attention;
  std::int32_t num_qo_heads;
  bool planned;
  std::string text;  // what fl_cascade_explain or fl_cascade_plan_json gave last
};

namespace {

// Each of num_levels pointers, read by use(pointer, name).
template <class Struct, class Use>
void for_each_level(const Struct* const* levels, std::int32_t num_levels, Use&& use) {
  const auto all = array(levels, num_levels, "levels");
  for (std::size_t l = 0; l < all.size(); ++l) use(all[l], element("levels", static_cast<std::int64_t>(l)));
}

// A batch as plan() takes it: page ids are a graph's, all of them on the device of the first level's.
struct Levels {
  std::vector<api::CascadeLevel> lengths;
  std::vector<std::span<const std::int32_t>> page_ids;
  Device ids_on = Device::cpu;

  Levels(const fl_batch* const* levels, std::int32_t num_levels, bool graph) {
    for_each_level(levels, num_levels, [&](const fl_batch* level, const std::string& name) {
      const fl_batch given = read(level, name.c_str());
      in_element("levels", std::ssize(lengths), [&] { add(given, graph); });
    });
  }

 private:
  void add(const fl_batch& given, bool graph) {
    require_null(given.seq_lens, "seq_lens", "must be NULL: a level has page lists");
    require(given.lengths_on_device == 0, "lengths_on_device", given.lengths_on_device,
            "must be 0: lengths of a cascade are the host's");
    if (!graph) require_null(given.page_ids, "page_ids", "must be NULL: fl_cascade_run takes page ids");
    const Device on = device_of(given.page_ids_on, "page_ids_on");
    if (lengths.empty()) ids_on = on;
    require(on == ids_on, "page_ids_on", given.page_ids_on, "must be that of level 0");
    const api::BatchLengths of = lengths_of(given, {.decode = false});
    lengths.push_back({of.qo_indptr, of.paged_kv_indptr, of.paged_kv_last_page_len});
    page_ids.push_back(page_ids_of(given.page_ids, given.num_page_ids));
  }
};

std::vector<api::AttentionLimits> limits_of_levels(const fl_attention_limits* const* levels, std::int32_t num_levels) {
  std::vector<api::AttentionLimits> limits;
  for_each_level(levels, num_levels, [&](const fl_attention_limits* level, const std::string& name) {
    require_pointer(level, name.c_str());
    limits.push_back(limits_of(level));
  });
  return limits;
}

std::string explained(const fl_cascade& cascade) {
  return std::visit([](const auto& a) { return a.explain(); }, cascade.attention);
}

// NULL: not wanted.
void put_all(const api::WorkspaceBytes& bytes, std::size_t* device_bytes, std::size_t* staging_bytes,
             std::size_t* least_device_bytes) {
  put(bytes, device_bytes, staging_bytes);
  if (least_device_bytes != nullptr) *least_device_bytes = bytes.least_device;
}

}  // namespace

fl_status fl_cascade_bytes_for_batch(const fl_attention_config* config, const fl_batch* const* levels,
                                     std::int32_t num_levels, std::size_t* device_bytes, std::size_t* staging_bytes,
                                     std::size_t* least_device_bytes) {
  return guarded([&] {
    const Levels given(levels, num_levels, false);
    put_all(Cascade::workspace_bytes(config_of(config), given.lengths), device_bytes, staging_bytes, least_device_bytes);
  });
}

fl_status fl_cascade_bytes_for_limits(const fl_attention_config* config, const fl_attention_limits* const* levels,
                                      std::int32_t num_levels, std::size_t* device_bytes, std::size_t* staging_bytes,
                                      std::size_t* least_device_bytes) {
  return guarded([&] {
    put_all(Cascade::workspace_bytes(config_of(config), limits_of_levels(levels, num_levels)), device_bytes, staging_bytes,
            least_device_bytes);
  });
}

fl_status fl_cascade_graph_bytes(const fl_attention_config* config, const fl_attention_limits* const* levels,
                                 std::int32_t num_levels, std::size_t* device_bytes, std::size_t* staging_bytes,
                                 std::size_t* least_device_bytes) {
  return guarded([&] {
    put_all(GraphCascade::workspace_bytes(config_of(config), limits_of_levels(levels, num_levels)), device_bytes,
            staging_bytes, least_device_bytes);
  });
}

fl_status fl_cascade_create(std::int32_t num_levels, const fl_attention_config* config, const fl_workspace* workspace,
                            fl_cascade** out) {
  return guarded([&] {
    *out_pointer(out) = nullptr;
    const api::AttentionConfig c = config_of(config);
    auto cascade = std::make_unique<fl_cascade>(
        fl_cascade{Cascade(num_levels, c, workspace_of(workspace)), c.heads.num_qo_heads, false, {}});
    *out = cascade.release();
  });
}

fl_status fl_cascade_graph_create(std::int32_t num_levels, const fl_attention_config* config,
                                  const fl_attention_limits* const* levels, const fl_workspace* workspace, fl_cascade** out) {
  return guarded([&] {
    *out_pointer(out) = nullptr;
    const api::AttentionConfig c = config_of(config);
    GraphCascade made(c, limits_of_levels(levels, num_levels), workspace_of(workspace));
    *out = std::make_unique<fl_cascade>(fl_cascade{std::move(made), c.heads.num_qo_heads, false, {}}).release();
  });
}

void fl_cascade_destroy(fl_cascade* cascade) { delete cascade; }

fl_status fl_cascade_plan(fl_cascade* cascade, const fl_batch* const* levels, std::int32_t num_levels, void* stream) {
  return guarded([&] {
    fl_cascade& c = *require_pointer(cascade, "cascade");
    c.planned = false;  // until all is well
    auto* graph = std::get_if<GraphCascade>(&c.attention);
    const Levels given(levels, num_levels, graph != nullptr);
    if (graph != nullptr) graph->plan(given.lengths, given.page_ids, stream, given.ids_on);
    else std::get<Cascade>(c.attention).plan(given.lengths, stream);
    c.planned = true;
  });
}

fl_status fl_cascade_run(fl_cascade* cascade, const fl_attention_arguments* arguments,
                         const std::int32_t* const* page_ids, const std::int64_t* num_page_ids, std::int32_t num_levels,
                         void* stream) {
  return guarded([&] {
    fl_cascade& c = *require_pointer(cascade, "cascade");
    require(c.planned, "fl_cascade_run", "", "must come after plan(); none is in force, or the last one was refused");
    const fl_attention_arguments given = read(arguments, "arguments");
    require_null(given.page_ids, "arguments.page_ids", "must be NULL: each level has its own");
    require_null(given.custom_mask, "custom_mask", "must be NULL: a cascade has no custom mask");
    require_null(given.packed_custom_mask, "packed_custom_mask", "must be NULL: a cascade has no custom mask");
    const api::AttentionArguments a = arguments_of(given, c.num_qo_heads);
    const PagedKvCache kv = paged_cache_of(given.kv);
    const KvScales scales = scales_of(given.kv, kv.num_kv_heads);
    if (auto* graph = std::get_if<GraphCascade>(&c.attention)) {
      require_null(page_ids, "page_ids", "must be NULL: a graph keeps plan()'s");
      require_null(num_page_ids, "num_page_ids", "must be NULL: a graph keeps plan()'s");
      require(num_levels == graph->num_levels(), "num_levels", num_levels, "must be the graph's");
      return graph->run(a.q, kv, a.output, stream, a.sinks, scales);
    }
    const auto ids = array(page_ids, num_levels, "page_ids");
    const auto counts = array(num_page_ids, num_levels, "num_page_ids");
    std::vector<std::span<const std::int32_t>> levels;
    for (std::size_t l = 0; l < ids.size(); ++l) {
      levels.push_back(array(ids[l], counts[l], element("page_ids", static_cast<std::int64_t>(l)).c_str()));
    }
    std::get<Cascade>(c.attention).run(a.q, kv, levels, a.output, stream, a.sinks, scales);
  });
}

fl_status fl_cascade_explain(fl_cascade* cascade, const char** text) {
  return guarded([&] {
    out_pointer(text, "text");
    require_pointer(cascade, "cascade")->text = explained(*cascade);
    *text = cascade->text.c_str();
  });
}

fl_status fl_cascade_plan_json(fl_cascade* cascade, std::int32_t level, const char** json) {
  return guarded([&] {
    out_pointer(json, "json");
    fl_cascade& c = *require_pointer(cascade, "cascade");
    require(c.planned, "fl_cascade_plan_json", "", "must come after plan()");
    const Plan& plan = std::visit([&](const auto& a) -> const Plan& { return a.current_plan(level); }, c.attention);
    c.text = plan_json(plan, explained(c));
    *json = c.text.c_str();
  });
}
