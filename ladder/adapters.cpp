#include "ladder/adapters.hpp"

#include <memory>
#include <utility>

#include "planner/planner.hpp"
#include "reference/mla/l3_planned.hpp"
#include "reference/thread_pool.hpp"

namespace flashladder::ladder {
namespace {

using reference::PlanExecutor;

// Rows: eight panels of 32 lanes read a gathered tile of keys from the cache before the next one is gathered.
constexpr std::int32_t cpu_prefill_tile = 256;

Support any_attention(const CaseSpec& spec) {
  return {is_attention_dtype(spec.dtype) ? "" : std::string("dtype ") + name_of(spec.dtype) + " is none of f32, f16, bf16"};
}

Rung cpu_rung(std::string name, std::string idea, std::string chapter, std::string must_equal, std::int32_t longest_chain) {
  return {.name = std::move(name), .idea = std::move(idea), .teaches = std::move(chapter),
          .device = Device::cpu, .must_equal = std::move(must_equal), .longest_chain = longest_chain,
          .supports = any_attention, .workspace_bytes = [](const CaseSpec&, const Settings&) { return std::size_t{0}; },
          .prepare = {}};
}

Support latent_attention(const CaseSpec& spec) {
  if (spec.op != Op::mla) return {"op " + std::string(name_of(spec.op)) + " is not mla: this rung computes latent attention"};
  return any_attention(spec);
}

// Planned, with an executor of some kind: run(executor, buffers, plan, schedule).
template <class MakeExecutor, class Run>
void make_planned(Rung& rung, const MakeExecutor& make_executor, const Run& run) {
  rung.parallel = true;
  rung.workspace_bytes = [](const CaseSpec& spec, const Settings& settings) {
    return planner::make_plan(cpu_plan_inputs(spec, settings)).workspace_bytes();
  };
  rung.prepare = [=](const Buffers& buffers, const CaseSpec& spec, const Settings& settings) -> Runner {
    const auto plan = std::make_shared<const Plan>(planner::make_plan(cpu_plan_inputs(spec, settings)));
    const auto workers = settings.threads > 0 ? PlanExecutor::Workers::exactly : PlanExecutor::Workers::at_most;
    const auto executor = make_executor(settings.thread_count(), workers);
    return [=, schedule = settings.schedule](void*) { run(*executor, buffers, *plan, schedule); };
  };
}

}  // namespace

int Settings::thread_count() const { return threads > 0 ? threads : reference::ThreadPool::hardware_threads(); }

Rung direct(std::string name, std::string idea, std::string chapter, std::string must_equal,
            reference::Attend& attend, std::int32_t longest_chain) {
  Rung rung = cpu_rung(std::move(name), std::move(idea), std::move(chapter), std::move(must_equal), longest_chain);
  rung.prepare = [attend = &attend](const Buffers& buffers, const CaseSpec&, const Settings&) -> Runner {
    return [=](void*) { attend(buffers.problem, buffers.output); };
  };
  return rung;
}

planner::PlanInputs cpu_plan_inputs(const CaseSpec& spec, const Settings& settings) {
  const AttentionParams& p = spec.params;
  return {.qo_lens = spec.qo_lens, .kv_lens = spec.kv_lens,
          .num_qo_heads = p.num_qo_heads, .num_kv_heads = p.num_kv_heads,
          .head_dim_qk = p.head_dim_qk, .head_dim_vo = p.head_dim_vo, .page_size = spec.page_size,
          .mask = p.mask, .window_left = p.window_left,
          .query_tile = cpu_prefill_tile, .decode_tile = p.group_size(),
          .policy = settings.policy, .chunk_size = settings.chunk_size,
          .machine = {.num_sms = settings.thread_count(), .ctas_per_sm = 1}};
}

Rung planned(std::string name, std::string idea, std::string chapter, std::string must_equal,
             reference::AttendItem& attend, std::int32_t longest_chain) {
  Rung rung = cpu_rung(std::move(name), std::move(idea), std::move(chapter), std::move(must_equal), longest_chain);
  make_planned(
      rung,
      [attend = &attend](int threads, PlanExecutor::Workers workers) {
        return std::make_shared<PlanExecutor>(*attend, threads, workers);
      },
      [](PlanExecutor& executor, const Buffers& buffers, const Plan& plan, reference::Schedule schedule) {
        executor.run(buffers.problem, plan, buffers.workspace, schedule, buffers.output);
      });
  return rung;
}

Rung direct_mla(std::string name, std::string idea, std::string chapter, std::string must_equal, AttendMla& attend,
                std::int32_t longest_chain) {
  Rung rung = cpu_rung(std::move(name), std::move(idea), std::move(chapter), std::move(must_equal), longest_chain);
  rung.op = Op::mla;
  rung.supports = latent_attention;
  rung.prepare = [attend = &attend](const Buffers& buffers, const CaseSpec&, const Settings&) -> Runner {
    return [=](void*) { attend(buffers.mla, buffers.output); };
  };
  return rung;
}

Rung planned_mla(std::string name, std::string idea, std::string chapter, std::string must_equal, std::int32_t longest_chain) {
  using reference::l3::Executor;
  Rung rung = cpu_rung(std::move(name), std::move(idea), std::move(chapter), std::move(must_equal), longest_chain);
  rung.op = Op::mla;
  rung.supports = latent_attention;
  make_planned(
      rung, [](int threads, Executor::Workers workers) { return std::make_shared<Executor>(threads, workers); },
      [](Executor& executor, const Buffers& buffers, const Plan& plan, reference::Schedule schedule) {
        executor.run(buffers.mla, plan, buffers.workspace, schedule, buffers.output);
      });
  return rung;
}

}  // namespace flashladder::ladder
