#include "draw/svg.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

std::string attribute(std::string_view name, double value) { return " " + std::string(name) + "=\"" + number(value) + '"'; }

std::string attribute(std::string_view name, std::string_view value) {
  return " " + std::string(name) + "=\"" + std::string(value) + '"';
}

std::string attributes(const Style& style) {
  std::string text = attribute("fill", style.fill.css);
  if (style.stroke.css != "none") {
    text += attribute("stroke", style.stroke.css);
    if (style.width != 1) text += attribute("stroke-width", style.width);
    if (style.dashed) text += attribute("stroke-dasharray", "4 3");
  }
  return text;
}

std::string element(std::string_view name, const std::string& attributes, std::string_view tooltip = {}) {
  const std::string open = "<" + std::string(name) + attributes;
  if (tooltip.empty()) return open + "/>\n";
  return open + "><title>" + escape(tooltip) + "</title></" + std::string(name) + ">\n";
}

std::string pair(Point p) { return number(p.x) + " " + number(p.y); }

}  // namespace

void Canvas::rect(Box box, const Style& style, std::string_view tooltip) {
  const std::string place = attribute("x", box.x) + attribute("y", box.y) + attribute("width", std::max(0.0, box.width)) +
                            attribute("height", std::max(0.0, box.height));
  body_ += element("rect", place + attributes(style), tooltip);
}

void Canvas::line(Point from, Point to, const Style& style) { path("M" + pair(from) + "L" + pair(to), style); }

void Canvas::polyline(std::span<const Point> points, const Style& style) {
  std::string d;
  for (const Point& p : points) d += (d.empty() ? "M" : "L") + pair(p);
  if (!d.empty()) path(d, style);
}

void Canvas::circle(Point centre, double radius, const Style& style, std::string_view tooltip) {
  const std::string place = attribute("cx", centre.x) + attribute("cy", centre.y) + attribute("r", radius);
  body_ += element("circle", place + attributes(style), tooltip);
}

void Canvas::path(std::string_view d, const Style& style) {
  body_ += element("path", attribute("d", d) + attributes(style));
}

// A cubic whose control points lie half way out along the bend, and a triangle as its head.
void Canvas::arrow(Point from, Point to, Rgb colour, Bend bend, double width) {
  const Point way = to - from;
  const Point lead = bend == Bend::sideways    ? Point{way.x / 2, 0}
                     : bend == Bend::downwards ? Point{0, way.y / 2}
                                               : 0.5 * way;
  const double length = std::hypot(lead.x, lead.y), head = 4 + 2 * width;
  const Point along = length > 0 ? (1 / length) * lead : Point{1, 0};
  const Point neck = to - head * along, side = head / 2.4 * Point{-along.y, along.x};
  path("M" + pair(from) + "C" + pair(from + lead) + " " + pair(neck - lead) + " " + pair(neck),
       {.stroke = colour, .width = width});
  path("M" + pair(neck + side) + "L" + pair(to) + "L" + pair(neck - side) + "z", {.fill = colour});
}

void Canvas::text(Point baseline, std::string_view text, const TextStyle& style) {
  constexpr std::array anchors{"start", "middle", "end"};
  std::string a = attribute("x", baseline.x) + attribute("y", baseline.y);
  if (style.size != 12) a += attribute("font-size", style.size);
  if (style.anchor != Anchor::start) a += attribute("text-anchor", anchors[static_cast<std::size_t>(style.anchor)]);
  if (style.colour != ink) a += attribute("fill", hex(style.colour));
  if (style.bold) a += attribute("font-weight", "600");
  if (style.mono) a += attribute("font-family", "ui-monospace,Consolas,'DejaVu Sans Mono',monospace");
  if (style.turned != 0) a += attribute("transform", "rotate(" + number(style.turned) + " " + pair(baseline) + ")");
  body_ += "<text" + a + ">" + escape(text) + "</text>\n";
}

void Canvas::open_group(Point origin, double scale) {
  body_ += "<g shape-rendering=\"crispEdges\" transform=\"translate(" + pair(origin) + ") scale(" + number(scale) + ")\">\n";
}

void Canvas::close_group() { body_ += "</g>\n"; }

// The id is made of the colour: two pictures in one page that define it twice define the same.
Paint Canvas::hatch(Rgb colour) {
  const std::string id = "hatch-" + hex(colour).substr(1);
  if (definitions_.find(id) == std::string::npos) {
    definitions_ += "<pattern" + attribute("id", id) + " width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" " +
                    "patternTransform=\"rotate(45)\"><rect width=\"5\" height=\"5\"" +
                    attribute("fill", hex(mix(colour, paper, 0.65))) + "/><rect width=\"2\" height=\"5\"" +
                    attribute("fill", hex(colour)) + "/></pattern>\n";
  }
  Paint paint;
  paint.css = "url(#" + id + ")";
  return paint;
}

Svg Canvas::finish(double width, double height, std::string_view description) const {
  constexpr const char* fonts = "system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif";
  std::string text = "<svg xmlns=\"http://www.w3.org/2000/svg\"" + attribute("width", width) + attribute("height", height) +
                     attribute("viewBox", "0 0 " + pair({width, height})) + attribute("role", "img") +
                     attribute("aria-label", escape(description)) + attribute("fill", hex(ink)) +
                     attribute("font-family", fonts) + attribute("font-size", 12) + ">\n";
  if (!definitions_.empty()) text += "<defs>\n" + definitions_ + "</defs>\n";
  text += element("rect", attribute("width", width) + attribute("height", height) + attribute("fill", hex(paper)));
  return {width, height, text + body_ + "</svg>\n"};
}

}  // namespace flashladder::draw
