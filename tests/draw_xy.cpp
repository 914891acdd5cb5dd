// Charts over two axes: every point that an axis can show is drawn where its numbers say, and no other.
#include <cmath>

#include "draw/xy_chart.hpp"
#include "tests/draw_check.hpp"

using namespace flashladder::draw;

namespace {

std::vector<Element> circles_of(const Svg& svg) {
  std::vector<Element> circles;
  for (const Element& e : checked(svg)) {
    if (e.name == "circle") circles.push_back(e);
  }
  return circles;
}

// Without the legend's, which are drawn last: one for each series but those of squares.
std::vector<Element> points_of(const Svg& svg, std::size_t in_legend = 1) {
  std::vector<Element> circles = circles_of(svg);
  REQUIRE(circles.size() >= in_legend);
  circles.resize(circles.size() - in_legend);
  return circles;
}

double x_of(const Element& e) { return std::stod(e["cx"]); }
double y_of(const Element& e) { return std::stod(e["cy"]); }

}  // namespace

TEST_CASE("xy chart: equal steps on a linear axis, equal factors on a logarithmic one") {
  const std::vector<XySeries> series{{.name = "a", .points = {{1, 10}, {10, 20}, {100, 30}}}};
  const std::vector<Element> points = points_of(xy_chart(series, {.x = {"x", true, {}}, .y = {"y", false, {}}}));
  REQUIRE(points.size() == 3);
  CHECK(x_of(points[1]) - x_of(points[0]) == doctest::Approx(x_of(points[2]) - x_of(points[1])).epsilon(1e-3));
  CHECK(y_of(points[0]) - y_of(points[1]) == doctest::Approx(y_of(points[1]) - y_of(points[2])).epsilon(1e-3));
  CHECK(x_of(points[0]) < x_of(points[1]));
  CHECK(y_of(points[0]) > y_of(points[1]));  // up is less y
}

TEST_CASE("xy chart: what an axis can't show is not drawn") {
  const double most = std::numeric_limits<double>::max();
  const std::vector<XyPoint> points{{1, 1}, {nan_value, 1}, {1, nan_value}, {infinity, 1}, {1, -infinity}, {-1, 1},
                                    {0, 1}, {1, 0},         {most, 1},      {1, 1e-310}};
  const std::vector<XySeries> series{{.name = hostile, .points = points, .joined = true}};
  CHECK(points_of(xy_chart(series, {.x = {hostile, true, {}}, .y = {hostile, true, {}}})).size() == 1);
  CHECK(points_of(xy_chart(series, {.x = {"x", false, {}}, .y = {"y", false, {}}})).size() == 4);  // 0 has a place there
  CHECK(circles_of(xy_chart({}, {.caption = {.title = hostile}})).empty());
  const std::vector<XySeries> one{{.name = "one", .points = {{0, 0, hostile}}}};
  CHECK(points_of(xy_chart(one, {.roofs = {{hostile, {{nan_value, most}, {1, 1}}}, {"empty", {}}}})).size() == 1);
}

TEST_CASE("xy chart: a series is in the legend, its line is in the order of x, others are rings") {
  const std::vector<XySeries> series{
      {.name = "ours", .colour = blue, .points = {{3, 1}, {1, 1}, {2, 1}}, .joined = true},
      {.name = "theirs", .colour = green, .points = {{2, 2, "a tip"}}, .hollow = true},
      {.name = "one's own", .colour = blue, .points = {{2, 3, "found"}}, .square = true}};
  const Svg svg = xy_chart(series, {.x = {"x", false, {1, 2, 3}}});
  const std::vector<Element> points = points_of(svg, 2);
  REQUIRE(points.size() == 4);
  CHECK(points[0]["fill"] == hex(blue));
  CHECK(points[3]["fill"] == hex(paper));
  CHECK(points[3]["stroke"] == hex(green));
  CHECK(x_of(points[0]) < x_of(points[1]));
  CHECK(x_of(points[1]) < x_of(points[2]));
  CHECK(occurrences(svg.text, ">found</title></rect>") == 1);
  const std::vector<Element> circles = circles_of(svg);
  const std::vector<Element> marks(circles.begin() + 4, circles.end());  // in the legend, each of its series' shape
  CHECK(marks[0]["fill"] == hex(blue));
  CHECK(marks[1]["fill"] == hex(paper));
  CHECK(marks[1]["stroke"] == hex(green));
  CHECK(y_of(marks[0]) > y_of(points[0]));
  CHECK(occurrences(svg.text, "width=\"12\" height=\"12\"") == 2);  // the square and its mark
  for (const char* text : {">ours<", ">theirs<", ">a tip<", ">found<"}) CHECK(occurrences(svg.text, text) == 1);
  CHECK(xy_chart(series, {.x = {"x", false, {1, 2, 3}}}).text == svg.text);
}
