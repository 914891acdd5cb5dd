// The ladder's known mistakes as plug-ins: one library, and the environment says which of them it is.
#include <cstdlib>
#include <string>

#include "ladder/plugin/faulty_attention.hpp"
#include "tests/plugins/from_c.hpp"

namespace {

using namespace flashladder;

struct State {
  AttentionProblem problem;
  AttentionOutput output;
};

ladder::Fault chosen() {
  const char* name = std::getenv("FLASHLADDER_TEST_PLUGIN");
  for (const ladder::FaultInfo& f : ladder::faults()) {
    if (name != nullptr && std::string(name) == f.name) return f.fault;
  }
  return ladder::Fault::none;
}

const char* supports(const fl_plugin_shape*) { return nullptr; }

const char* prepare(const fl_plugin_shape* shape, const fl_plugin_buffers* buffers, void** state) {
  const AttentionProblem problem = test::problem_from_c(*shape, *buffers);
  *state = new State{problem, test::output_from_c(*shape, *buffers, problem.q.shape[0])};
  return nullptr;
}

const char* run(void* state, void*) {
  const State& s = *static_cast<const State*>(state);
  ladder::faulty_attend(chosen(), s.problem, s.output);
  return nullptr;
}

void release(void* state) { delete static_cast<State*>(state); }

}  // namespace

const fl_plugin* fl_plugin_entry(void) {
  static const fl_plugin plugin = {sizeof(fl_plugin), FL_PLUGIN_VERSION, FL_CPU, "mutant", nullptr, 0, 0,
                                   supports, nullptr, prepare, run, release};
  return &plugin;
}
