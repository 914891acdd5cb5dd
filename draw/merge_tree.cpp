#include "draw/merge_tree.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

constexpr double box_height = 44, level_pitch = 112, box_gap = 26;

// Centre in units of leaves, level 0 on top.
struct Place {
  double x = 0;
  int level = 0;
};

std::vector<Place> layout(std::span<const MergeNode> nodes, int& leaves) {
  std::vector<Place> places(nodes.size());
  std::vector<bool> has_parent(nodes.size(), false);
  leaves = 0;
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    double sum = 0;
    for (const int child : nodes[n].children) {
      require(child >= 0 && child < static_cast<int>(n), "children", child, "must be the index of an earlier node");
      const auto c = static_cast<std::size_t>(child);
      require(!has_parent[c], "children", child, "must not be merged twice");
      has_parent[c] = true;
      sum += places[c].x;
      places[n].level = std::max(places[n].level, places[c].level + 1);
    }
    places[n].x = nodes[n].children.empty() ? leaves++ : sum / static_cast<double>(nodes[n].children.size());
  }
  const auto roots = std::count(has_parent.begin(), has_parent.end(), false);
  require(roots == 1 && !has_parent.back(), "nodes", nodes.size(), "must form one tree that ends in its root");
  return places;
}

void draw_node(Canvas& canvas, Box box, const MergeNode& node, bool is_root) {
  const bool empty = std::isinf(node.lse_log2);
  const Rgb edge = node.children.empty() ? (empty ? grey : blue) : green;
  canvas.rect(box, {.fill = mix(edge, paper, 0.85), .stroke = edge, .width = is_root ? 3.0 : 1.5});
  canvas.text({box.centre().x, box.y + 18}, node.label, {.anchor = Anchor::middle, .bold = true});
  canvas.text({box.centre().x, box.y + 35}, "lse_log2 = " + label(node.lse_log2), {.size = 11, .anchor = Anchor::middle});
}

// The arrow is as thick as the weight. Number and bar stand on the side of its start that it does not lean to.
void draw_weight(Canvas& canvas, Point from, Point to, double weight) {
  const double share = std::isfinite(weight) ? std::clamp(weight, 0.0, 1.0) : 0;
  canvas.arrow(from, to, share > 0 ? muted : grey, Bend::downwards, 1 + 2.5 * share);
  const Box bar{to.x > from.x ? from.x - 54 : from.x + 10, from.y + 24, 44, 5};
  canvas.text({bar.x, bar.y - 5}, "\u00d7 " + label(weight), {.size = 11, .bold = true});
  canvas.rect(bar, {.fill = rule});
  canvas.rect({bar.x, bar.y, bar.width * share, bar.height}, {.fill = orange});
}

}  // namespace

Svg merge_tree(std::span<const MergeNode> nodes, const Caption& caption) {
  require(!nodes.empty(), "nodes", nodes.size(), "must hold at least one partial");
  int leaves = 0;
  const std::vector<Place> places = layout(nodes, leaves);
  double box_width = text_width("lse_log2 = -0.0000", 11);
  for (const MergeNode& node : nodes) box_width = std::max(box_width, text_width(node.label, 12) + 14);
  const double pitch = box_width + box_gap, width = std::max(2 * margin + leaves * pitch + 10, 360.0);
  const double left = (width - leaves * pitch) / 2 + box_gap / 2;

  Canvas canvas;
  const double top = draw_caption(canvas, caption, width);
  const auto box_of = [&](std::size_t n) {
    return Box{left + places[n].x * pitch, top + places[n].level * level_pitch, box_width, box_height};
  };
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    const Box box = box_of(n);
    for (std::size_t i = 0; i < nodes[n].children.size(); ++i) {
      const auto child = static_cast<std::size_t>(nodes[n].children[i]);
      const double spread = box.width * (static_cast<double>(i) + 1) / (static_cast<double>(nodes[n].children.size()) + 1);
      const Point from{box_of(child).centre().x, box_of(child).bottom()};
      draw_weight(canvas, from, {box.x + spread, box.y - 2}, nodes[child].weight);
    }
  }
  for (std::size_t n = 0; n < nodes.size(); ++n) draw_node(canvas, box_of(n), nodes[n], n + 1 == nodes.size());
  return canvas.finish(width, box_of(nodes.size() - 1).bottom() + margin, caption.title);
}

}  // namespace flashladder::draw
