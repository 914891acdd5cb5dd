#include "cli/options.hpp"

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <utility>

#include "core/error.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/specs/short_form.hpp"

namespace flashladder::cli {
namespace {

constexpr const char* group = "The case, in its short form";

template <class Enum>
Enum choose(const char* option, const std::string& text, std::initializer_list<Enum> choices) {
  std::string names;
  for (const Enum e : choices) {
    if (text == name_of(e)) return e;
    names += std::string(names.empty() ? "" : ", ") + name_of(e);
  }
  throw InputError(option, ladder::shown(text), "is none of " + names);
}

}  // namespace

std::string default_data_dir() {
  const char* dir = std::getenv("FLASHLADDER_DATA");
  return dir != nullptr && *dir != '\0' ? dir : FLASHLADDER_SOURCE_ROOT "/data";
}

void CaseOptions::add_to(ladder::Command& command) {
  command_ = &command;
  const auto add = [&](const char* option, ladder::Target target, const char* what, ladder::OptionForm form = {}) {
    form.group = group;
    command.add(option, target, what, form);
  };
  add("--kv", &kv, "Keys of each request: 512,1024  2048x32  lognormal:64  azure-conv:64  @FILE", {.value = "LENGTHS"});
  add("--qo", &qo, "Queries of each request, one number for all or a list like --kv", {.value = "LENGTHS"});
  add("--heads", &heads, "Query heads / KV heads; one number is both", {.value = "N/N"});
  add("--dim", &dim, "Head dim, or that of q and k / of v", {.value = "N/N"});
  add("--page", &page_size, "Tokens in a page", {.least = 1});
  add("--dtype", &dtype, "f32, f16 or bf16", {.value = "NAME"});
  add("--kv-dtype", &kv_dtype, "Of K and V: f8_e4m3 or f8_e5m2; else that of q", {.value = "NAME", .shows_default = false});
  add("--kv-scales", &kv_scales, "Scales of K and V: none, number or per_head; fp8 has a number, others none",
      {.value = "NAME", .shows_default = false});
  add("--layout", &layout, "NHD or HND", {.value = "NAME"});
  add("--block-table", &block_table, "Page ids as a dense table with room to spare");
  add("--causal", &causal, "A query sees no later key");
  add("--window", &window_left, "Keys kept to the left of the diagonal one; -1 = all", {.least = -1});
  add("--soft-cap", &soft_cap, "Cap c of the logits: c * tanh(logit / c); 0 = off");
  add("--sm-scale", &sm_scale, "Factor of q . k; 0 = 1/sqrt(head dim)");
  add("--pos", &pos, "Position encoding: NONE, ROPE_LLAMA, ALIBI", {.value = "NAME"});
  add("--sinks", &sinks, "An extra logit for each query head");
  add("--mask", &mask, "Custom mask: none, causal, tree, random, empty_rows, holes", {.value = "NAME"});
  add("--values", &values, "What is drawn: normal, equal, large, first_max, last_max", {.value = "NAME"});
  add("--seed", &seed, "Of lengths and values that are drawn");
  add("--trace", &trace, "Trace (CSV) to draw azure-... lengths from", {.value = "FILE"});
  add("--data", &data_dir, "Directory with the trace samples", {.value = "DIR", .shows_default = false});
}

void refuse_idle(const ladder::Command& command, const char* option, bool idle, const char* why) {
  if (idle && command.given(option)) throw InputError(option, "", std::string("has no effect ") + why);
}

std::string option_of(const std::string& argument) {
  constexpr std::pair<const char*, const char*> names[] = {
      {"kv_lens", "--kv"}, {"qo_lens", "--qo"}, {"num_qo_heads", "--heads"}, {"num_kv_heads", "--heads"},
      {"head_dim", "--dim"}, {"head_dim_qk", "--dim"}, {"head_dim_vo", "--dim"}, {"page_size", "--page"},
      {"dtype", "--dtype"}, {"kv_dtype", "--kv-dtype"},
      {"window_left", "--window"}, {"logits_soft_cap", "--soft-cap"}, {"sm_scale", "--sm-scale"},
      {"pos_encoding_mode", "--pos"}, {"custom_mask", "--mask"}, {"block_table", "--block-table"},
      {"values", "--values"}, {"chunk_size", "--chunk"},
      {"target_units", "--target"}, {"query_tile", "--tile"}, {"num_sms", "--sms"}, {"ctas_per_sm", "--ctas-per-sm"}};
  for (const auto& [parameter, option] : names) {
    if (argument == parameter) return option;
  }
  return argument;
}

void CaseOptions::refuse_idle(std::initializer_list<std::string_view> useful) const {
  for (const std::string& option : command_->given_of(group)) {
    if (given() || std::find(useful.begin(), useful.end(), option) != useful.end()) continue;
    throw InputError(option, "", "has no effect without --kv: it describes the case that --kv asks for");
  }
  const bool drawn = (kv + qo).find("azure-") != std::string::npos;
  cli::refuse_idle(*command_, "--trace", !drawn, "where no lengths are drawn from a trace, as in --kv azure-conv:64");
  cli::refuse_idle(*command_, "--data", !drawn, "where no lengths are drawn from a trace, as in --kv azure-conv:64");
  cli::refuse_idle(*command_, "--data", command_->given("--trace"), "beside --trace, which names the file itself");
}

std::vector<FileOption> CaseOptions::inputs() const {
  std::vector<FileOption> files{{"--trace", trace}};
  for (const auto& [option, text] : {std::pair("--kv", &kv), std::pair("--qo", &qo)}) {
    for (std::size_t at = text->find('@'); at != text->npos; at = text->find('@', at + 1)) {
      files.push_back({option, text->substr(at + 1, text->find(',', at) - at - 1)});
    }
  }
  return files;
}

ladder::CaseSpec CaseOptions::spec() const {
  using ladder::CustomMask, ladder::KvScaling, ladder::Values;
  require(given(), "--kv", "", "is missing: the keys of each request");
  refuse_idle();
  const ladder::LengthSources sources{data_dir, trace, seed};
  ladder::CaseSpec s;
  s.seed = seed;
  s.kv_lens = ladder::parse_lengths("--kv", kv, sources);
  s.qo_lens = named_by_options([&] { return ladder::qo_lens_for(ladder::parse_lengths("--qo", qo, sources), s.batch()); });
  const ladder::Heads h = ladder::parse_heads("--heads", heads);
  const ladder::HeadDims d = ladder::parse_head_dims("--dim", dim);
  s.custom_mask = choose("--mask", mask, {CustomMask::none, CustomMask::causal, CustomMask::tree, CustomMask::random,
                                          CustomMask::empty_rows, CustomMask::holes});
  s.values = choose("--values", values, {Values::normal, Values::equal, Values::large, Values::first_max, Values::last_max});
  s.params = {.num_qo_heads = h.num_qo_heads, .num_kv_heads = h.num_kv_heads, .head_dim_qk = d.qk, .head_dim_vo = d.vo,
              .sm_scale = sm_scale == 0 ? default_sm_scale(d.qk) : sm_scale,
              .mask = causal ? MaskMode::causal : s.custom_mask == CustomMask::none ? MaskMode::none : MaskMode::custom,
              .window_left = window_left, .logits_soft_cap = soft_cap, .sinks = sinks};
  s.params.pos_encoding_mode = choose("--pos", pos, {PosEncodingMode::NONE, PosEncodingMode::ROPE_LLAMA,
                                                     PosEncodingMode::ALIBI});
  s.page_size = page_size;
  s.dtype = ladder::parse_dtype("--dtype", dtype);
  s.kv_dtype = ladder::parse_kv_dtype("--kv-dtype", kv_dtype, s.dtype);
  s.kv_scales = ladder::usual_scaling(s.cache_dtype());
  if (!kv_scales.empty()) {
    s.kv_scales = choose("--kv-scales", kv_scales, {KvScaling::none, KvScaling::number, KvScaling::per_head});
  }
  s.kv_layout = ladder::parse_kv_layout("--layout", layout);
  s.block_table = block_table;
  named_by_options([&] { ladder::validate(s); });
  s.name = ladder::case_string(s);
  return s;
}

void ThreadOption::add_to(ladder::Command& command) {
  command.add("--threads", &threads, "Threads of the planned rung; 0 = all", {.least = 0, .most = 1024});
}

ladder::Settings ThreadOption::settings() const {
  return {.threads = threads};
}

std::vector<const ladder::Rung*> chosen_rungs(const std::vector<std::string>& names, bool mla_too) {
  for (const std::string& name : names) ladder::rung(name);
  std::vector<const ladder::Rung*> chosen;
  const auto choose_from = [&](std::span<const ladder::Rung> all, bool wanted) {
    for (const ladder::Rung& r : all) {
      if (names.empty() ? wanted : std::find(names.begin(), names.end(), r.name) != names.end()) chosen.push_back(&r);
    }
  };
  choose_from(ladder::rungs(), true);
  choose_from(ladder::mla_rungs(), mla_too);
  return chosen;
}

}  // namespace flashladder::cli
