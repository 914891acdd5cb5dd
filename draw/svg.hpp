// A small SVG writer. Figures put shapes on a Canvas, in pixels, y downwards, and finish() makes the document:
//
//   Canvas canvas;
//   canvas.rect({10, 10, 80, 20}, {.fill = blue}, "the tooltip");
//   canvas.text({50, 24}, "a label", {.anchor = Anchor::middle});
//   Svg svg = canvas.finish(100, 40, "what a reader who cannot see is told");
//
// The same calls give the same bytes. Text is escaped here; nothing else needs to think of it.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "draw/palette.hpp"

namespace flashladder::draw {

struct Svg {
  double width = 0, height = 0;  // pixels
  std::string text;              // <svg ...> .. </svg>: a file of its own, or a part of an HTML page
};

struct Point {
  double x = 0, y = 0;
  friend constexpr Point operator+(Point a, Point b) { return {a.x + b.x, a.y + b.y}; }
  friend constexpr Point operator-(Point a, Point b) { return {a.x - b.x, a.y - b.y}; }
  friend constexpr Point operator*(double s, Point p) { return {s * p.x, s * p.y}; }
};

struct Box {
  double x = 0, y = 0, width = 0, height = 0;
  double right() const { return x + width; }
  double bottom() const { return y + height; }
  Point centre() const { return {x + width / 2, y + height / 2}; }
};

// A colour, a hatch of the canvas, or (as it starts) nothing.
struct Paint {
  std::string css = "none";
  Paint() = default;
  Paint(Rgb colour) : css(hex(colour)) {}
};

struct Style {
  Paint fill = {}, stroke = {};
  double width = 1;  // of the stroke
  bool dashed = false;
};

enum class Anchor { start, middle, end };

struct TextStyle {
  double size = 12;
  Anchor anchor = Anchor::start;
  Rgb colour = ink;
  bool bold = false;
  bool mono = false;
  double turned = 0;  // degrees clockwise around the point
};

enum class Bend { straight, sideways, downwards };  // how an arrow leaves and arrives

class Canvas {
 public:
  void rect(Box box, const Style& style, std::string_view tooltip = {});
  void line(Point from, Point to, const Style& style);
  void polyline(std::span<const Point> points, const Style& style);
  void circle(Point centre, double radius, const Style& style, std::string_view tooltip = {});
  void path(std::string_view d, const Style& style);  // d as in SVG 1.1, section 8.3
  void arrow(Point from, Point to, Rgb colour, Bend bend = Bend::straight, double width = 1.5);
  void text(Point baseline, std::string_view text, const TextStyle& style = {});

  // Everything until close_group() is moved and scaled; edges stay on whole pixels.
  void open_group(Point origin, double scale);
  void close_group();

  Paint hatch(Rgb colour);  // diagonal stripes of colour on a light tint of it

  Svg finish(double width, double height, std::string_view description) const;

 private:
  std::string body_, definitions_;
};

}  // namespace flashladder::draw
