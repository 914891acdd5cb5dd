// Broken input by the thousand: valid files, tables, traces, command-line texts and problems are mutated, and each must
// either be refused with an InputError or be fully usable. What is accepted is read to its last byte, so that a build with
// sanitizers sees a wrong bound. FLASHLADDER_FUZZ=100000 sets the number of inputs, FLASHLADDER_FUZZ_SEED repeats a run.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>

#include "core/validate.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/files/safetensors.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/specs/case_json.hpp"
#include "ladder/cases/specs/short_form.hpp"
#include "ladder/cases/specs/trace.hpp"
#include "tests/cases_helpers.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using namespace flashladder::ladder::test;

namespace {

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Everything read ends up here, so that no compiler drops the reading.
volatile unsigned sink = 0;

void touch(const void* data, std::size_t size) {
  unsigned sum = 0;
  for (std::size_t i = 0; i < size; ++i) sum += static_cast<const unsigned char*>(data)[i];
  sink = sink + sum;
}

// What a rung would read: the K and V rows of every token, the query rows, the mask of every pair.
void touch(const AttentionProblem& p) {
  const std::size_t element = size_of(p.q.dtype);
  const std::vector<std::int64_t> masks = mask_offsets(p);
  const PageTable table = p.page_table();
  touch(p.q.data, static_cast<std::size_t>(p.q.size()) * element);
  for (std::int32_t b = 0; b < p.batch(); ++b) {
    for (std::int32_t token = 0; token < p.kv_len(b); ++token) {
      const KvSlot slot = table.locate(b, token);
      for (std::int32_t head = 0; head < p.kv.num_kv_heads; ++head) {
        const auto *k = static_cast<const std::byte*>(p.kv.k), *v = static_cast<const std::byte*>(p.kv.v);
        touch(k + p.kv.k_strides.offset(slot, head) * element, p.kv.head_dim_qk * element);
        touch(v + p.kv.v_strides.offset(slot, head) * element, p.kv.head_dim_vo * element);
      }
    }
    if (p.params.mask == MaskMode::custom) touch(&p.custom_mask[0] + masks[b], masks[b + 1] - masks[b]);
  }
  if (p.params.sinks) touch(p.sinks.data(), p.params.num_qo_heads * sizeof(float));
}

CaseSpec rich_spec() {
  CaseSpec s = small_spec();
  s.params.mask = MaskMode::custom;
  s.custom_mask = CustomMask::random;
  s.params.sinks = true;
  return s;
}

CaseSpec latent_spec() {
  CaseSpec s = small_spec();
  s.op = Op::mla;
  s.kv_layout = KvLayout::NHD;
  s.combined_cache = false;
  s.params = MlaParams{.num_heads = 3, .head_dim_ckv = 4, .head_dim_kpe = 2, .sm_scale = 0.5f}.attention();
  return s;
}

// ---- mutations -------------------------------------------------------------------------------------------------------

std::string interesting_number(Random& random) {
  const char* numbers[] = {"0", "1", "-1", "7", "2147483647", "2147483648", "4294967295", "4294967296",
                           "9223372036854775807", "9223372036854775808", "18446744073709551615", "99999999999999999999",
                           "1e999", "1e-999", "1e-42", "0.5", "010", "+1", "0x1", "nan", "[]"};
  return numbers[random.below(std::size(numbers))];
}

// Replaces one run of digits.
void splice_number(std::string& text, Random& random) {
  const std::size_t digit = text.find_first_of("0123456789", random.below(static_cast<std::uint32_t>(text.size())));
  if (digit == text.npos) return;
  const std::size_t end = std::min(text.find_first_not_of("0123456789", digit), text.size());
  text.replace(digit, end - digit, interesting_number(random));
}

void mutate_once(std::string& text, Random& random) {
  if (text.empty()) return;
  const auto size = static_cast<std::uint32_t>(text.size());
  const std::uint32_t at = random.below(size), length = random.below(std::min(size - at, 16u)) + 1;
  switch (random.below(7)) {
    case 0: text[at] = static_cast<char>(text[at] ^ (1 << random.below(8))); break;
    case 1: text.resize(at); break;
    case 2: text.erase(at, length); break;
    case 3: text.insert(random.below(size), text.substr(at, length)); break;
    case 4: text[at] = "{}[]\",:x/@\0\xff"[random.below(12)]; break;
    default: splice_number(text, random);
  }
}

std::string mutated(std::string text, Random& random) {
  for (std::uint32_t n = random.below(4); n > 0; --n) mutate_once(text, random);
  return text;
}

// Of a safetensors file: mostly the header changes and its length follows, so that the deeper rules are reached.
std::string mutated_file(const std::string& file, Random& random) {
  if (random.below(8) == 0) return mutated(file, random);
  std::uint64_t length;
  std::memcpy(&length, file.data(), 8);
  std::string header = file.substr(8, length), data = file.substr(8 + length);
  if (random.below(2)) header = mutated(header, random);
  if (random.below(2)) data = mutated(data, random);
  length = header.size();
  if (random.below(8) == 0) length += random.below(5) - 2u;
  if (random.below(16) == 0) length = random.next() >> random.below(64);
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

void mutate_array(std::vector<std::int32_t>& array, Random& random) {
  const std::int32_t numbers[] = {0, 1, -1, 2, 7, 2147483647, -2147483647 - 1, static_cast<std::int32_t>(random.next())};
  const std::int32_t number = numbers[random.below(8)];
  if (random.below(8) == 0) array.push_back(number);
  if (random.below(8) == 0 && !array.empty()) array.pop_back();
  if (!array.empty()) array[random.below(static_cast<std::uint32_t>(array.size()))] = number;
}

void mutate_problem(AttentionProblem& p, Random& random) {
  const auto lie = [&](auto& number) {
    number = static_cast<std::decay_t<decltype(number)>>(random.next() >> random.below(64));
  };
  switch (random.below(12)) {
    case 0: lie(p.params.num_qo_heads); break;
    case 1: lie(p.params.head_dim_vo); break;
    case 2: p.kv.page_size = static_cast<int>(random.below(4)); break;  // not beyond the buffer: a pointer has no size
    case 3: lie(p.q.shape[random.below(5)]); break;
    case 4: p.kv.num_pages = static_cast<int>(random.below(8)); break;
    case 5: p.custom_mask = p.custom_mask.first(random.below(static_cast<std::uint32_t>(p.custom_mask.size()))); break;
    case 6: p.sinks = {}; break;
    case 7: p.q.rank = static_cast<int>(random.below(6)); break;
    case 8: p.params.mask = MaskMode::causal; break;
    default: break;
  }
}

// ---- targets: each takes one mutated input, and throws InputError or reads all of the result -----------------------------

using Target = std::function<void(Random&)>;

Target case_file_target(const CaseSpec& spec) {
  const std::vector<std::byte> bytes = case_bytes(draw_case(spec), "seed");
  return [file = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())](Random& random) {
    const std::string input = mutated_file(file, random);
    const Case c = parse_case(std::as_bytes(std::span(input)), "fuzz");
    touch(c.problem());
    touch(c.expected_o.bytes.data(), c.expected_o.bytes.size());
    const std::vector<std::byte> again = case_bytes(c, "again");
    REQUIRE(case_bytes(parse_case(again, "again"), "again") == again);
  };
}

Target answer_file_target() {
  const float o[] = {1, 2, 3, 4, 5, 6}, lse[] = {1, 2, 3};
  const Safetensors contents{{{"rung", "C4"}, {"device", "cpu"}, {"causal", "1"}, {"x-note", "12"}},
                             {{"o", {FileDType::F32, {1, 3, 2}, std::as_bytes(std::span(o))}},
                              {"lse_log2", {FileDType::F32, {1, 3}, std::as_bytes(std::span(lse))}}}};
  const std::vector<std::byte> bytes = safetensors_bytes(contents, "seed");
  return [file = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())](Random& random) {
    const std::string input = mutated_file(file, random);
    const Answer answer = parse_answer(std::as_bytes(std::span(input)), "fuzz");
    touch(answer.o.bytes.data(), answer.o.bytes.size());
    touch(answer.lse_log2.data(), answer.lse_log2.size() * sizeof(float));
  };
}

Target case_table_target() {
  return [table = case_table_json(std::vector<CaseSpec>{small_spec(), rich_spec(), latent_spec()})](Random& random) {
    const std::string input = mutated(table, random);
    const std::vector<CaseSpec> specs = parse_case_table(input, "fuzz");
    REQUIRE(input.find('\0') == input.npos);
    for (const CaseSpec& spec : specs) {
      touch(case_string(spec).data(), 1);
      sink = sink + static_cast<unsigned>(spec.visible_pairs());
      if (spec.bytes_estimate() < 100'000) touch(draw_case(spec).problem());
    }
  };
}

Target trace_target() {
  return [csv = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,4808,10\r\na,3180,8\n"](Random& random) {
    const std::string input = mutated(csv, random);
    const auto trace = parse_trace(input, "fuzz");
    for (std::int32_t len : draw_kv_lens(trace, static_cast<std::int32_t>(trace.size()), random.next())) REQUIRE(len >= 0);
  };
}

Target short_form_target() {
  return [](Random& random) {
    const char* texts[] = {"512,1024x3", "lognormal:8:7", "2048x4,1", "azure-conv:4", "@lens.txt", "32/8"};
    const std::string input = mutated(texts[random.below(6)], random);
    if (random.below(4) == 0) {
      const Heads heads = parse_heads("--heads", input);
      REQUIRE(heads.num_qo_heads % heads.num_kv_heads == 0);
    } else {
      const LengthSources sources{.data_dir = "/nowhere", .trace = "", .seed = 1};
      for (std::int32_t len : parse_lengths("--kv", input, sources)) REQUIRE(len >= 0);
    }
  };
}

// A whole number that is read is written again as the same text: nothing was cut off, wrapped, or taken for another base.
Target number_target() {
  return [](Random& random) {
    const std::string input = mutated(interesting_number(random), random);
    const auto i = number_from<std::int32_t>(input);
    const auto u = number_from<std::uint64_t>(input);
    const auto x = number_from<float>(input);
    if (i && input != "-0") REQUIRE(std::to_string(*i) == input);
    if (u) REQUIRE(std::to_string(*u) == input);
    if (x) REQUIRE((*x == 0 ? input.find_first_of("123456789") >= input.find_first_of("eE") : std::isnormal(*x)));
    for (const char c : printable(input)) REQUIRE((static_cast<unsigned char>(c) >= 0x20 && c != 0x7f));
    if (!i && !u && !x) throw InputError("number", shown(input), "is none");
  };
}

Target problem_target() {
  return [original = draw_case(rich_spec())](Random& random) {
    Case c = original;
    std::vector<std::int32_t>* arrays[] = {&c.qo_indptr, &c.paged_kv_indptr, &c.paged_kv_indices, &c.paged_kv_last_page_len};
    if (random.below(2)) mutate_array(*arrays[random.below(4)], random);
    AttentionProblem problem = c.problem();
    mutate_problem(problem, random);
    validate(problem);
    touch(problem);
  };
}

}  // namespace

TEST_CASE("mutated input is refused by name or read to its end") {
  const std::uint64_t inputs = setting("FLASHLADDER_FUZZ", 10000);
  const std::uint64_t seed = setting("FLASHLADDER_FUZZ_SEED", std::random_device()());
  MESSAGE("FLASHLADDER_FUZZ_SEED=" << seed << " repeats these " << inputs << " inputs");
  const std::pair<std::string, Target> targets[] = {
      {"case file", case_file_target(rich_spec())}, {"latent case file", case_file_target(latent_spec())},
      {"answer file", answer_file_target()}, {"case table", case_table_target()},
      {"trace", trace_target()},         {"short form", short_form_target()},   {"problem", problem_target()},
      {"number", number_target()}};
  std::uint64_t accepted[std::size(targets)] = {}, refused[std::size(targets)] = {};
  for (std::uint64_t i = 0; i < inputs; ++i) {
    const std::size_t which = i % std::size(targets);
    Random random(seed, i);
    CAPTURE(targets[which].first);
    CAPTURE(i);
    try {
      targets[which].second(random);
      ++accepted[which];
    } catch (const InputError& e) {
      REQUIRE_FALSE(e.argument.empty());
      REQUIRE_FALSE(e.rule.empty());
      ++refused[which];
    } catch (const std::exception& e) {
      FAIL("not an InputError: " << e.what());
    }
  }
  for (std::size_t t = 0; t < std::size(targets); ++t) {
    MESSAGE(targets[t].first << ": " << accepted[t] << " accepted, " << refused[t] << " refused");
    CHECK(accepted[t] > 0);
    CHECK(refused[t] > 0);
  }
}
