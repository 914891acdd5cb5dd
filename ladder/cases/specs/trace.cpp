#include "ladder/cases/specs/trace.hpp"

#include <limits>

#include "core/error.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/cases/input/read_file.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::ladder {
namespace {

constexpr std::string_view header = "TIMESTAMP,ContextTokens,GeneratedTokens";

std::string_view next_line(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

TraceRequest parse_line(std::string_view line, const std::string& where) {
  const std::size_t first = line.find(','), second = first == line.npos ? first : line.find(',', first + 1);
  if (first == 0 || second == line.npos) {
    throw InputError(where, shown(line), "must be a time stamp, ContextTokens and GeneratedTokens, separated by commas");
  }
  const auto context = number_from<std::int32_t>(line.substr(first + 1, second - first - 1));
  const auto generated = number_from<std::int32_t>(line.substr(second + 1));
  if (!context || !generated || *context < 0 || *generated < 0 ||
      *context > std::numeric_limits<std::int32_t>::max() - *generated) {
    throw InputError(where, shown(line), "must have two whole numbers of tokens, 0 or more, together at most 2^31 - 1");
  }
  return {*context, *generated};
}

}  // namespace

std::vector<TraceRequest> parse_trace(std::string_view csv, const std::string& what) {
  std::string_view rest = csv;
  const std::string_view first = next_line(rest);
  if (first != header) throw InputError(what + " line 1", shown(first), "must be " + std::string(header));
  std::vector<TraceRequest> trace;
  for (int number = 2; !rest.empty(); ++number) {
    trace.push_back(parse_line(next_line(rest), what + " line " + std::to_string(number)));
  }
  return trace;
}

std::vector<TraceRequest> read_trace(const std::string& path) {
  return parse_trace(as_text(read_file(path, most_text_bytes)), path);
}

std::vector<std::int32_t> draw_kv_lens(const std::vector<TraceRequest>& trace, std::int32_t count, std::uint64_t seed) {
  if (count < 0 || static_cast<std::size_t>(count) > trace.size()) {
    throw InputError("requests to draw", std::to_string(count), "the trace has " + std::to_string(trace.size()));
  }
  Random random(seed);
  const std::size_t first = random.below(static_cast<std::uint32_t>(trace.size() - count + 1));
  std::vector<std::int32_t> lens;
  for (std::size_t i = first; i < first + count; ++i) {
    const auto part = random.below(static_cast<std::uint32_t>(trace[i].generated_tokens) + 1);
    lens.push_back(trace[i].context_tokens + static_cast<std::int32_t>(part));
  }
  return lens;
}

}  // namespace flashladder::ladder
