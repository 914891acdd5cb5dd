#include "cli/plugin_page.hpp"

#include <algorithm>
#include <cmath>

#include "cli/console.hpp"
#include "core/write_file.hpp"
#include "draw/heatmap.hpp"
#include "draw/html.hpp"

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

template <class T, class Of>
draw::Svg picture(const ladder::SmallestFailure& f, const Rows& rows, const std::vector<T>& o, const char* title, Of of) {
  const std::int32_t dim = f.c.spec.params.head_dim_vo;
  std::vector<float> values;
  for (std::int64_t i = std::int64_t{rows.begin} * dim; i < std::int64_t{rows.end} * dim; ++i) values.push_back(of(i, o[i]));
  draw::HeatmapOptions options{.caption = {.title = title, .note = "Blank: not a finite number."}, .row_name = "row of o",
                               .column_name = "feature", .value_name = title, .row_labels = rows.labels()};
  return heatmap(rows.end - rows.begin, dim, values, options);
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

}  // namespace

void write_plugin_page(const std::string& path, const std::string& plugin, const ladder::SmallestFailure& f) {
  const Rows rows = rows_to_draw(f);
  const std::vector<double>& want = f.judgement.oracle.o;
  const std::vector<float>& got = f.judgement.run.result.o;
  draw::HtmlPage page(plugin + ": " + f.kind, case_string(f.c.spec));
  page.paragraph(f.judgement.message());
  for (const ladder::Fault fault : f.looks_like) {
    page.paragraph(std::string("Looks like `") + ladder::info(fault).name + "`: " + ladder::info(fault).what + ".");
  }
  if (rows.begin < rows.end) {
    page.section("o");
    page.figure(picture(f, rows, want, "expected", [](std::int64_t, double x) { return static_cast<float>(x); }),
                "What the formula gives in double.");
    page.figure(picture(f, rows, got, "got", [](std::int64_t, float x) { return x; }), "What the plug-in gave.");
    page.figure(picture(f, rows, got, "difference", [&](std::int64_t i, float x) {
                  return static_cast<float>(std::abs(x - want[static_cast<std::size_t>(i)]));
                }), "The distance of the two. Where it is blank, one of them is not a number.");
    page.section("lse_log2");
    page.table({"row", "head", "expected", "got", "difference", "tolerance"}, listed_lse(f, rows));
  }
  write_file_whole(path, page.str());
}

}  // namespace flashladder::cli
