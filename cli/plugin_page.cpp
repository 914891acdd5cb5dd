#include "cli/plugin_page.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>

#include "cli/console.hpp"
#include "core/write_file.hpp"
#include "draw/heatmap.hpp"
#include "draw/html.hpp"
#include "reference/gather.hpp"

namespace flashladder::cli {
namespace {

constexpr std::int32_t most_rows = 200, most_listed = 40;

// The rows around the worst error: all of them where they are few.
struct Rows {
  std::int32_t begin, end, heads;
  std::vector<std::string> labels() const {
    std::vector<std::string> names;
    for (std::int32_t r = begin; r < end; ++r) {
      names.push_back("row " + std::to_string(r / heads) + " head " + std::to_string(r % heads));
    }
    return names;
  }
};

Rows rows_to_draw(const ladder::SmallestFailure& f) {
  const auto rows = static_cast<std::int32_t>(f.judgement.oracle.lse_log2.size());
  const ladder::Worst& worst = f.judgement.comparison->worst();
  const std::int32_t heads = f.c.spec.params.num_qo_heads;
  const std::int32_t at = worst.request < 0 ? 0 : (f.c.qo_indptr[worst.request] + worst.query) * heads + worst.head;
  const std::int32_t begin = std::clamp(at - most_rows / 2, 0, std::max(rows - most_rows, 0));
  return {begin, std::min(begin + most_rows, rows), heads};
}

// [rows, head_dim_vo], as the pictures have them
struct Outputs {
  std::int32_t dim;
  std::vector<float> expected, got, difference;

  Outputs(const ladder::SmallestFailure& f, const Rows& rows) : dim(f.c.spec.params.head_dim_vo) {
    for (std::int64_t i = std::int64_t{rows.begin} * dim; i < std::int64_t{rows.end} * dim; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double want = f.judgement.oracle.o[at];
      const float came = f.judgement.run.result.o[at];
      expected.push_back(static_cast<float>(want));
      got.push_back(came);
      difference.push_back(static_cast<float>(std::abs(came - want)));
    }
  }
};

draw::Svg picture(const Rows& rows, std::int32_t dim, std::span<const float> values, const char* title,
                  std::span<const float> also_in_scale = {}) {
  constexpr double of_a_phone = 340;
  return draw::heatmap(rows.end - rows.begin, dim, values,
                 {.caption = {.title = title, .note = "Blank: not a finite number."}, .row_name = "row of o",
                  .column_name = "feature", .value_name = title, .row_labels = rows.labels(),
                  .also_in_scale = also_in_scale, .least_width = of_a_phone});
}

// As many digits as tell two floats apart.
std::string exact(float x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(x));
  return text;
}

std::vector<std::vector<std::string>> listed_lse(const ladder::SmallestFailure& f, const Rows& rows) {
  std::vector<std::vector<std::string>> table;
  for (std::int32_t r = rows.begin; r < std::min(rows.end, rows.begin + most_listed); ++r) {
    const double want = f.judgement.oracle.lse_log2[r], got = f.judgement.run.result.lse_log2[r];
    table.push_back({std::to_string(r / rows.heads), std::to_string(r % rows.heads), short_number(want), short_number(got),
                     short_number(want == got ? 0 : got - want), short_number(f.judgement.oracle.tolerance[r].lse_log2)});
  }
  return table;
}

// Every number that goes in, token by token, where they are few enough to compute with by hand. As stored: not rotated.
std::vector<std::vector<std::string>> listed_inputs(const ladder::Case& c) {
  constexpr std::int64_t most_values = 160;
  const AttentionParams& p = c.spec.params;
  const std::int64_t of_token = std::int64_t{p.num_kv_heads} * (p.head_dim_qk + p.head_dim_vo);
  if (c.spec.nnz_qo() * p.num_qo_heads * p.head_dim_qk + c.spec.total_kv() * of_token > most_values) return {};
  AttentionProblem problem = c.problem();
  problem.params.pos_encoding_mode = PosEncodingMode::NONE;
  std::vector<std::vector<std::string>> table;
  const auto add = [&](const char* name, std::int32_t request, std::int32_t head, const reference::Matrix<float>& rows) {
    for (std::int32_t t = 0; t < rows.rows(); ++t) {
      std::string values;
      for (std::int32_t i = 0; i < rows.cols(); ++i) values += (i == 0 ? "" : ", ") + exact(rows(t, i));
      table.push_back({name, std::to_string(request), std::to_string(t), std::to_string(head), values});
    }
  };
  reference::Matrix<float> rows;
  for (std::int32_t r = 0; r < c.spec.batch(); ++r) {
    for (std::int32_t h = 0; h < p.num_qo_heads; ++h) {
      reference::load_queries(problem, r, reference::rows_of_head(h, {0, problem.qo_len(r)}), rows);
      add("q", r, h, rows);
    }
    for (std::int32_t h = 0; h < p.num_kv_heads; ++h) {
      reference::load_keys(problem, r, h, {0, problem.kv_len(r)}, rows);
      add("k", r, h, rows);
      reference::load_values(problem, r, h, {0, problem.kv_len(r)}, rows);
      add("v", r, h, rows);
    }
  }
  for (std::size_t h = 0; h < c.sinks.size(); ++h) table.push_back({"sink", "-", "-", std::to_string(h), exact(c.sinks[h])});
  return table;
}

}  // namespace

std::string case_text(const ladder::CaseSpec& spec) {
  const std::string text = case_string(spec);
  const bool hidden = spec.params.mask == MaskMode::causal && text.find("causal") == text.npos;
  return text + (hidden ? " causal" : "");
}

std::string likeness(const ladder::SmallestFailure& f) {
  if (!f.compared) return "";
  if (f.looks_like.empty()) return "It is none of the known mistakes: not recognised.";
  std::string text = "It looks like ";
  for (std::size_t i = 0; i < f.looks_like.size(); ++i) {
    const ladder::FaultInfo& fault = ladder::info(f.looks_like[i]);
    text += std::string(i == 0 ? "" : ", or ") + fault.name + " (" + fault.what + ")";
  }
  return text + (f.looks_like.size() > 1 ? ": no case tells these apart." : ".");
}

void write_plugin_page(const std::string& path, const std::string& plugin, const ladder::SmallestFailure& f) {
  const Rows rows = rows_to_draw(f);
  draw::HtmlPage page(plugin + ": " + f.kind, case_text(f.c.spec));
  page.paragraph(f.judgement.message());
  if (const std::string text = likeness(f); !text.empty()) page.paragraph(text);
  if (const auto inputs = listed_inputs(f.c); !inputs.empty()) {
    page.section("Inputs");
    page.paragraph("A logit is sm_scale q . k; here sm_scale is " + exact(f.c.spec.params.sm_scale) + ".");
    page.table({"", "request", "query or key", "head", "values"}, inputs);
  }
  if (rows.begin < rows.end) {
    page.section("o");
    const Outputs o(f, rows);
    page.figure(picture(rows, o.dim, o.expected, "expected", o.got), "What the formula gives in double.");
    page.figure(picture(rows, o.dim, o.got, "got", o.expected), "What the plug-in gave, in the same colours.");
    page.figure(picture(rows, o.dim, o.difference, "difference"),
                "The distance of the two, in colours of its own. Where it is blank, one of them is not a number.");
    page.section("lse_log2");
    page.table({"row", "head", "expected", "got", "difference", "tolerance"}, listed_lse(f, rows));
  }
  write_file_whole(path, page.str());
}

}  // namespace flashladder::cli
