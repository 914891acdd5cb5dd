// Plug-ins on the GPU: their processes are forked from one that has never used CUDA, because a child of one that has can't
// use it. That process is the host. It is forked before this one touches the GPU, and then runs what it is asked for: so
// plug-ins and rungs can be timed in turn.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/gpu_cases.hpp"
#include "bench/plugin_bench.hpp"
#include "bench/timed_work.hpp"

namespace flashladder::bench {

class PluginHost {
 public:
  // Forks the host, which can be asked for these plug-ins on these cases. clock: times a plug-in, in a child of the host.
  PluginHost(std::vector<Plugin> plugins, std::vector<ladder::CaseSpec> specs, ladder::TimedRun clock,
             const ladder::ChildOptions& options);
  ~PluginHost();
  PluginHost(const PluginHost&) = delete;
  PluginHost& operator=(const PluginHost&) = delete;

  const std::vector<Plugin>& plugins() const { return plugins_; }
  const std::vector<ladder::CaseSpec>& specs() const { return specs_; }
  // As run_in_child and time_in_child (ladder/plugin/child.hpp). Throw std::runtime_error if the host is gone.
  ladder::ChildRun check(std::size_t plugin, std::size_t spec) { return ask({false, plugin, spec}); }
  ladder::ChildRun time(std::size_t plugin, std::size_t spec) { return ask({true, plugin, spec}); }

 private:
  struct Request {
    bool time;
    std::size_t plugin, spec;
  };
  ladder::ChildRun ask(const Request& request);
  [[noreturn]] void serve(const ladder::TimedRun& clock, const ladder::ChildOptions& options);

  std::vector<Plugin> plugins_;
  std::vector<ladder::CaseSpec> specs_;
  int socket_ = -1;
  int host_ = -1;  // its process
};

// The families that time plug-ins, and the cases of each: a plug-in has pages, so that contiguous ones are left out. specs:
// instead of the family's own. Throws InputError for another family.
std::vector<ladder::CaseSpec> plugin_cases(Family family, const std::vector<ladder::CaseSpec>& specs);

// Works of one family: those of the host's cases `specs` that a plug-in takes. Each is checked here. notes: what is refused.
std::vector<TimedWork> plugin_works(Family family, const std::shared_ptr<PluginHost>& host,
                                    const std::vector<std::size_t>& specs, std::vector<std::string>& notes,
                                    const std::function<void(const std::string&)>& say);

}  // namespace flashladder::bench
