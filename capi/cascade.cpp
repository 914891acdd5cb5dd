// fl_cascade: one MultiLevelCascadeAttention. Levels are fl_batch, as a prefill over page lists has them.
#include <memory>
#include <string>
#include <vector>

#include "api/multi_level_cascade.hpp"
#include "capi/arguments.hpp"
#include "capi/errors.hpp"
#include "capi/plan_json.hpp"
#include "core/checks.hpp"

using namespace flashladder;
using namespace flashladder::capi;

struct fl_cascade {
  api::MultiLevelCascadeAttention attention;
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

std::vector<api::CascadeLevel> levels_of(const fl_batch* const* levels, std::int32_t num_levels) {
  std::vector<api::CascadeLevel> made;
  for_each_level(levels, num_levels, [&](const fl_batch* level, const std::string& name) {
    const fl_batch given = read(level, name.c_str());
    made.push_back(in_element("levels", std::ssize(made), [&]() -> api::CascadeLevel {
      require_null(given.seq_lens, "seq_lens", "must be NULL: a level has page lists");
      require_null(given.page_ids, "page_ids", "must be NULL: fl_cascade_run takes page ids");
      require(given.lengths_on_device == 0, "lengths_on_device", given.lengths_on_device,
              "must be 0: lengths of a cascade are the host's");
      const api::BatchLengths lengths = lengths_of(given, {.decode = false});
      return {lengths.qo_indptr, lengths.paged_kv_indptr, lengths.paged_kv_last_page_len};
    }));
  });
  return made;
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
    put_all(api::MultiLevelCascadeAttention::workspace_bytes(config_of(config), levels_of(levels, num_levels)), device_bytes,
            staging_bytes, least_device_bytes);
  });
}

fl_status fl_cascade_bytes_for_limits(const fl_attention_config* config, const fl_attention_limits* const* levels,
                                      std::int32_t num_levels, std::size_t* device_bytes, std::size_t* staging_bytes,
                                      std::size_t* least_device_bytes) {
  return guarded([&] {
    std::vector<api::AttentionLimits> limits;
    for_each_level(levels, num_levels, [&](const fl_attention_limits* level, const std::string& name) {
      require_pointer(level, name.c_str());
      limits.push_back(limits_of(level));
    });
    put_all(api::MultiLevelCascadeAttention::workspace_bytes(config_of(config), limits), device_bytes, staging_bytes,
            least_device_bytes);
  });
}

fl_status fl_cascade_create(std::int32_t num_levels, const fl_attention_config* config, const fl_workspace* workspace,
                            fl_cascade** out) {
  return guarded([&] {
    *out_pointer(out) = nullptr;
    const api::AttentionConfig c = config_of(config);
    auto cascade = std::make_unique<fl_cascade>(
        fl_cascade{{num_levels, c, workspace_of(workspace)}, c.heads.num_qo_heads, false, {}});
    *out = cascade.release();
  });
}

void fl_cascade_destroy(fl_cascade* cascade) { delete cascade; }

fl_status fl_cascade_plan(fl_cascade* cascade, const fl_batch* const* levels, std::int32_t num_levels, void* stream) {
  return guarded([&] {
    fl_cascade& c = *require_pointer(cascade, "cascade");
    c.planned = false;  // until all is well
    c.attention.plan(levels_of(levels, num_levels), stream);
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
    const auto ids = array(page_ids, num_levels, "page_ids");
    const auto counts = array(num_page_ids, num_levels, "num_page_ids");
    std::vector<std::span<const std::int32_t>> levels;
    for (std::size_t l = 0; l < ids.size(); ++l) {
      levels.push_back(array(ids[l], counts[l], element("page_ids", static_cast<std::int64_t>(l)).c_str()));
    }
    const api::AttentionArguments a = arguments_of(given, c.num_qo_heads);
    const PagedKvCache kv = paged_cache_of(given.kv);
    c.attention.run(a.q, kv, levels, a.output, stream, a.sinks, scales_of(given.kv, kv.num_kv_heads));
  });
}

fl_status fl_cascade_explain(fl_cascade* cascade, const char** text) {
  return guarded([&] {
    out_pointer(text, "text");
    require_pointer(cascade, "cascade")->text = cascade->attention.explain();
    *text = cascade->text.c_str();
  });
}

fl_status fl_cascade_plan_json(fl_cascade* cascade, std::int32_t level, const char** json) {
  return guarded([&] {
    out_pointer(json, "json");
    fl_cascade& c = *require_pointer(cascade, "cascade");
    require(c.planned, "fl_cascade_plan_json", "", "must come after plan()");
    c.text = plan_json(c.attention.current_plan(level), c.attention.explain());
    *json = c.text.c_str();
  });
}
