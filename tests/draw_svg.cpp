// Pictures: well-formed whatever the data, as many marks as the data has, the same bytes each time.
#include <cmath>
#include <random>
#include <sstream>

#include "core/error.hpp"
#include "core/swizzle.hpp"
#include "core/visibility.hpp"
#include "draw/bar_chart.hpp"
#include "draw/cta_chart.hpp"
#include "draw/heatmap.hpp"
#include "draw/mask_picture.hpp"
#include "draw/merge_tree.hpp"
#include "draw/page_table_picture.hpp"
#include "draw/plan_lanes.hpp"
#include "draw/softmax_timeline.hpp"
#include "draw/tile_pictures.hpp"
#include "tests/draw_check.hpp"

using namespace flashladder;
using namespace flashladder::draw;

namespace {

// The colour of each cell [rows, columns] as the runs of a heatmap paint it; "" = blank, "twice" = painted twice.
std::vector<std::string> painted(const std::vector<Element>& elements, std::int32_t rows, std::int32_t columns) {
  std::vector<std::string> cells(static_cast<std::size_t>(rows) * columns);
  for (const Element& e : elements) {
    const std::string stroke = e["stroke"];
    std::istringstream d(e["d"]);
    double row = 0, row_step = 0;
    std::int64_t column = 0, column_step = 0, length = 0;
    if (stroke.empty()) continue;
    for (char move, line; d >> move >> column_step >> row_step >> line >> length && line == 'h';) {
      column = move == 'M' ? column_step : column + column_step;
      row = move == 'M' ? row_step : row + row_step;
      for (; length > 0; --length, ++column) {
        std::string& cell = cells.at(static_cast<std::size_t>(std::floor(row)) * columns + column);
        cell = cell.empty() ? stroke : "twice";
      }
    }
  }
  return cells;
}

// One request of 40 keys cut in two, `others` requests of 10 keys, dealt to CTAs in turn.
Plan dealt_plan(std::int32_t others, std::int32_t num_ctas) {
  Plan plan;
  plan.batch = others + 1;
  plan.cta_cost.resize(num_ctas);
  PlanPart part;
  part.items = {{.rows = {0, 1}, .keys = {0, 20}, .flags = WorkItem::first, .merge = 0, .partial_slot = 0},
                {.rows = {0, 1}, .keys = {20, 40}, .flags = WorkItem::last, .merge = 0, .partial_slot = 1}};
  part.merges = {{.rows = {0, 1}, .first_slot = 0, .num_partials = 2}};
  for (std::int32_t r = 1; r <= others; ++r) part.items.push_back({.request = r, .rows = {0, 1}, .keys = {0, 10}});
  part.queue_indptr = {0};
  for (std::int32_t cta = 0; cta < num_ctas; ++cta) {
    for (std::int32_t i = cta; i < std::ssize(part.items); i += num_ctas) part.queue.push_back(i);
    part.queue_indptr.push_back(static_cast<std::int32_t>(part.queue.size()));
  }
  plan.parts = {part};
  return plan;
}
std::vector<float> costs_of(const Plan& plan) {
  std::vector<float> costs;
  for (const WorkItem& item : plan.parts[0].items) costs.push_back(static_cast<float>(item.keys.size()));
  return costs;
}

}  // namespace

TEST_CASE("a heatmap has a cell for every value that was seen") {
  std::mt19937 random(7);
  std::vector<float> values(400 * 400);
  for (float& v : values) v = static_cast<float>(random() % 1000);
  const Svg large = heatmap(400, 400, values);
  const std::vector<std::string> cells = painted(checked(large), 400, 400);
  CHECK(std::count(cells.begin(), cells.end(), "") + std::count(cells.begin(), cells.end(), "twice") == 0);
  const auto cell_of = [&](float v) { return cells[std::find(values.begin(), values.end(), v) - values.begin()]; };
  CHECK(cell_of(0) == hex(ramp(0)));
  CHECK(cell_of(999) == hex(ramp(1)));
  CHECK(large.text == heatmap(400, 400, values).text);
  CHECK(occurrences(heatmap(10, 30, std::vector<float>(300, 1.0f)).text, "h30") == 10);  // a run for each row
}

TEST_CASE("a heatmap leaves blank what was not seen") {
  const std::string low = hex(ramp(0)), high = hex(ramp(1));
  for (const ColourScale scale : {ColourScale::linear, ColourScale::square_root, ColourScale::logarithmic}) {
    const std::vector<float> few{0.5f, nan_value, infinity, 0.0f, 0.0f, -infinity};
    const Svg svg = heatmap(2, 3, few, {.caption = {hostile, hostile}, .row_labels = {hostile, "b"}, .scale = scale});
    CHECK(painted(checked(svg), 2, 3) == std::vector<std::string>{high, "", "", low, low, ""});
    CHECK(occurrences(svg.text, ">0.5</text>") >= 2);  // in the cell and on the colour bar
  }
  checked(heatmap(1, 2, std::vector<float>(2, nan_value)));
  std::vector<float> huge(900 * 900, 2.0f);
  huge[5 * 900 + 4] = 3;
  const Svg folded = heatmap(900, 900, huge);
  std::vector<std::string> expected(300 * 300, low);
  expected[300 + 1] = high;
  CHECK((painted(checked(folded), 300, 300) == expected));
  CHECK(folded.text.find("largest of 3 x 3") != std::string::npos);
  CHECK_THROWS_AS(heatmap(2, 2, std::vector<float>(3)), InputError);
  CHECK_THROWS_AS(heatmap(0, 2, {}), InputError);
  CHECK_THROWS_AS(heatmap(1, 2, std::vector<float>(2), {.column_labels = {"one"}}), InputError);
}

TEST_CASE("a mask picture shows the cells that are visible") {
  const std::vector<std::uint8_t> custom(7 * 5, 1);
  for (const MaskMode mode : {MaskMode::none, MaskMode::causal, MaskMode::custom}) {
    for (const auto& [qo_len, kv_len] : {std::pair{5, 7}, {7, 5}}) {
      const AttentionParams params{.mask = mode, .window_left = 2};
      std::int64_t expected = 0;
      for (int i = 0; i < qo_len; ++i) {
        for (int j = 0; j < kv_len; ++j) expected += visible(params, qo_len, kv_len, i, j, custom.data());
      }
      const auto elements = checked(mask_picture(params, qo_len, kv_len, custom, {hostile, ""}));
      CHECK(count(elements, [](const Element& e) { return e["fill"] == hex(blue) && e["width"] != "12"; }) == expected);
    }
  }
  const Svg tall = mask_picture({.mask = MaskMode::causal}, 7, 5);
  CHECK(occurrences(tall.text, "empty row") == 2);
  checked(mask_picture({.mask = MaskMode::causal}, 1000, 1000));
  CHECK_THROWS_AS(mask_picture({.mask = MaskMode::custom}, 3, 3), InputError);
  CHECK_THROWS_AS(mask_picture({}, 3, 0), InputError);
}

TEST_CASE("a page table picture has an arrow for every entry of the table") {
  const std::int32_t indptr[] = {0, 2, 2, 4}, indices[] = {5, 1, 5, 3}, last[] = {2, 0, 4};
  const PageTable table{indptr, indices, last, 4, 3};
  const Svg svg = page_table_picture(table, 6, {hostile, ""}, {"a", hostile, "c"});
  CHECK(count(checked(svg), is_arrow) == 4);
  CHECK(occurrences(svg.text, ">free<") == 3);
  CHECK(occurrences(svg.text, "shared by 2") == 1);
  CHECK(svg.text == page_table_picture(table, 6, {hostile, ""}, {"a", hostile, "c"}).text);
  CHECK_THROWS_AS(page_table_picture(table, 5), InputError);
}

TEST_CASE("softmax and merge pictures keep their marks and survive what is not finite") {
  const std::vector<SoftmaxStep> steps{{hostile, {-infinity, nan_value}, -infinity, 0, 0},
                                       {"tile 1", {1, 2}, 2, 1.5, 0},
                                       {"tile 2", {3}, 3, nan_value, infinity}};
  const auto elements = checked(softmax_timeline(steps, {hostile, ""}));
  CHECK(count(elements, [](const Element& e) { return e.name == "circle"; }) == 3);
  checked(softmax_timeline({}));
  const std::vector<MergeNode> tree{{hostile, -infinity, 0}, {"b", 2, nan_value}, {"c", 1, 1}, {"all", 2, 1, {0, 1, 2}}};
  CHECK(count(checked(merge_tree(tree)), is_arrow) == 3);
  CHECK_THROWS_AS(merge_tree({}), InputError);
  CHECK_THROWS_AS(merge_tree(std::vector<MergeNode>{{"a"}, {"b"}}), InputError);                      // two roots
  CHECK_THROWS_AS(merge_tree(std::vector<MergeNode>{{"a"}, {"b", 0, 1, {0}}, {"c", 0, 1, {0, 1}}}), InputError);
}

TEST_CASE("plan lanes draw every item as long as it takes") {
  const Plan plan = dealt_plan(6, 4);  // lanes of 30, 30, 20, 20 keys
  std::vector<float> costs = costs_of(plan);
  const LaneSummary summary = summarize_lanes(plan, costs);
  CHECK(summary.makespan == doctest::Approx(30));
  CHECK(summary.utilisation == doctest::Approx(25.0 / 30));
  CHECK(summary.tail == doctest::Approx(30 - 25));
  const Svg svg = plan_lanes(plan, costs, 2, hostile);
  double request_0 = 0, others = 0;
  for (const Element& e : checked(svg)) {
    if (e.name != "rect" || e.attributes.back() == '/') continue;  // only bars have a tooltip
    (e["fill"].starts_with("url(#hatch") ? request_0 : others) += std::stod(e["width"]);
  }
  CHECK(request_0 / others == doctest::Approx(40.0 / 60).epsilon(0.02));
  CHECK(occurrences(svg.text, "<title>") == 8);
  CHECK(svg.text == plan_lanes(plan, costs, 2, hostile).text);

  costs[0] = nan_value, costs[1] = infinity;  // count as nothing
  checked(plan_lanes(plan, costs, 3, ""));
  CHECK(summarize_lanes(plan, costs).makespan == doctest::Approx(20));
  CHECK(summarize_lanes(plan, costs).utilisation == doctest::Approx(60.0 / 80));
  CHECK_THROWS_AS(plan_lanes(plan, std::span(costs).first(3), 2, ""), InputError);
  CHECK_THROWS_AS(plan_lanes(plan, costs, 0, ""), InputError);
  Plan broken = plan;
  broken.parts[0].queue[0] = 8;
  CHECK_THROWS_AS(plan_lanes(broken, costs, 2, ""), InputError);
}

TEST_CASE("parts are drawn one behind the other") {
  Plan plan = dealt_plan(6, 4);  // lanes of 30, 30, 20, 20 keys
  plan.parts.push_back(plan.parts[0]);
  plan.parts[1].copies = 2;  // its work 0 to 7 is that of its items 0 to 3, two of each
  std::vector<float> costs = costs_of(plan);
  for (const float cost : costs_of(plan)) costs.insert(costs.end(), 2, cost);
  CHECK(summarize_lanes(plan, costs).makespan == doctest::Approx(30 + 30));  // CTA 0: and work 0 and 4, of 20 and 10 keys
  CHECK(summarize_lanes(plan, costs).utilisation == doctest::Approx((100.0 + 120) / 4 / 60));
  checked(plan_lanes(plan, costs, 2, ""));
}

TEST_CASE("a plan of many items stays small and loses none of its time") {
  const Plan plan = dealt_plan(264 * 151 - 2, 264);  // 151 items a lane: two are drawn as one, and one is left over
  const std::vector<float> costs(static_cast<std::size_t>(plan.num_work()), 1.0f);
  double end = 0;
  for (const Element& e : checked(plan_lanes(plan, costs, 2, "many"))) {
    std::istringstream d(e["d"]);
    double x = 0, y = 0, width = 0, height = 0, back = 0;
    char letter;
    while (d >> letter >> x >> y >> letter >> width >> letter >> height >> letter >> back >> letter) {
      end = std::max(end, x + width);
    }
  }
  CHECK(end > 868);  // the axis ends at 870; the gap before the next bar takes less than a pixel
  const Plan small = dealt_plan(6, 4);
  const std::vector<float> small_costs = costs_of(small);
  checked(policies_picture(std::vector<PolicyLanes>{{hostile, &plan, costs}, {"b", &small, small_costs}}, 2));
  const std::vector<PolicyLanes> one{{"a", &small, small_costs}};
  const Svg numbered = policies_picture(one, 2), lettered = policies_picture(one, 2, {}, RequestNames::letters);
  checked(lettered);
  CHECK(numbered.text.find(">request 1<") != std::string::npos);
  CHECK(lettered.text.find(">request B<") != std::string::npos);
  CHECK(lettered.text.find(">request 1<") == std::string::npos);
}

TEST_CASE("a fragment picture has every element of the tile and refuses others") {
  const Svg svg = fragment_picture(16, 8, 32, mma_c_elements, mma_c_element, {hostile, ""});
  checked(svg);
  CHECK(occurrences(svg.text, "<title>lane ") == 16 * 8);
  CHECK(occurrences(svg.text, ">31:3</text>") == 1);
  const auto same_cell = [](std::int32_t, std::int32_t) { return FragmentElement{0, 0}; };
  CHECK(occurrences(fragment_picture(2, 2, 2, 1, same_cell).text, "stroke=\"" + hex(vermillion)) == 1);
  CHECK_THROWS_AS(fragment_picture(8, 8, 32, mma_c_elements, mma_c_element), InputError);
}

TEST_CASE("a bank picture counts the conflict before and after the swizzle") {
  const auto rows = [](std::int32_t row, std::int32_t chunk) { return row * 128 + chunk * chunk_bytes; };
  const auto swizzled = [](std::int32_t row, std::int32_t chunk) {
    return row * 128 + swizzled_chunk(Swizzle::bytes_128, row, chunk) * chunk_bytes;
  };
  const Svg svg = bank_picture(8, 8, 3, rows, swizzled, {hostile, ""});
  const auto elements = checked(svg);
  CHECK(occurrences(svg.text, "8-way conflict") == 1);
  CHECK(occurrences(svg.text, "1-way: no conflict") == 1);
  std::vector<std::string> cells;  // 8 x 8 before, then 8 x 8 after
  for (const Element& e : elements) {
    if (e.name == "rect" && e["width"] == "33" && e["fill"] != "none") cells.push_back(e["fill"]);
  }
  REQUIRE(cells.size() == 128);
  for (std::size_t row = 0; row < 8; ++row) {
    for (std::size_t chunk = 0; chunk < 8; ++chunk) {
      CHECK(cells[row * 8 + chunk] == hex(category(static_cast<std::int64_t>(chunk))));
      CHECK(cells[64 + row * 8 + chunk] == hex(category(static_cast<std::int64_t>(chunk ^ row))));
    }
  }
  CHECK_THROWS_AS(bank_picture(8, 8, 8, rows, swizzled), InputError);
}

TEST_CASE("bars are as long as their values") {
  const std::vector<Bar> bars{{"a", {2}, "1x"}, {hostile, {1}, hostile}, {"c", {nan_value}}, {"d", {-infinity}}};
  const Svg svg = bar_chart(bars, {.caption = {hostile, ""}, .unit = "s"});
  std::vector<double> lengths;
  for (const Element& e : checked(svg)) {
    if (e["fill"] == hex(blue)) lengths.push_back(std::stod(e["width"]));
  }
  REQUIRE(lengths.size() == 2);
  CHECK(lengths[0] == doctest::Approx(2 * lengths[1]));
  checked(bar_chart(bars, {.unit = "s", .logarithmic = true}));
  checked(bar_chart({}, {}));
  const std::vector<Traffic> traffic{{"FA1", 1e9, 2e9, 3e9, 4e9, 5e8}, {"FA2", 1e8, 2e8, 3e8, 4e8, 0}};
  CHECK(occurrences(traffic_bars(traffic, {}).text, "<title>") == 10);
  CHECK_THROWS_AS(bar_chart(std::vector<Bar>{{"a", {1, 2}}}, {}), InputError);
  CHECK_THROWS_AS(bar_chart(std::vector<Bar>{{"a", {1, 2}}}, {.part_names = {"x", "y"}, .logarithmic = true}), InputError);
}

TEST_CASE("a chart of CTAs has a bar and a mark for each that has numbers") {
  const std::vector<CtaTime> ctas{{0, 10, 9}, {0.5, 12, nan_value}, {nan_value, 3, 3}, {0, 0, 0}};
  const std::vector<Element> elements = checked(cta_chart(ctas, {.title = hostile}));
  const auto painted_in = [&](const char* attribute, Rgb colour) {
    return std::count_if(elements.begin(), elements.end(), [&](const Element& e) { return e[attribute] == hex(colour); });
  };
  CHECK(painted_in("fill", sky) == 3 + 1);           // and the legend's
  CHECK(painted_in("stroke", vermillion) == 2);
  checked(cta_chart({}, {}));
  CHECK(cta_chart(ctas, {}, "lane").text.find("start to end of a lane") != std::string::npos);
}
