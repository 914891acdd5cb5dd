#include "ladder/plugin/judge.hpp"

#include <bit>
#include <cstdint>

namespace flashladder::ladder {
namespace {

constexpr std::uint32_t never_written = 0xffffffff;  // what outputs hold before a run: a NaN that no arithmetic gives

std::string unwritten_of(const Case& c, const char* name, const std::vector<float>& values, std::int32_t width) {
  std::int64_t count = 0, first = -1;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(values[i]) != never_written) continue;
    if (count++ == 0) first = static_cast<std::int64_t>(i) / width;
  }
  if (count == 0) return "";
  const std::int32_t heads = c.spec.params.num_qo_heads;
  return "left " + std::to_string(count) + " of " + std::to_string(values.size()) + " elements of " + name +
         " unwritten, the first in row " + std::to_string(first / heads) + " head " + std::to_string(first % heads);
}

}  // namespace

bool Judgement::ok() const { return run.ending == Ending::finished && comparison && comparison->ok(); }

bool Judgement::fails() const {
  if (run.ending == Ending::refused) return false;
  return run.ending != Ending::finished || !comparison || comparison->verdict() == Verdict::fail;
}

std::string Judgement::kind() const {
  if (ok() || !supported()) return "";
  if (run.ending != Ending::finished) return name_of(run.ending);
  if (!fails()) return "undecided";
  return unwritten.empty() ? "wrong result" : "left NaN";
}

std::string Judgement::message() const {
  std::string text = run.message;
  const auto add = [&](const std::string& more) {
    if (!more.empty()) text += (text.empty() ? "" : "; ") + more;
  };
  add(unwritten);
  if (comparison) add(comparison->message());
  return text;
}

Judgement judge(const std::string& path, const Rung& plugin, const Case& c, const ChildOptions& options) {
  Judgement judgement{.run = run_in_child(path, c, options)};
  const RunResult& result = judgement.run.result;
  if (!judgement.run.has_result) return judgement;
  judgement.oracle = make_oracle(c, plugin.rounding(c.spec));
  const RunResult below = run_rung(rung(plugin.must_equal), c);
  judgement.comparison = agree(c, result, &below, judgement.oracle);
  judgement.comparison->complaint.clear();  // guard bands: the ending says more
  judgement.unwritten = unwritten_of(c, "o", result.o, c.spec.params.head_dim_vo);
  if (judgement.unwritten.empty()) judgement.unwritten = unwritten_of(c, "lse_log2", result.lse_log2, 1);
  return judgement;
}

}  // namespace flashladder::ladder
