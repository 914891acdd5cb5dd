#include "ladder/cases/specs/short_form.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/cases/input/read_file.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/specs/trace.hpp"

namespace flashladder::ladder {
namespace {

[[noreturn]] void refuse(const std::string& option, std::string_view text, const std::string& rule) {
  throw InputError(option, shown(text), rule);
}

std::int32_t parse_length(const std::string& option, std::string_view text) {
  const auto n = number_from<std::int32_t>(text);
  if (!n || *n < 0) refuse(option, text, "must be a length, 0 .. 2^31 - 1");
  return *n;
}

std::int32_t parse_positive(const std::string& option, std::string_view text, std::string_view part, const char* what) {
  const auto n = number_from<std::int32_t>(part);
  if (!n || *n < 1) refuse(option, text, std::string("must have ") + what + " of 1 .. 2^31 - 1");
  return *n;
}

std::int32_t parse_count(const std::string& option, std::string_view text, std::string_view part) {
  const auto n = number_from<std::int32_t>(part);
  if (!n || *n < 1 || *n > most_requests) {
    refuse(option, text, "must ask for 1 .. " + std::to_string(most_requests) + " requests");
  }
  return *n;
}

struct Draw {  // "kind:count:seed"
  std::string_view kind;
  std::int32_t count;
  std::uint64_t seed;
};

Draw parse_draw(const std::string& option, std::string_view text, std::uint64_t default_seed) {
  const std::size_t first = text.find(':'), second = text.find(':', first + 1);
  Draw draw{text.substr(0, first), 0, default_seed};
  draw.count = parse_count(option, text, text.substr(first + 1, second == text.npos ? second : second - first - 1));
  if (second != text.npos) {
    const auto seed = number_from<std::uint64_t>(text.substr(second + 1));
    if (!seed) refuse(option, text, "must end in a seed, 0 .. 2^64 - 1, or in the count");
    draw.seed = *seed;
  }
  return draw;
}

std::vector<std::int32_t> draw_lognormal(const Draw& draw) {
  constexpr double mu = 6.9, sigma = 1.3, least = 16, most = 32768;
  Random random(draw.seed);
  std::vector<std::int32_t> lens;
  for (std::int32_t i = 0; i < draw.count; ++i) {
    lens.push_back(static_cast<std::int32_t>(std::lround(std::clamp(std::exp(mu + sigma * random.normal()), least, most))));
  }
  return lens;
}

std::vector<std::int32_t> draw_from(const std::string& option, std::string_view text, const LengthSources& sources) {
  const Draw draw = parse_draw(option, text, sources.seed);
  if (draw.kind == "lognormal") return draw_lognormal(draw);
  if (draw.kind != "azure-conv" && draw.kind != "azure-code") {
    refuse(option, text, "must draw from lognormal, azure-conv or azure-code");
  }
  const char* name = draw.kind == "azure-conv" ? "/azure_conv_sample.csv" : "/azure_code_sample.csv";
  const std::string path = sources.trace.empty() ? sources.data_dir + name : sources.trace;
  return within(option + " " + shown(text), [&] { return draw_kv_lens(read_trace(path), draw.count, draw.seed); });
}

std::vector<std::int32_t> read_lengths(const std::string& option, const std::string& path) {
  const std::vector<std::byte> bytes = within(option, [&] { return read_file(path, most_text_bytes); });
  const std::string_view text = as_text(bytes), separators = ", \t\r\n";
  std::vector<std::int32_t> lens;
  for (std::size_t begin = 0; (begin = text.find_first_not_of(separators, begin)) != text.npos;) {
    const std::size_t end = std::min(text.find_first_of(separators, begin), text.size());
    lens.push_back(parse_length(option + " @" + path, text.substr(begin, end - begin)));
    begin = end;
  }
  return lens;
}

std::vector<std::int32_t> parse_item(const std::string& option, std::string_view text, const LengthSources& sources) {
  if (text.starts_with('@')) return read_lengths(option, std::string(text.substr(1)));
  if (text.find(':') != text.npos) return draw_from(option, text, sources);
  const std::size_t times = text.find('x');
  if (times == text.npos) return {parse_length(option, text)};
  const std::int32_t count = parse_count(option, text, text.substr(times + 1));
  return std::vector<std::int32_t>(count, parse_length(option, text.substr(0, times)));
}

// "a/b", or "a" for both.
std::pair<std::int32_t, std::int32_t> parse_pair(const std::string& option, std::string_view text, const char* what) {
  const std::size_t slash = text.find('/');
  const std::int32_t a = parse_positive(option, text, text.substr(0, slash), what);
  return {a, slash == text.npos ? a : parse_positive(option, text, text.substr(slash + 1), what)};
}

}  // namespace

std::vector<std::int32_t> parse_lengths(const std::string& option, std::string_view text, const LengthSources& sources) {
  std::vector<std::int32_t> lens;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::vector<std::int32_t> more = parse_item(option, text.substr(begin, end - begin), sources);
    lens.insert(lens.end(), more.begin(), more.end());
    if (lens.size() > most_requests) {
      refuse(option, text, "must list at most " + std::to_string(most_requests) + " requests");
    }
    begin = end + 1;
  }
  if (lens.empty()) refuse(option, text, "must list at least one length");
  return lens;
}

std::vector<std::int32_t> qo_lens_for(const std::vector<std::int32_t>& qo_lens, std::int32_t batch) {
  if (qo_lens.empty()) return std::vector<std::int32_t>(batch, 1);
  if (qo_lens.size() == 1) return std::vector<std::int32_t>(batch, qo_lens[0]);
  if (qo_lens.size() != static_cast<std::size_t>(batch)) {
    throw InputError("qo_lens", std::to_string(qo_lens.size()) + " lengths",
                     "must be one for all requests, or one for each of the " + std::to_string(batch));
  }
  return qo_lens;
}

Heads parse_heads(const std::string& option, std::string_view text) {
  const auto [qo, kv] = parse_pair(option, text, "query heads, or query/KV heads,");
  if (qo % kv != 0) refuse(option, text, "query heads must be a multiple of KV heads");
  return {qo, kv};
}

HeadDims parse_head_dims(const std::string& option, std::string_view text) {
  const auto [qk, vo] = parse_pair(option, text, "a head dim, or those of q and k / of v and o,");
  return {qk, vo};
}

DType parse_dtype(const std::string& option, std::string_view text) {
  for (DType t : {DType::f32, DType::f16, DType::bf16}) {
    if (text == name_of(t)) return t;
  }
  refuse(option, text, "must be f32, f16 or bf16");
}

std::optional<DType> parse_kv_dtype(const std::string& option, std::string_view text, DType dtype) {
  if (text.empty() || text == name_of(dtype)) return std::nullopt;
  for (DType t : {DType::f8_e4m3, DType::f8_e5m2}) {
    if (text == name_of(t)) return t;
  }
  refuse(option, text, std::string("must be f8_e4m3, f8_e5m2 or that of q, ") + name_of(dtype));
}

KvLayout parse_kv_layout(const std::string& option, std::string_view text) {
  for (KvLayout l : {KvLayout::NHD, KvLayout::HND}) {
    if (text == name_of(l)) return l;
  }
  refuse(option, text, "must be NHD or HND");
}

}  // namespace flashladder::ladder
