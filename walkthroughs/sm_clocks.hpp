// What the model of one SM is told: clocks of the units, who copies and who takes turns in each rung, and the works.
#pragma once

#include "walkthroughs/sm_model.hpp"

namespace flashladder::walkthroughs {

// Where the numbers come from is said in the chapter. head_dim 128, 64 rows a group, tiles of 128 keys, f16.
struct SmClocks {
  int wgmma = 64;         // 64 x 128 x 16: 131072 multiply-adds, 2048 a clock
  int of_product = 8;     // such steps of a product: 512 clocks
  int room = 8;           // of them, that the tensor cores accept of a group ahead
  Serves serves = Serves::oldest;
  int exponents = 64;     // a piece of 8 of a tile's, 64 * 128 at 16 a clock
  int maximum = 72;       // 68 maxima and 4 shuffles (chapter 13), a clock each
  int rescale = 64;       // multiplications of O
  int rest = 188;         // scaling, sums, rounding: with the exponents 700, as in chapter 13
  int mask = 600;         // of an item's first tile, its edge; recorded: "rows known" to "masked"
  int store = 900;        // of a group's rows; recorded: "last P V done" to "rows stored"
  int latency = 1000, transfer = 512;  // of a tile's copy: 32 KB at 64 bytes a clock
  int softmax(bool running) const { return 8 * exponents + rest + (running ? maximum + rescale : 0); }
};

enum class Loop { in_turn, overlapped, stale, ahead };  // P6 and P7; P8 and P9; P10; P11
struct Schedule {
  const char* name;
  Loop loop;
  bool producer = true, turns = false, stays = false, values_apart = false;  // apart: a warp of their own asks for them
  int groups = 2;
  int group_1_late = 0;  // clocks by which group 1 begins its first product behind group 0
  // Wrong ways.
  bool primed = true, waits_for_filled = false, empty_group_releases = true, alone_takes_turns = false;
};
inline constexpr Schedule p6{"P6", Loop::in_turn, false}, p7{"P7", Loop::in_turn},
    p8_no_turns{"P8 without turns", Loop::overlapped}, p8{"P8", Loop::overlapped, true, true},
    p9{"P9", Loop::overlapped, true, true, true}, p10{"P10", Loop::stale, true, true, true},
    p11{"P11", Loop::ahead, true, false, true, true};

struct ModelWork {
  int tiles;
  bool group_1_has_rows = true;
};

}  // namespace flashladder::walkthroughs
