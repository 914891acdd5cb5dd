// flashladder case: what cases there are, what is in one, and a file made of one.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/memory/memory.hpp"
#include "ladder/cases/specs/case_json.hpp"

namespace flashladder::cli {
namespace {

using ladder::Case;
using ladder::CaseSpec;

CaseSpec named_spec(const std::string& name, const std::vector<CaseSpec>& table) {
  for (const CaseSpec& spec : table) {
    if (spec.name == name) return spec;
  }
  throw InputError("case", ladder::shown(name), "is not in the table (flashladder case list) and no file of that name");
}

int list(bool as_json) {
  const std::vector<CaseSpec> table = ladder::all_cases();
  if (as_json) {
    print(ladder::case_table_json(table) + "\n");
    return good;
  }
  std::vector<Row> rows;
  for (const CaseSpec& s : table) rows.push_back({s.name, case_string(s)});
  print(text_table({"name", "case"}, rows));
  return good;
}

double element(const Tensor& t, std::int64_t i) {
  switch (t.dtype) {
    case DType::f16: return static_cast<float>(t.data_as<const Half>()[i]);
    case DType::bf16: return static_cast<float>(t.data_as<const BFloat16>()[i]);
    case DType::f8_e4m3: return static_cast<float>(t.data_as<const Float8E4M3>()[i]);
    case DType::f8_e5m2: return static_cast<float>(t.data_as<const Float8E5M2>()[i]);
    case DType::f64: return t.data_as<const double>()[i];
    default: return t.data_as<const float>()[i];
  }
}

std::vector<double> first_values(const Tensor& t, std::int64_t begin) {
  std::vector<double> values;
  for (std::int64_t i = begin; i < std::min(t.size(), begin + 6); ++i) values.push_back(element(t, i));
  return values;
}

std::string list_text(const auto& values, std::size_t most) {
  std::string text;
  for (std::size_t i = 0; i < std::min(values.size(), most); ++i) {
    text += (i == 0 ? "" : " ") + short_number(static_cast<double>(values[i]));
  }
  return text + (values.size() > most ? " ..." : "");
}

// The first values of token 0 of the first request that has one; the pool's other slots hold nothing.
std::vector<double> first_of_cache(const Case& c, bool values) {
  const AttentionProblem problem = c.problem();
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    if (problem.kv_len(b) == 0) continue;
    const KvStrides& strides = values ? problem.kv.v_strides : problem.kv.k_strides;
    const std::int64_t offset = strides.offset(problem.page_table().locate(b, 0), 0);
    const std::int32_t dim = values ? problem.kv.head_dim_vo : problem.kv.head_dim_qk;
    return first_values(contiguous(values ? problem.kv.v : problem.kv.k, problem.kv.dtype, {offset + dim}), offset);
  }
  return {};
}

std::string scales_text(const Case& c) {
  const std::string k = c.k_scale.empty() ? "" : "\n  k_scale: " + list_text(c.k_scale, 6);
  return k + (c.v_scale.empty() ? "" : "\n  v_scale: " + list_text(c.v_scale, 6));
}

ladder::Json to_json(const Case& c) {
  return ladder::Json::Object{
      {"name", c.spec.name}, {"case", case_string(c.spec)}, {"q_shape", c.q.shape},
      {"kv_layout", name_of(c.spec.kv_layout)}, {"dtype", name_of(c.q.dtype)},
      {"kv_dtype", name_of(c.spec.cache_dtype())}, {"k_scale", c.k_scale}, {"v_scale", c.v_scale},
      {"metadata", metadata_of(c)},
      {"qo_lens", c.spec.qo_lens}, {"kv_lens", c.spec.kv_lens}, {"pages_in_pool", c.problem().kv.num_pages},
      {"page_size", c.problem().kv.page_size}, {"qo_indptr", c.qo_indptr}, {"paged_kv_indptr", c.paged_kv_indptr},
      {"paged_kv_indices", c.paged_kv_indices}, {"paged_kv_last_page_len", c.paged_kv_last_page_len},
      {"block_table", c.spec.block_table}, {"max_pages", c.problem().max_pages()},
      {"expected_o", c.expected_o.exists()}, {"expected_lse_log2", c.expected_lse_log2.exists()}};
}

std::string page_table_text(const Case& c) {
  constexpr std::int32_t most_requests = 8;
  std::vector<Row> rows;
  for (std::int32_t b = 0; b < std::min(c.spec.batch(), most_requests); ++b) {
    const std::vector<std::int32_t> pages(c.paged_kv_indices.begin() + c.paged_kv_indptr[b],
                                          c.paged_kv_indices.begin() + c.paged_kv_indptr[b + 1]);
    rows.push_back({std::to_string(b), std::to_string(c.spec.qo_lens[b]), std::to_string(c.spec.kv_lens[b]),
                    std::to_string(c.paged_kv_last_page_len[b]), list_text(pages, 16)});
  }
  return text_table({"request", "queries", "keys", "last_page_len", "pages"}, rows) +
         (c.spec.batch() > most_requests ? "...\n" : "");
}

int show(const std::string& what, bool as_json) {
  const Case c = std::filesystem::is_regular_file(what) ? ladder::read_case(what)
                                                        : draw_case(named_spec(what, ladder::all_cases()));
  if (as_json) {
    print_json(to_json(c));
    return good;
  }
  const AttentionProblem problem = c.problem();
  print(paragraph(c.spec.name) + "  " + case_string(c.spec) + "\n");
  for (const auto& [key, value] : metadata_of(c)) {
    print("  " + shortened(key + ": " + value, output_columns() - 2) + "\n");
  }
  const std::size_t parts = c.q_nope.bytes.size() + c.q_pe.bytes.size() + c.ckv_cache.bytes.size() + c.kpe_cache.bytes.size();
  const std::size_t bytes =
      parts > 0 ? parts : c.q.bytes.size() + c.kv_cache.bytes.size() + c.k_cache.bytes.size() + c.v_cache.bytes.size();
  print("  q [" + std::to_string(c.q.shape[0]) + ", " + std::to_string(c.q.shape[1]) + ", " + std::to_string(c.q.shape[2]) +
        "] " + name_of(c.q.dtype) + ": " + list_text(first_values(problem.q, 0), 6) +
        "\n  k of the first token: " + list_text(first_of_cache(c, false), 6) +
        "\n  v of the first token: " + list_text(first_of_cache(c, true), 6) + scales_text(c) + "\n  " +
        counted(problem.kv.num_pages, "page") + " of " + counted(problem.kv.page_size, "token") + " in the pool, " +
        ladder::bytes_text(bytes) + " in all" + (c.expected_o.exists() ? ", with the expected answer" : "") + "\n\n");
  print(page_table_text(c));
  return good;
}

struct MakeOptions {
  CaseOptions shape;
  std::string name, table, out;
};

int make(const MakeOptions& o, const ladder::Command& command) {
  const bool from_table = command.given("--from");
  require(o.shape.given() != command.given("NAME"), "case make", "", "wants either a case's NAME or --kv");
  require(!from_table || command.given("NAME"), "--from", ladder::shown(o.table), "wants the NAME of one of its cases");
  o.shape.refuse_idle();
  const CaseSpec spec = o.shape.given() ? o.shape.spec()
                        : named_spec(o.name, from_table ? ladder::read_case_table(o.table) : ladder::all_cases());
  std::vector<FileOption> inputs = o.shape.inputs();
  inputs.push_back({"--from", o.table});
  check_output({"--out", o.out}, inputs);
  write_case(o.out, draw_case(spec));
  const std::string size = ladder::bytes_text(std::filesystem::file_size(o.out));
  print(printable(o.out) + ": " + printable(spec.name) + " (" + size + ")\n");
  return good;
}

}  // namespace

void add_case(ladder::Program& program) {
  ladder::Command& command = program.command("case", "List, show and make cases");
  command.footer("Example:\n  flashladder case list\n  flashladder case show \"page size 5 HND\"");

  const auto as_json = std::make_shared<bool>(false);
  ladder::Command& lists = program.command(command, "list", "The built-in table");
  lists.add("--json", as_json.get(), "As a table that --cases reads");
  lists.footer("Example:\n  flashladder case list");
  lists.runs([as_json] { return list(*as_json); });

  const auto what = std::make_shared<std::string>();
  ladder::Command& shows = program.command(command, "show", "A case: parameters, sizes, first values, page table");
  shows.add("CASE", what.get(), "A name from the table, or a case file", {.required = true});
  shows.add("--json", as_json.get(), "As JSON");
  shows.footer("Example:\n  flashladder case show data/smollm2_decode.safetensors");
  shows.runs([what, as_json] { return show(*what, *as_json); });

  const auto o = std::make_shared<MakeOptions>();
  ladder::Command& makes = program.command(command, "make", "Draw a case and write it as a case file");
  makes.add("NAME", &o->name, "A name from the table");
  makes.add("--from", &o->table, "The JSON table that has the name; the built-in one if left out", {.value = "FILE"});
  makes.add("--out", &o->out, "The case file to write", {.value = "FILE", .required = true});
  o->shape.add_to(makes);
  makes.footer("Example:\n  flashladder case make --kv 37,120 --qo 3 --heads 6/2 --out a.safetensors");
  makes.runs([o, &makes] { return make(*o, makes); });
}

}  // namespace flashladder::cli
