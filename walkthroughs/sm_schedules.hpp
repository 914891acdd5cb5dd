// The schedules of P6 to P11 on the model of one SM (sm_model.hpp): who copies, who computes, who waits. The programs follow
// the kernels line by line where they wait, start and release; what they compute is left out.
#pragma once

#include <array>
#include <memory>
#include <span>

#include "walkthroughs/sm_clocks.hpp"
#include "walkthroughs/sm_model.hpp"

namespace flashladder::walkthroughs {

// A CTA: its barriers, and the programs of its producer and its groups.
class ModelCta {
 public:
  static constexpr int stages = 2, tile_bytes = 32768;

  ModelCta(const Schedule& schedule, const SmClocks& clocks, std::span<const ModelWork> works, int now = 0)
      : sm(now), rule_(schedule), c_(clocks), works_(works), tensor_(sm, clocks.wgmma, clocks.room, clocks.serves),
        exponents_(sm, clocks.exponents, 1, Serves::in_turn), engine_(sm, clocks.latency, clocks.transfer) {
    const auto make = [&](const std::string& name, int i, int arrivals) {
      return std::make_unique<ModelBarrier>(sm, name + " of place " + std::to_string(i), arrivals);
    };
    for (int i = 0; i < stages; ++i) {
      k_full_[i] = make("k_full", i, 1), v_full_[i] = make("v_full", i, 1), q_full_[i] = make("q_full", i, 1);
      k_empty_[i] = make("k_empty", i, rule_.groups), v_empty_[i] = make("v_empty", i, rule_.groups);
      q_empty_[i] = make("q_empty", i, rule_.groups);
      turn_[i] = std::make_unique<ModelBarrier>(sm, "its turn", 1);
    }
    tensor_.shown = [this](int g, int tile, int begin, int end) {
      sm.bars.push_back({Lane::tensor_cores, begin, end, g, tile});
    };
    if (rule_.turns && rule_.primed) turn_[0]->give();
  }
  // False: somebody waits for ever. sm.waiting says who.
  bool run() {
    if (rule_.producer) {
      sm.begin(produce_keys());
    } else {
      engine_.copy(*q_full_[0], tile_bytes, Lane::keys, -1);
    }
    if (rule_.values_apart) sm.begin(produce_values());
    for (int g = 0; g < rule_.groups; ++g) sm.begin(group(g));
    return sm.run();
  }
  SmModel sm;
  std::vector<LaneMark> marks;  // P11: where tools/mark_kernel.py puts them into the kernel

 private:
  using Barriers = std::array<std::unique_ptr<ModelBarrier>, stages>;
  struct Slot {
    int stage, parity;
    explicit Slot(int tile) : stage(tile % stages), parity(tile / stages % 2) {}
  };
  int queries_place(int work) const { return rule_.loop == Loop::ahead ? 0 : work % 2; }
  int queries_parity(int work) const { return rule_.loop == Loop::ahead ? work % 2 : work / 2 % 2; }

  // -- who copies
  Program ask(Barriers& full, Barriers& empty, Lane lane, int tile, int number, std::string who) {
    const Slot at(number);
    co_await empty[at.stage]->wait(who, at.parity ^ 1);
    engine_.copy(*full[at.stage], tile_bytes, lane, tile);
    if (rule_.waits_for_filled) co_await empty[at.stage]->wait(who, at.parity);
  }
  Program ask_for_keys(int tile, int number, std::string who) {
    co_await ask(k_full_, k_empty_, Lane::keys, tile, number, who);
  }
  Program ask_for_values(int tile, int number, std::string who) {
    co_await ask(v_full_, v_empty_, Lane::values, tile, number, who);
  }
  Program produce_keys() {
    int number = 0;
    for (int w = 0; w < std::ssize(works_); ++w) {
      const int place = queries_place(w);
      co_await q_empty_[place]->wait("producer", queries_parity(w) ^ 1);
      engine_.copy(*q_full_[place], tile_bytes, Lane::keys, -1);
      for (int t = 0; t < works_[w].tiles; ++t, ++number) {
        co_await ask_for_keys(t, number, "producer");
        if (!rule_.values_apart) co_await ask_for_values(t, number, "producer");
      }
    }
  }
  Program produce_values() {  // P11: a warp of its own
    int number = 0;
    for (int w = 0; w < std::ssize(works_); ++w) {
      co_await q_full_[queries_place(w)]->wait("producer of values", queries_parity(w));
      for (int t = 0; t < works_[w].tiles; ++t, ++number) co_await ask_for_values(t, number, "producer of values");
    }
  }

  // -- who computes
  static std::string name(int g) { return "group " + std::to_string(g); }
  Program wait(Barriers& full, int number, int g) {
    const Slot at(number);
    co_await full[at.stage]->wait(name(g), at.parity);
  }
  void release(Barriers& empty, int number) { empty[Slot(number).stage]->arrive(); }

  // Steps of a product: returns when all are accepted; `last` is the number of the last one, to be waited for.
  Program start(int g, int tile, int steps, int& last) {
    for (int i = 0; i < steps; ++i) last = co_await tensor_.accept(g, tile);
  }
  Program other_units(int g, int tile, int clocks) {
    const int begin = sm.now();
    co_await sm.until(begin + clocks);
    note(g, tile, begin);
  }
  Program exponents(int g, int tile, int pieces) {
    const int begin = sm.now();
    for (int i = 0; i < pieces; ++i) {
      const int step = co_await exponents_.accept(g, tile);
      co_await exponents_.done(g, step);
    }
    note(g, tile, begin);
  }
  void mark(int g, int number) {
    if (rule_.loop == Loop::ahead) marks.push_back({g, sm.now(), number});
  }
  void note(int g, int tile, int begin) {
    sm.bars.push_back({g == 0 ? Lane::group_0 : Lane::group_1, begin, sm.now(), g, tile});
  }

  Program group(int g) {
    int number = 0;
    bool started = false;  // P11: the first product of the work has been started behind the last rows
    int scores = 0, output = 0;  // the last steps of S and of O
    for (int w = 0; w < std::ssize(works_); ++w) {
      const ModelWork& work = works_[w];
      mark(g, 1);
      if (!started) co_await q_full_[queries_place(w)]->wait(name(g), queries_parity(w));
      if (g == 1 && !work.group_1_has_rows) {
        if (!rule_.empty_group_releases) co_return;
        q_empty_[queries_place(w)]->arrive();
        for (int t = 0; t < work.tiles; ++t, ++number) {
          co_await wait(k_full_, number, g), release(k_empty_, number);
          co_await wait(v_full_, number, g), release(v_empty_, number);
        }
        continue;
      }
      if (g == 1 && w == 0 && rule_.group_1_late > 0) {
        co_await wait(k_full_, number, g);
        co_await sm.until(sm.now() + rule_.group_1_late);
      }
      if (rule_.loop == Loop::in_turn) {
        co_await tiles_in_turn(g, work, number);
      } else {
        co_await tiles_overlapped(g, work, number, scores, output, started);
      }
      number += work.tiles;
      if (rule_.loop == Loop::ahead) {
        started = w + 1 < std::ssize(works_) && (g == 0 || works_[w + 1].group_1_has_rows);
        co_await end_ahead(g, w, number, scores, output, started);
      } else {
        co_await other_units(g, -1, c_.store);
        q_empty_[queries_place(w)]->arrive();
      }
    }
  }

  // P6 and P7: each step waits for the one before. In P6 group 0 asks for the boxes as well.
  Program tiles_in_turn(int g, const ModelWork& work, int number) {
    int last = 0;
    const bool asks = !rule_.producer && g == 0;
    for (int t = 0; asks && t < std::min(stages, work.tiles); ++t) {
      co_await ask_for_keys(t, number + t, name(g));
      co_await ask_for_values(t, number + t, name(g));
    }
    for (int t = 0; t < work.tiles; ++t, ++number) {
      co_await wait(k_full_, number, g);
      co_await start(g, t, c_.of_product, last);
      co_await tensor_.done(g, last);
      release(k_empty_, number);
      co_await other_units(g, t, (t == 0 ? c_.mask : 0) + c_.maximum);
      co_await exponents(g, t, 8);
      co_await other_units(g, t, c_.rescale + c_.rest);
      co_await wait(v_full_, number, g);
      co_await start(g, t, c_.of_product, last);
      co_await tensor_.done(g, last);
      release(v_empty_, number);
      if (asks && t + stages < work.tiles) {
        co_await ask_for_keys(t + stages, number + stages, name(g));
        co_await ask_for_values(t + stages, number + stages, name(g));
      }
    }
  }

  // P8 to P11: S of a tile and P V of the one before are started together.
  Program tiles_overlapped(int g, const ModelWork& work, int number, int& scores, int& output, bool started) {
    const bool turns = rule_.turns && (work.group_1_has_rows || rule_.alone_takes_turns);
    int quarter = 0, half = 0;  // the last steps of the first quarter and half of P V
    if (!started) {
      co_await wait(k_full_, number, g);
      co_await start(g, 0, c_.of_product, scores);
      co_await tensor_.done(g, scores);
    }
    if (rule_.loop == Loop::ahead) q_empty_[0]->arrive();
    release(k_empty_, number);
    mark(g, 4);
    co_await other_units(g, 0, c_.mask);
    mark(g, 5);
    co_await other_units(g, 0, c_.maximum);
    co_await exponents(g, 0, 8);
    co_await other_units(g, 0, c_.rest);
    mark(g, 6);
    for (int t = 1; t < work.tiles; ++t) {
      ++number;
      mark(g, 11);
      co_await wait(k_full_, number, g);
      if (turns) co_await turn_[g]->take(name(g));
      co_await start(g, t, c_.of_product, scores);
      co_await wait(v_full_, number - 1, g);
      co_await start(g, t - 1, c_.of_product / 4, quarter);
      co_await start(g, t - 1, c_.of_product / 4, half);
      co_await start(g, t - 1, c_.of_product / 2, output);
      if (turns) turn_[1 - g]->give();
      co_await tensor_.done(g, scores);
      release(k_empty_, number);
      if (rule_.loop == Loop::overlapped) {  // exponents in the place of S, during P V
        co_await other_units(g, t, c_.maximum);
        co_await exponents(g, t, 8);
      } else if (rule_.loop == Loop::ahead) {  // a quarter of P, a second one: when the last P's have been read
        for (const int read : {quarter, half}) {
          co_await tensor_.done(g, read);
          co_await exponents(g, t, 2);
          co_await other_units(g, t, c_.rest / 4);
        }
      }
      co_await tensor_.done(g, output);
      release(v_empty_, number - 1);
      if (rule_.loop == Loop::overlapped) {
        co_await other_units(g, t, c_.rescale + c_.rest);
      } else {
        co_await exponents(g, t, rule_.loop == Loop::ahead ? 4 : 8);
        co_await other_units(g, t, rule_.loop == Loop::ahead ? c_.rest / 2 : c_.rest);
      }
    }
    mark(g, 8);
    co_await wait(v_full_, number, g);
    co_await start(g, work.tiles - 1, c_.of_product, output);
    if (rule_.loop == Loop::ahead) co_return;
    co_await tensor_.done(g, output);
    release(v_empty_, number);
  }

  // P11: the next work's first product is started before the last rows are stored. number: of its first tile.
  Program end_ahead(int g, int w, int number, int& scores, int output, bool next) {
    if (next) {
      co_await q_full_[0]->wait(name(g), (w + 1) % 2);
      co_await wait(k_full_, number, g);
      co_await start(g, 0, c_.of_product, scores);
    }
    co_await tensor_.done(g, output);
    release(v_empty_, number - 1);
    mark(g, 14);
    co_await other_units(g, -1, c_.store);
    mark(g, 15);
    co_await tensor_.done(g, scores);
  }

  const Schedule& rule_;
  const SmClocks& c_;
  std::span<const ModelWork> works_;
  Unit tensor_, exponents_;
  CopyEngine engine_;
  Barriers k_full_, k_empty_, v_full_, v_empty_, q_full_, q_empty_, turn_;
};

// What one SM did with a list of works: by one CTA that stays, or by one CTA after the other.
struct ModelRun {
  std::vector<LaneBar> bars;
  std::vector<LaneMark> marks;
  std::map<std::string, std::string> waiting;  // for ever
  int clocks = 0;
  bool ended = true;
};
inline ModelRun run_model(const Schedule& schedule, const std::vector<ModelWork>& works, const SmClocks& clocks = {}) {
  ModelRun out;
  const std::size_t at_once = schedule.stays ? works.size() : 1;
  for (std::size_t w = 0; w < works.size() && out.ended; w += at_once) {
    const int record = schedule.stays && w > 0 ? 0 : clocks.latency;  // a CTA begins with reading what it shall do
    ModelCta cta(schedule, clocks, std::span(works).subspan(w, at_once), out.clocks + record);
    out.ended = cta.run();
    out.clocks = cta.sm.now();
    out.bars.insert(out.bars.end(), cta.sm.bars.begin(), cta.sm.bars.end());
    out.marks.insert(out.marks.end(), cta.marks.begin(), cta.marks.end());
    if (!out.ended) out.waiting = cta.sm.waiting;
  }
  return out;
}

}  // namespace flashladder::walkthroughs
