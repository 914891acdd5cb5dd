// What the ops beside attention share: an op on one of several places in memory, checked there, timed by events on the first
// place, or in a graph, over all places in turn (cold) or again and again on the first (warm).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/gpu/families.hpp"

namespace flashladder::bench {

class OpRun {
 public:
  virtual ~OpRun() = default;
  virtual void launch(std::int32_t place, bool enable_pdl, void* stream) const = 0;
  // One run on whatever the place holds now, compared with the CPU reference on the same data: "", or what is wrong.
  virtual std::string check(std::int32_t place, const GpuTimer& timer) const = 0;
  virtual std::string checked() const = 0;  // what check() compares
};

inline void add_event_work(std::vector<TimedWork>& works, Family family, const std::string& name, double bytes,
                           const std::shared_ptr<const OpRun>& run, const Timer& timer) {
  works.push_back({.line = {.family = name_of(family), .work = name, .backend = "flashladder"},
                   .bytes = bytes, .floor = Floor::copy, .checked = run->checked(), .failure = run->check(0, *timer),
                   .time_us = [=] { return timer->event_us([&](void* stream) { run->launch(0, false, stream); }); },
                   .recheck = [=] { return run->check(0, *timer); }});
}

// run has rotation_for(bytes).caches places. In a graph kernels may overlap (programmatic dependent launch), as the peers'
// do.
inline void add_graph_works(std::vector<TimedWork>& works, const std::string& name, double bytes,
                            const std::shared_ptr<const OpRun>& run, const Timer& timer) {
  const Rotation rotation = rotation_for(bytes);
  const std::string failure = run->check(0, *timer);
  for (const bool cold : {true, false}) {
    std::vector<Launch> launches;
    for (std::int32_t i = 0; i < (cold ? rotation.caches * rotation.turns : 20); ++i) {
      launches.push_back([=, place = cold ? i % rotation.caches : 0](void* stream) { run->launch(place, true, stream); });
    }
    const auto graph = std::make_shared<CapturedGraph>(launches, timer->stream());
    works.push_back({.line = {.family = name_of(Family::graph), .work = name + (cold ? " cold" : " warm"),
                              .backend = "flashladder"},
                     .bytes = bytes, .floor = Floor::none, .checked = run->checked(), .failure = failure,
                     .time_us = [=] { return timer->graph_us(*graph); },
                     .recheck = [=] { return run->check(cold ? rotation.caches - 1 : 0, *timer); }});
  }
}

}  // namespace flashladder::bench
