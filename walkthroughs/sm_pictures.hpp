// The model of one SM (sm_schedules.hpp) as text and as a picture: what the tensor cores and each warp group do.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "draw/figure.hpp"
#include "walkthroughs/narrate.hpp"
#include "walkthroughs/sm_schedules.hpp"

namespace flashladder::walkthroughs {

inline constexpr draw::Rgb group_colours[] = {draw::blue, draw::orange};

// Clocks of [begin, end) in which some bar of that lane and group is there.
inline int clocks_of(const ModelRun& run, Lane lane, int group, int begin, int end) {
  int clocks = 0;
  for (const LaneBar& b : run.bars) {
    if (b.lane == lane && b.group == group) clocks += std::max(0, std::min(end, b.end) - std::max(begin, b.begin));
  }
  return clocks;
}

// A character `step` clocks long. Groups: P its product is computed, s softmax (or masks, or rows that are stored), B both,
// a dot waits. Tensor cores: the group that they serve, * both, a dot nobody.
inline std::string show_run(const ModelRun& run, int groups, int begin, int end, int step = 128) {
  std::vector<std::string> lines(static_cast<std::size_t>(groups) + 1);
  for (int from = begin; from < end; from += step) {
    std::vector<int> products;
    for (int g = 0; g < groups; ++g) {
      const int other = clocks_of(run, g == 0 ? Lane::group_0 : Lane::group_1, g, from, from + step);
      products.push_back(clocks_of(run, Lane::tensor_cores, g, from, from + step));
      const bool has_product = 4 * products.back() >= step, has_other = 2 * other >= step;
      lines[static_cast<std::size_t>(g)] += has_product && has_other ? 'B' : has_product ? 'P' : has_other ? 's' : '.';
    }
    const bool first = 4 * products[0] >= step, second = groups > 1 && 4 * products.back() >= step;
    lines.back() += first && second ? '*' : first ? '0' : second ? '1' : '.';
  }
  std::string out;
  for (int g = 0; g < groups; ++g) out += text("group %d       ", g) + lines[static_cast<std::size_t>(g)] + "\n";
  return out + "tensor cores  " + lines.back() + "\n";
}

struct RunPanel {
  std::string name;
  const ModelRun* run;
  int begin, end;  // clocks
};

inline draw::Svg runs_picture(const std::vector<RunPanel>& panels, const draw::Caption& caption) {
  constexpr double left = 110, row = 18, pixels = 960;
  const double width = left + pixels + draw::margin;
  draw::Canvas canvas;
  double y = draw::draw_caption(canvas, caption, width);
  for (const RunPanel& p : panels) {
    const double scale = pixels / (p.end - p.begin);
    canvas.text({draw::margin, y + 12}, p.name, {.size = 13, .bold = true});
    y += 20;
    const auto bar = [&](double top, double height, const LaneBar& b, draw::Rgb fill, const std::string& number) {
      const int begin = std::max(b.begin, p.begin), end = std::min(b.end, p.end);
      if (begin >= end) return;
      const draw::Box box{left + (begin - p.begin) * scale, top, (end - begin) * scale - 0.5, height};
      canvas.rect(box, {.fill = fill}, text("%d to %d", b.begin, b.end));
      if (box.width < 14 || number.empty()) return;
      canvas.text({box.centre().x, box.centre().y + 4}, number,
                  {.size = 11, .anchor = draw::Anchor::middle, .colour = draw::ink_on(fill)});
    };
    const std::pair<Lane, const char*> lanes[] = {{Lane::keys, "K comes"}, {Lane::values, "V comes"},
                                                  {Lane::tensor_cores, "tensor cores"}, {Lane::group_0, "group 0"},
                                                  {Lane::group_1, "group 1"}};
    for (const auto& [lane, name] : lanes) {
      canvas.text({left - 8, y + 13}, name, {.size = 11, .anchor = draw::Anchor::end, .colour = draw::muted});
      canvas.rect({left, y, pixels, row - 3}, {.fill = draw::fog});
      LaneBar piece{};  // steps of one product become one bar
      for (const LaneBar& b : p.run->bars) {
        if (b.lane != lane) continue;
        const std::string number = b.tile >= 0 ? text("%d", b.tile) : lane >= Lane::tensor_cores ? "o" : "q";
        if (lane == Lane::keys || lane == Lane::values) {
          const double half = (row - 3) / 2;  // two places
          bar(y + (b.tile >= 0 && b.tile % 2 == 1 ? half : 0), half - 0.5, b, draw::mix(draw::green, draw::paper, 0.4), "");
        } else if (lane == Lane::tensor_cores) {
          if (piece.end == b.begin && piece.group == b.group && piece.tile == b.tile) {
            piece.end = b.end;
            continue;
          }
          bar(y, row - 3, piece, group_colours[piece.group], text("%d", piece.tile));
          piece = b;
        } else {
          bar(y, row - 3, b, draw::mix(group_colours[b.group], draw::paper, b.tile >= 0 ? 0.55 : 0.8), number);
        }
      }
      if (piece.end > piece.begin) bar(y, row - 3, piece, group_colours[piece.group], text("%d", piece.tile));
      y += row;
    }
    y += 12;
  }
  y = draw::draw_legend(canvas, {left, y}, pixels,
                        {{draw::blue, "products of group 0"}, {draw::orange, "of group 1"},
                         {draw::mix(draw::blue, draw::paper, 0.55), "group 0: masks and softmax (o: rows stored)"},
                         {draw::mix(draw::orange, draw::paper, 0.55), "group 1"},
                         {draw::mix(draw::green, draw::paper, 0.4), "copies, two places"}});
  return canvas.finish(width, y + 6, caption.title);
}

}  // namespace flashladder::walkthroughs
