// Warp groups that share the tensor cores of an SM, as a timeline. A model in clocks, to see who waits for whom; times of a
// real GPU are measured, not simulated.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "walkthroughs/narrate.hpp"

namespace flashladder::walkthroughs {

struct GroupModel {
  int groups = 2;
  int products = 1024, softmax = 700;  // clocks of a step: S = Q K^T and O += P V of the tensor cores; all the rest
};

struct GroupTimes {
  std::vector<std::string> lines;  // a group each, a character `clocks` long: P products, s softmax, a dot waits
  std::string tensor_cores;        // the digit of the group that they serve, or a dot
  double used = 0;                 // of the tensor cores' clocks, over the last half of the steps
};

// Groups take turns as they come: who asks first is served first, a whole step's products at a time.
inline GroupTimes simulate_groups(const GroupModel& m, int steps, int clocks = 128) {
  GroupTimes out;
  std::vector<int> ready(m.groups, 0), done(m.groups, 0);
  out.lines.resize(m.groups);
  int free = 0, half = 0, served = 0;
  const auto draw = [clocks](std::string& line, int begin, int end, char c) {
    const auto first = static_cast<std::size_t>(begin / clocks), last = static_cast<std::size_t>(end / clocks);
    line.resize(std::max(line.size(), last), '.');
    std::fill(line.begin() + static_cast<std::ptrdiff_t>(first), line.begin() + static_cast<std::ptrdiff_t>(last), c);
  };
  for (int i = 0; i < steps * m.groups; ++i) {
    const auto next = std::min_element(ready.begin(), ready.end()) - ready.begin();
    const int begin = std::max(ready[next], free);
    free = begin + m.products;
    draw(out.lines[next], begin, free, 'P'), draw(out.lines[next], free, free + m.softmax, 's');
    draw(out.tensor_cores, begin, free, static_cast<char>('0' + next));
    ready[next] = free + m.softmax;
    if (i + 1 == steps * m.groups / 2) half = free;
    if (i + 1 > steps * m.groups / 2) served += m.products;
  }
  out.used = static_cast<double>(served) / (free - half);
  return out;
}

// Chapter 13's section of it: who holds what, and why two groups.
inline void who_does_what(Narrator& n) {
  n.section("Who does what");
  n.step("Registers of a thread of a computing warp group, by what it keeps (64 rows, 128 threads), and what it may have:");
  std::vector<std::vector<std::string>> rows;
  bool fits = true;
  struct Shape {
    int qk, vo, keys, consumers;
    bool q_in_registers;
  };
  for (const Shape& s : {Shape{64, 64, 96, 3, true}, Shape{128, 128, 128, 2, true}, Shape{192, 128, 96, 2, true},
                         Shape{256, 256, 64, 2, false}}) {
    const int o = s.vo / 2, scores = s.keys / 2, p = s.keys / 4, q = s.q_in_registers ? s.qk / 4 : 0;
    const int producer = s.consumers == 2 ? 24 : 32, consumer = s.consumers == 2 ? 240 : 160;
    const int all = 128 * (producer + s.consumers * consumer);
    fits = fits && o + scores + p + q < consumer && all <= 65536;
    rows.push_back({text("%d, %d", s.qk, s.vo), text("%d", s.keys), text("%d", o), text("%d", scores), text("%d", p),
                    text("%d", q), text("%d", o + scores + p + q), text("%d x %d", s.consumers, consumer),
                    text("%d", producer), text("%d", all)});
  }
  n.table({"head_dim", "keys", "O", "S", "P", "Q", "sum", "may have", "producer", "all, x 128"}, rows);
  n.check_that("a thread's tiles fit, and the CTA has no more than an SM's 65536", fits);
  n.step("Why two groups that compute? A model, not a measurement: in a step a group's products take 1024 clocks of the "
         "tensor cores (S and O, 64 x 128 x 128 each, at 2048 multiply-adds a clock), then the softmax takes 700 clocks of "
         "other units. The groups take turns as they come. P: products; s: softmax; a dot: waiting; a character is 128 "
         "clocks:");
  for (const int count : {1, 2}) {
    const GroupTimes times = simulate_groups({.groups = count}, 4);
    std::string lines;
    for (int g = 0; g < count; ++g) lines += text("group %d       ", g) + times.lines[g] + "\n";
    n.block(lines + "tensor cores  " + times.tensor_cores + "\n");
  }
  std::vector<std::vector<std::string>> used;
  for (const int softmax : {350, 700, 1024, 1400}) {
    used.push_back({text("%d", softmax)});
    for (const int count : {1, 2, 3}) {
      used.back().push_back(text("%.0f", 100 * simulate_groups({.groups = count, .softmax = softmax}, 64).used));
    }
  }
  n.step("The share of the tensor cores' clocks that are used, in %%, in the model:");
  n.table({"softmax, clocks", "1 group", "2 groups", "3 groups"}, used);
  n.check_that("two groups keep the tensor cores busy", simulate_groups({}, 64).used > 0.99);
}

}  // namespace flashladder::walkthroughs
