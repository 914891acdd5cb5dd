// The broken GPU kernels as plug-ins: one library, and the environment says which of them it is.
#include <cstdlib>
#include <string>
#include <utility>

#include "tests/gpu_mutants/mutant_rungs.hpp"
#include "tests/plugins/from_c.hpp"

namespace {

using namespace flashladder;

const test::MutantRung& chosen() {
  const char* name = std::getenv("FLASHLADDER_TEST_PLUGIN");
  for (const test::MutantRung& m : test::mutant_rungs()) {
    if (name != nullptr && m.name == name) return m;
  }
  return test::mutant_rungs().front();
}

ladder::CaseSpec spec_from_c(const fl_plugin_shape& s) {
  ladder::CaseSpec spec{.name = "", .qo_lens = {s.qo_lens, s.qo_lens + s.batch},
                        .kv_lens = {s.kv_lens, s.kv_lens + s.batch}};
  spec.params = test::params_from_c(s);
  spec.dtype = test::dtype_from_c(s);
  spec.page_size = s.page_size;
  spec.kv_layout = s.layout == FL_NHD ? KvLayout::NHD : KvLayout::HND;
  spec.block_table = s.block_table != 0;
  if (spec.params.mask == MaskMode::custom) spec.custom_mask = ladder::CustomMask::given;
  return spec;
}

const char* supports(const fl_plugin_shape* shape) {
  static std::string reason;
  const ladder::CaseSpec spec = spec_from_c(*shape);
  const bool fits = test::fits_one_instance(spec, chosen().cases);
  reason = fits ? chosen().rung.supports(spec).reason : "not what its one instance takes";
  return reason.empty() ? nullptr : reason.c_str();
}

size_t workspace_bytes(const fl_plugin_shape* shape) {
  return chosen().rung.workspace_bytes(spec_from_c(*shape), test::small_plans[0]);
}

const char* prepare(const fl_plugin_shape* shape, const fl_plugin_buffers* buffers, void** state) {
  const AttentionProblem problem = test::problem_from_c(*shape, *buffers);
  const ladder::Buffers all{problem, test::output_from_c(*shape, *buffers, problem.q.shape[0]),
                            {static_cast<std::byte*>(buffers->workspace), buffers->workspace_bytes}};
  *state = new ladder::Runner(chosen().rung.prepare(all, spec_from_c(*shape), test::small_plans[0]));
  return nullptr;
}

const char* run(void* state, void* stream) {
  (*static_cast<const ladder::Runner*>(state))(stream);
  return nullptr;
}

void release(void* state) { delete static_cast<ladder::Runner*>(state); }

}  // namespace

const fl_plugin* fl_plugin_entry(void) {
  static const fl_plugin plugin = {sizeof(fl_plugin), FL_PLUGIN_VERSION, FL_GPU, "mutant", nullptr, chosen().rung.p_as_kv,
                                   0, supports, workspace_bytes, prepare, run, release};
  return &plugin;
}
