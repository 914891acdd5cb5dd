// A ring of asynchronous copies as a timeline: warps that ask for their next stages, memory that answers later, arithmetic.
// A toy in ticks, to see what waits for what; times of a real GPU are measured, not simulated.
#pragma once

#include <algorithm>
#include <queue>
#include <string>
#include <tuple>
#include <vector>

#include "draw/figure.hpp"
#include "walkthroughs/narrate.hpp"

namespace flashladder::walkthroughs {

struct Memory {
  int latency = 12;  // from asking for a stage until it is there
  int transfer = 2;  // at least so long between two arrivals: the rate
};

struct RingShape {
  int stages = 1, warps = 1;
  int arithmetic = 4;      // of a stage; a warp has its scheduler for itself as long as there are at most four
  bool ids_ahead = true;   // else each copy waits for its page ids first, and the warp with it
};

struct StageTimes {
  int warp, step, asked, arrived, begun, done;  // begun, done: arithmetic
};

// Every stage of every warp, in the order in which arithmetic began.
inline std::vector<StageTimes> simulate(const RingShape& shape, const Memory& memory, int steps) {
  struct Event {
    int time, order, warp, step;
    bool compute;
    bool operator>(const Event& e) const { return std::tie(time, order) > std::tie(e.time, e.order); }
  };
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events;
  std::vector<std::vector<StageTimes>> times(shape.warps, std::vector<StageTimes>(steps));
  std::vector<StageTimes> out;
  std::vector<int> scheduler_free(4);
  int last_arrival = 0, order = 0;
  // Asks for a stage and says when the warp may go on.
  const auto ask = [&](int warp, int step, int now) {
    if (step >= steps) return now;
    const int asked = shape.ids_ahead ? now : now + memory.latency;
    last_arrival = std::max(asked + memory.latency, last_arrival + memory.transfer);
    times[warp][step] = {warp, step, asked, last_arrival, 0, 0};
    return asked;
  };
  for (int warp = 0; warp < shape.warps; ++warp) {
    int now = 0;
    for (int step = 0; step < shape.stages - 1; ++step) now = ask(warp, step, now);
    events.push({now, order++, warp, 0, false});
  }
  while (!events.empty()) {
    const Event e = events.top();
    events.pop();
    StageTimes& stage = times[e.warp][e.step];
    if (!e.compute) {  // the head of the loop: ask for the stage that is stages - 1 ahead, then wait for this one
      const int now = ask(e.warp, e.step + shape.stages - 1, e.time);
      events.push({std::max(now, stage.arrived), order++, e.warp, e.step, true});
    } else {
      int& free = scheduler_free[e.warp % 4];
      stage.begun = std::max(e.time, free);
      free = stage.done = stage.begun + shape.arithmetic;
      out.push_back(stage);
      if (e.step + 1 < steps) events.push({stage.done, order++, e.warp, e.step + 1, false});
    }
  }
  return out;
}

// Ticks between stages once the ring is full.
inline double period(const RingShape& shape, const Memory& memory) {
  constexpr int steps = 240;
  std::vector<int> done;
  for (const StageTimes& t : simulate(shape, memory, steps)) done.push_back(t.done);
  std::ranges::sort(done);
  const std::size_t a = done.size() / 4, b = done.size() * 3 / 4;
  return static_cast<double>(done[b] - done[a]) / static_cast<double>(b - a);
}

// One warp: a line for each place of the ring, the stage's digit where it is asked for, dashes while it is under way; below
// them the arithmetic, whose digits are the stage.
inline std::string show_timeline(const RingShape& shape, const Memory& memory, int steps) {
  const std::vector<StageTimes> times = simulate(shape, memory, steps);
  const auto width = static_cast<std::size_t>(times.back().done);
  std::vector<std::string> lines(shape.stages + 1, std::string(width, ' '));
  for (const StageTimes& t : times) {
    const char digit = static_cast<char>('0' + t.step % 10);
    std::fill(lines[t.step % shape.stages].begin() + t.asked, lines[t.step % shape.stages].begin() + t.arrived, '-');
    lines[t.step % shape.stages][t.asked] = digit;
    std::fill(lines.back().begin() + t.begun, lines.back().begin() + t.done, digit);
  }
  std::string out;
  for (int i = 0; i <= shape.stages; ++i) {
    const std::string name = i < shape.stages ? text("place %d     ", i) : "arithmetic  ";
    out += name + lines[i].substr(0, lines[i].find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

// The arithmetic of one warp alone, a character a tick: mark(step), or a dot where it waits.
template <class Mark>
std::string arithmetic_line(const RingShape& shape, const Memory& memory, int steps, Mark mark) {
  const std::vector<StageTimes> times = simulate(shape, memory, steps);
  std::string line(static_cast<std::size_t>(times.back().done), '.');
  for (const StageTimes& t : times) std::fill(line.begin() + t.begun, line.begin() + t.done, mark(t.step));
  return line;
}

inline draw::Svg ring_picture(const std::vector<RingShape>& shapes, const Memory& memory, int steps, int ticks) {
  constexpr double left = 120, tick = 8, row = 20;
  const double width = left + ticks * tick + draw::margin;
  draw::Canvas canvas;
  double y = draw::draw_caption(canvas, {"A ring of copies", text("One warp; a copy takes %d ticks, but two "
                                "arrive at least %d apart; arithmetic takes %d. Pale: a copy under way; full: arithmetic "
                                "on what has arrived; numbers are stages.",
                                memory.latency, memory.transfer, shapes[0].arithmetic)}, width);
  for (const RingShape& shape : shapes) {
    const std::string name = shape.stages == 1 ? "1 stage: no ring" : text("%d stages", shape.stages);
    canvas.text({draw::margin, y + 12}, name, {.size = 13, .bold = true});
    y += 20;
    const std::vector<StageTimes> times = simulate(shape, memory, steps);
    const double bottom = y + row * (shape.stages + 1);
    for (int i = 0; i <= shape.stages; ++i) {
      const std::string place = i < shape.stages ? text("place %d", i) : "arithmetic";
      canvas.text({left - 8, y + i * row + 14}, place, {.size = 11, .anchor = draw::Anchor::end, .colour = draw::muted});
      canvas.rect({left, y + i * row, ticks * tick, row - 3}, {.fill = draw::fog});
    }
    const auto bar = [&](int line, int begin, int end, draw::Rgb fill, int step) {
      if (begin >= ticks) return;
      const draw::Box box{left + begin * tick, y + line * row, (std::min(end, ticks) - begin) * tick - 1, row - 3};
      canvas.rect(box, {.fill = fill}, text("stage %d", step));
      canvas.text({box.centre().x, box.centre().y + 4}, text("%d", step),
                  {.size = 11, .anchor = draw::Anchor::middle, .colour = draw::ink_on(fill)});
    };
    for (const StageTimes& t : times) {
      const draw::Rgb hue = draw::category(t.step % 4);
      bar(t.step % shape.stages, t.asked, t.arrived, draw::mix(hue, draw::paper, 0.65), t.step);
      bar(shape.stages, t.begun, t.done, hue, t.step);
    }
    y = bottom + 14;
  }
  return canvas.finish(width, y + 6, "a pipeline of copies with 1 to 4 stages");
}

}  // namespace flashladder::walkthroughs
