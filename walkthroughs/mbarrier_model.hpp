// A barrier of Hopper that counts arrivals and bytes (mbarrier), and a ring of stages that a producer, the copy engine and a
// consumer share by two such barriers a stage. The rules are gpu/ptx/mbarrier.cuh's.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "walkthroughs/narrate.hpp"

namespace flashladder::walkthroughs {

struct MbarrierModel {
  int arrivals;              // that a phase needs
  int missing = arrivals;    // in this phase
  std::int64_t bytes = 0;    // announced, and not yet there
  int phase = 0;

  void arrive(std::int64_t announced = 0) { bytes += announced, --missing, settle(); }
  void complete(std::int64_t copied) { bytes -= copied, settle(); }
  // Would wait(parity) return? It names a phase that may have ended by its last bit.
  bool ended(int parity) const { return phase % 2 != parity; }

 private:
  void settle() {
    if (missing == 0 && bytes == 0) ++phase, missing = arrivals;
  }
};

// Who waits how. flip: what is added to the parity of the phase in which a stage is filled.
struct RingRules {
  int producer_flip = 1, consumer_flip = 0;
  bool producer_waits = true;
};

struct RingRead {
  std::string tiles;  // what the consumer read, tile after tile: a digit, or - where nothing had arrived yet
  bool stuck = false;
};

// Two stages. In a round the producer may ask for one tile, the consumer may read one (every second round: it computes), and
// the engine delivers what was asked for two rounds before.
inline RingRead run_ring(const RingRules& rules, int tiles, int stages = 2) {
  constexpr int latency = 2, stage_bytes = 32768;
  struct Stage {
    MbarrierModel full{1}, empty{1};
    char content = '-';
  };
  struct Copy {
    int round, tile;
  };
  std::vector<Stage> ring(stages);
  std::deque<Copy> under_way;
  RingRead out;
  int asked = 0;
  for (int round = 0; round < 20 * tiles; ++round) {
    while (!under_way.empty() && under_way.front().round + latency <= round) {
      Stage& stage = ring[under_way.front().tile % stages];
      stage.content = static_cast<char>('0' + under_way.front().tile);
      stage.full.complete(stage_bytes), under_way.pop_front();
    }
    if (asked < tiles) {
      Stage& stage = ring[asked % stages];
      if (!rules.producer_waits || stage.empty.ended(asked / stages % 2 ^ rules.producer_flip)) {
        stage.full.arrive(stage_bytes);
        under_way.push_back({round, asked++});
      }
    }
    const int tile = static_cast<int>(out.tiles.size());
    if (tile < tiles && round % 2 == 1) {
      Stage& stage = ring[tile % stages];
      if (stage.full.ended(tile / stages % 2 ^ rules.consumer_flip)) out.tiles += stage.content, stage.empty.arrive();
    }
  }
  out.stuck = static_cast<int>(out.tiles.size()) < tiles;
  return out;
}

// Chapter 13's section of it.
inline void barrier_phases(Narrator& n) {
  n.section("A barrier that counts bytes");
  n.step("An mbarrier of one stage of K, `k_full`. It needs one arrival a phase: the producer arrives and announces the "
         "bytes of the tile, %d, which come in 8 boxes. A phase ends when all have arrived and all announced bytes are "
         "there:",
         128 * 128 * 2);
  MbarrierModel full{1};
  std::vector<std::vector<std::string>> rows;
  const auto note = [&](const char* event) {
    const auto returns = [&](int parity) { return full.ended(parity) ? "returns" : "waits"; };
    rows.push_back({event, text("%d", full.phase), text("%d", full.missing), text("%td", full.bytes), returns(0),
                    returns(1)});
  };
  note("fresh");
  full.arrive(32768), note("the producer arrives, announces");
  for (int box = 0; box < 7; ++box) full.complete(4096);
  note("7 boxes have come");
  full.complete(4096), note("the 8th has come");
  full.arrive(32768), note("the next tile is announced");
  full.complete(32768), note("it has come");
  n.table({"event", "phase", "arrivals missing", "bytes missing", "wait(0)", "wait(1)"}, rows);
  n.say("A thread names the phase whose end it waits for by its last bit, the parity: a waiter is never more than one "
        "phase behind, so one bit is enough. On a fresh barrier wait(1) returns at once, as if a phase before phase 0 had "
        "ended.");
  n.step("Tile t uses stage t %% 2 for the t / 2-th time: parity t / 2 %% 2. The consumer waits for `full` with it. The "
         "producer waits for `empty` with parity ^ 1, the phase before: the first time there is nothing to wait for, and "
         "wait(1) returns at once. Two stages, 6 tiles, the rules right and wrong, and the tile that the consumer finds "
         "each time (-: nothing has arrived):");
  const auto line = [](const char* rule, const RingRules& rules) {
    const RingRead read = run_ring(rules, 6);
    const std::string tiles = read.tiles.empty() ? "none" : read.tiles;
    return std::vector<std::string>{rule, tiles,
                                    read.stuck ? "then nobody goes on" : read.tiles == "012345" ? "right" : "wrong"};
  };
  n.table({"rule", "tiles found", ""},
          {line("as P11 does it", {}), line("the producer waits with parity", {.producer_flip = 0}),
           line("the consumer waits with parity ^ 1", {.consumer_flip = 1}),
           line("the producer does not wait", {.producer_waits = false})});
  n.check_that("with the right parities every tile is found once, in order", run_ring({}, 40).stuck == false &&
               run_ring({}, 6).tiles == "012345");
}

}  // namespace flashladder::walkthroughs
