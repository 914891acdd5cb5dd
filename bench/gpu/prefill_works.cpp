// Family prefill: the public prefill classes, paged and ragged, as their users call them: plan() once, then run(). A case
// that was asked for is timed on both backends, or on fa2 alone where fa3 refuses it.
#include <memory>
#include <optional>
#include <variant>

#include "api/batch_prefill.hpp"
#include "bench/gpu/api_decode.hpp"
#include "bench/gpu/families.hpp"
#include "bench/gpu/prefill_data.hpp"
#include "core/error.hpp"
#include "gpu/device.hpp"

namespace flashladder::bench {
namespace {

using Paged = api::BatchPrefillWithPagedKVCache;
using Ragged = api::BatchPrefillWithRaggedKVCache;

struct PrefillRun {
  PrefillData data;
  gpu::DeviceBuffer workspace;
  std::unique_ptr<Pinned> staging;
  std::variant<std::monostate, Paged, Ragged> prefill;

  PrefillRun(const ladder::CaseSpec& spec, api::Backend backend) : data(spec) {
    const api::AttentionConfig config =
        api::config_for(data.spec().params, {.page_size = data.spec().page_size, .dtype = spec.dtype},
                        {.device = Device::gpu, .backend = backend});
    const auto &qo = data.qo_indptr(), &kv = data.kv_indptr();
    const api::WorkspaceBytes bytes = data.ragged() ? Ragged::workspace_bytes(config, qo, kv)
                                                    : Paged::workspace_bytes(config, qo, kv, data.last_page_len());
    workspace = gpu::DeviceBuffer(bytes.device);
    staging = std::make_unique<Pinned>(bytes.staging);
    const api::Workspace memory{{workspace.data(), workspace.size()}, staging->bytes};
    if (data.ragged()) {
      prefill.emplace<Ragged>(config, memory);
    } else {
      prefill.emplace<Paged>(config, memory);
    }
  }

  void plan(void* stream) {
    if (auto* ragged = std::get_if<Ragged>(&prefill)) return ragged->plan(data.qo_indptr(), data.kv_indptr(), stream);
    std::get<Paged>(prefill).plan(data.qo_indptr(), data.kv_indptr(), data.last_page_len(), stream);
  }

  void launch(void* stream) {
    if (auto* ragged = std::get_if<Ragged>(&prefill)) {
      return ragged->run(data.q(), data.k(), data.v(), data.output(), stream, data.sinks(), data.custom_mask());
    }
    std::get<Paged>(prefill).run(data.q(), paged_kv_cache(data.k(), data.v(), KvLayout::NHD), data.page_ids(), data.output(),
                                 stream, data.sinks(), data.custom_mask());
  }
};

// None: fa3 refuses a case that fa2 is asked for too.
std::shared_ptr<PrefillRun> planned_run(const PrefillCase& c, api::Backend backend, const Timer& timer, const Say& say) {
  try {
    const auto run = std::make_shared<PrefillRun>(c.spec, backend);
    run->plan(timer->stream());
    return run;
  } catch (const InputError& refusal) {
    if (backend != api::Backend::fa3 || !c.fa2_too) throw;
    say(c.spec.name + ", fa3: " + refusal.what());
    return nullptr;
  }
}

}  // namespace

std::vector<TimedWork> prefill_works(const GpuWorkOptions& options, const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const PrefillCase& c : chosen_or(options.specs, prefill_cases)) {
    if (options.late()) break;
    std::vector<api::Backend> backends;
    if (gpu::why_no_hopper().empty()) backends.push_back(api::Backend::fa3);
    if (backends.empty() || c.fa2_too) backends.push_back(api::Backend::fa2);
    for (const api::Backend backend : backends) {
      say("checking " + c.spec.name);
      const std::shared_ptr<PrefillRun> run = planned_run(c, backend, timer, say);
      if (run == nullptr) continue;
      const Launch launch = [run](void* stream) { run->launch(stream); };
      const PrefillData::Check check = run->data.check(*timer, launch);
      works.push_back({.line = {.family = name_of(Family::prefill), .work = c.spec.name,
                                .backend = std::string("flashladder ") + api::name_of(backend), .error = check.error,
                                .nearest = check.nearest},
                       .bytes = c.bytes(), .flops = c.flops(), .checked = checked_rows, .failure = check.failure,
                       .time_us = [=] { return timer->event_us(launch); }});
    }
  }
  return works;
}

}  // namespace flashladder::bench
