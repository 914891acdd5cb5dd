// When P11's warp groups passed the marks of tools/mark_kernel.py: recorded in the kernel on a GPU
// (docs/measurements/h200-p11-marks.jsonl), or in the model.
#pragma once

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "draw/figure.hpp"
#include "ladder/cases/input/json.hpp"
#include "walkthroughs/narrate.hpp"
#include "walkthroughs/sm_schedules.hpp"

namespace flashladder::walkthroughs {

struct MarkedWork {
  int group;
  std::vector<int> marks, clocks;  // mark i was passed at clock i

  int tiles() const { return 1 + static_cast<int>(std::ranges::count(marks, 11)); }
  // When the mark was passed for the first time; -1: never.
  int when(int mark) const {
    const auto found = std::ranges::find(marks, mark);
    return found == marks.end() ? -1 : clocks[static_cast<std::size_t>(found - marks.begin())];
  }
};
struct MarkedWorks {
  std::string machine;
  std::vector<MarkedWork> groups[2];  // the works of each, in order
};

inline MarkedWorks recorded_works() {
  const std::string path = FLASHLADDER_SOURCE_ROOT "/docs/measurements/h200-p11-marks.jsonl";
  std::ifstream in(path);
  require(in.good(), "measurements", path, "cannot be read");
  MarkedWorks out;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    const std::string place = path + ":" + std::to_string(number);
    const ladder::Json json = ladder::parse_json(line, place, 3);
    if (number == 1) {
      const auto said = [&](const char* key) {
        const ladder::Json* value = json.find(key);
        require(value != nullptr && value->text() != nullptr, key, place, "is not said");
        return *value->text();
      };
      out.machine = said("gpu") + ", " + said("date");
      continue;
    }
    const auto numbers = [&](const char* key) {
      const ladder::Json* value = json.find(key);
      require(value != nullptr && value->list() != nullptr, key, place, "is no list");
      std::vector<int> list;
      for (const ladder::Json& n : *value->list()) list.push_back(n.integer<int>().value_or(-1));
      return list;
    };
    const ladder::Json* group = json.find("group");
    MarkedWork work{group != nullptr ? group->integer<int>().value_or(-1) : -1, numbers("marks"), numbers("clocks")};
    require(work.group == 0 || work.group == 1, "group", place, "is neither 0 nor 1");
    require(work.marks.size() == work.clocks.size() && !work.marks.empty() && work.marks[0] == 1, "marks", place,
            "do not begin with 1, or are not as many as clocks");
    out.groups[work.group].push_back(std::move(work));
  }
  return out;
}

inline MarkedWorks marked_works(const ModelRun& run) {
  MarkedWorks out{"model", {}};
  for (const LaneMark& m : run.marks) {
    if (m.mark == 1) out.groups[m.group].push_back({m.group, {}, {}});
    MarkedWork& work = out.groups[m.group].back();
    work.marks.push_back(m.mark), work.clocks.push_back(m.clock);
  }
  return out;
}

inline int median(std::vector<int> values) {
  require(!values.empty(), "marks", values.size(), "are none: there is no median");
  std::ranges::sort(values);
  return values[values.size() / 2];
}
// Clocks from one mark to the other, of both groups; their first works are left out. 11 to 11: each turn of the loop.
inline int median_clocks(const MarkedWorks& works, int from, int to) {
  std::vector<int> all;
  for (const auto& group : works.groups) {
    for (std::size_t w = 1; w < group.size(); ++w) {
      const MarkedWork& work = group[w];
      if (from != to && work.when(from) >= 0 && work.when(to) >= 0) all.push_back(work.when(to) - work.when(from));
      for (std::size_t i = 1; from == to && i < work.marks.size(); ++i) {
        if (work.marks[i - 1] == from && work.marks[i] == to) all.push_back(work.clocks[i] - work.clocks[i - 1]);
      }
    }
  }
  return median(all);
}

// Clocks of a work = of_work + of_tile * tiles, by least squares over all works but each group's first and last.
struct WorkLine {
  double of_tile, of_work;
};
inline WorkLine fitted(const MarkedWorks& works) {
  double n = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (const auto& group : works.groups) {
    for (std::size_t w = 1; w + 1 < group.size(); ++w) {
      const double tiles = group[w].tiles(), clocks = group[w + 1].clocks[0] - group[w].clocks[0];
      n += 1, x += tiles, y += clocks, xx += tiles * tiles, xy += tiles * clocks;
    }
  }
  const double slope = (n * xy - x * y) / (n * xx - x * x);
  return {slope, (y - slope * x) / n};
}

// By how many clocks group 0 begins each turn of the loop behind group 1 (negative: before it).
inline std::vector<int> behind(const MarkedWorks& works, std::size_t work) {
  std::vector<int> turns[2], out;
  for (int g = 0; g < 2; ++g) {
    const MarkedWork& of = works.groups[g][work];
    for (std::size_t i = 0; i < of.marks.size(); ++i) {
      if (of.marks[i] == 11) turns[g].push_back(of.clocks[i]);
    }
  }
  for (std::size_t i = 0; i < std::min(turns[0].size(), turns[1].size()); ++i) out.push_back(turns[0][i] - turns[1][i]);
  return out;
}

struct MarkedPanel {
  std::string name;
  const MarkedWorks* works;
  int begin, end;  // clocks
};

// Of each group a row: its works, and in each what it did from mark to mark.
inline draw::Svg marked_picture(const std::vector<MarkedPanel>& panels, const draw::Caption& caption) {
  constexpr double left = 80, row = 26, pixels = 1000;
  const double width = left + pixels + draw::margin;
  const auto kind = [](int mark) {
    return mark == 1 || mark == 4 ? draw::yellow : mark == 5 || mark == 6 ? draw::orange : mark == 11 ? draw::sky
           : mark == 14 || mark == 15 ? draw::brown : mark == 16 ? draw::fog : draw::green;
  };
  draw::Canvas canvas;
  double y = draw::draw_caption(canvas, caption, width);
  for (const MarkedPanel& p : panels) {
    const double scale = pixels / (p.end - p.begin);
    canvas.text({draw::margin, y + 12}, p.name, {.size = 13, .bold = true});
    y += 20;
    for (const auto& group : p.works->groups) {
      canvas.text({left - 8, y + 16}, text("group %d", group.empty() ? 0 : group[0].group),
                  {.size = 11, .anchor = draw::Anchor::end, .colour = draw::muted});
      canvas.rect({left, y, pixels, row - 4}, {.fill = draw::fog});
      for (std::size_t w = 0; w < group.size(); ++w) {
        int turn = 0;
        for (std::size_t i = 0; i < group[w].marks.size(); ++i) {
          const bool last = i + 1 == group[w].marks.size();
          if (last && w + 1 == group.size()) break;
          const int begin = std::max(group[w].clocks[i], p.begin);
          const int end = std::min(last ? group[w + 1].clocks[0] : group[w].clocks[i + 1], p.end);
          if (begin >= end) continue;
          const int mark = group[w].marks[i];
          turn += mark == 11 ? 1 : 0;
          const draw::Rgb fill = mark == 11 && turn % 2 == 0 ? draw::mix(draw::sky, draw::paper, 0.4) : kind(mark);
          const draw::Box box{left + (begin - p.begin) * scale, y, (end - begin) * scale - 0.5, row - 4};
          canvas.rect(box, {.fill = fill}, text("mark %d: %d clocks", mark, end - begin));
          if (box.width < 16) continue;
          canvas.text({box.centre().x, box.centre().y + 4}, text("%d", mark), {.size = 11, .anchor = draw::Anchor::middle});
        }
      }
      y += row;
    }
    y += 12;
  }
  y = draw::draw_legend(canvas, {left, y}, pixels,
                        {{draw::yellow, "first tile: rows, masks"}, {draw::orange, "its softmax"},
                         {draw::sky, "turns of the loop"}, {draw::green, "last P V; next work's first product started"},
                         {draw::brown, "rows stored"}});
  return canvas.finish(width, y + 6, caption.title);
}

}  // namespace flashladder::walkthroughs
