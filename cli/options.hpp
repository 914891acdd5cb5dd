// What several commands ask for in the same way: a case in its short form (docs/case_format.md), cases from elsewhere,
// threads.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "cli/outputs.hpp"
#include "core/error.hpp"
#include "ladder/arguments.hpp"
#include "ladder/cases/case_spec.hpp"
#include "ladder/rung.hpp"

namespace flashladder::cli {

// Where the real cases and the trace samples lie: $FLASHLADDER_DATA, or the source tree's data/.
std::string default_data_dir();

std::string option_of(const std::string& argument);  // "page_size" -> "--page"; what is no option's stays as it is

// A case in its short form.
struct CaseOptions {
  std::string kv, qo = "1", heads = "32/8", dim = "64", dtype = "f16", kv_dtype, kv_scales, layout = "NHD";
  std::string pos = "NONE", mask = "none", values = "normal";
  std::string trace, data_dir = default_data_dir();
  std::int32_t page_size = 16, window_left = -1;
  std::uint64_t seed = 1;
  float sm_scale = 0, soft_cap = 0;  // 0: the default scale, no cap
  bool causal = false, sinks = false, block_table = false;

  void add_to(ladder::Command& command);
  bool given() const { return command_->given("--kv"); }
  // Validated, and named by its case string. An InputError names the options.
  ladder::CaseSpec spec() const;
  // Refuses options that would change nothing: those of a case that is not asked for (but for `useful`, which the command
  // needs for something else), and sources that no length is drawn from.
  void refuse_idle(std::initializer_list<std::string_view> useful = {}) const;
  std::vector<FileOption> inputs() const;  // files that the lengths come from

 private:
  const ladder::Command* command_ = nullptr;
};

// Throws InputError for an option that is given although it would change nothing: "--chunk: has no effect ...".
void refuse_idle(const ladder::Command& command, const char* option, bool idle, const char* why);

// Runs f; an InputError from inside names the option instead of the parameter that it sets: --page for page_size.
template <class F>
auto named_by_options(F f) {
  try {
    return f();
  } catch (const InputError& e) {
    throw InputError(option_of(e.argument), e.value, e.rule, e.request);
  }
}

// --threads: 0 = all. Throws InputError for another number out of 1 .. 1024.
struct ThreadOption {
  std::int32_t threads = 0;
  void add_to(ladder::Command& command);
  ladder::Settings settings() const;
};

// The named rungs, in the ladders' order, each once; where none is named, all of attention, and with mla_too those of latent
// attention. An InputError lists the names.
std::vector<const ladder::Rung*> chosen_rungs(const std::vector<std::string>& names, bool mla_too = false);

}  // namespace flashladder::cli
