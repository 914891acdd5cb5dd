// Chapter 15's section on when clusters pay: the two formulas, what decode chooses by them, and what was timed.
#pragma once

#include "core/error.hpp"
#include "walkthroughs/cluster_story.hpp"
#include "walkthroughs/cluster_times.hpp"

namespace flashladder::walkthroughs {

inline void expected_of_batches(Narrator& n, const ClusterTimes& times, const std::vector<ShortBatch>& batches) {
  n.step("d7::worth_clusters compares two formulas, in microseconds on an H200 that holds %d clusters: of a launch that "
         "follows others in a graph, with programmatic dependent launch, its keys not in L2. Beside them stand the times of "
         "a batch with as many tiles, as many keys in each and the same group, all requests on one KV head, where there is "
         "such a line. D7 with 8: decode plans for 8 clusters.", ClusterTimes::resident);
  std::vector<std::vector<std::string>> table;
  for (const ShortBatch& b : batches) {
    const gpu::d7::DecodeTimes expected = gpu::d7::expected_times(b.shape(), ClusterTimes::resident);
    const int taken = gpu::d7::worth_clusters(b.shape(), ClusterTimes::resident);
    const TimedBatch* timed = times.find(b.shape());
    const auto us = [](double time) { return time > 0 ? text("%.1f", time) : std::string("-"); };  // NaN: -
    table.push_back({b.name, text("%d", b.tiles()), us(expected.d6), timed ? us(timed->d6) : "-", us(expected.d7),
                     timed && expected.clusters > 0 ? us(timed->d7[expected.clusters]) : "-",
                     taken > 0 ? text("D7 with %d", taken) : "D6"});
  }
  n.table({"batch", "tiles", "D6", "timed", "D7", "timed", "decode takes"}, table);
  n.say("D7 has no time where there are more tiles than clusters.");
}

inline void chosen_clusters(Narrator& n, const ClusterTimes& times) {
  n.step("How many clusters decode takes, by the keys of a tile and the number of tiles; a dot: D6. head_dim 128, groups of "
         "4 and of 8:");
  times.grid(n, [](const TimedBatch& b) { return b.taken > 0 ? text("%d", b.taken) : std::string("."); });
  n.check_that("short tiles take clusters, long ones of 8 KV heads do not",
               gpu::d7::worth_clusters({8, 1024, 4, 128}, 14) == 8 && gpu::d7::worth_clusters({8, 16384, 4, 128}, 14) == 0);
}

inline void what_was_gained(Narrator& n, const ClusterTimes& times) {
  n.step("The same batches on the GPU: D6's time by the time of the clusters that decode takes. A dot: decode takes D6. A "
         "dash: so many clusters were not timed.");
  times.grid(n, [](const TimedBatch& b) {
    return b.taken == 0 ? std::string(".") : std::isnan(b.decode()) ? std::string("-") : text("%.2f", b.d6 / b.decode());
  });
  double worst = 1;
  for (const TimedBatch& b : times.batches()) {
    if (b.taken > 0 && !std::isnan(b.decode())) worst = std::min(worst, b.d6 / b.decode());
  }
  n.figure("times", picture_of_times(times, 4, {1, 8}), "D6 and D7, timed and by the formulas");
  n.check_that("where D7 is taken and was timed it is never more than 2 % slower than D6", worst > 0.98);
}

inline void how_near(Narrator& n, const ClusterTimes& times) {
  const FitErrors off = fit_errors(times);
  n.step("The formulas are off by %.0f and %.0f %% (D6, D7: the root of the mean square, over %d and %d times), and by %.0f "
         "and %.0f %% at most. Where the choice loses more than 5 %% to another number of clusters:", 100 * off.d6.rms(),
         100 * off.d7.rms(), off.d6.count, off.d7.count, 100 * off.d6.most, 100 * off.d7.most);
  std::vector<std::vector<std::string>> losing, around;
  for (const TimedBatch& b : times.batches()) {
    if (b.lost() > 0.05) {
      losing.push_back({b.name(), text("%d", b.taken), text("%.2f", b.decode()), text("%d", b.best_clusters()),
                        text("%.2f", b.best()), text("%.0f", 100 * b.lost())});
    }
    if (!std::isnan(b.decode())) continue;
    int below = b.taken, above = b.taken;
    while (below > 0 && std::isnan(b.d7[below])) --below;
    while (above < ClusterTimes::resident && std::isnan(b.d7[above])) ++above;
    around.push_back({b.name(), text("%d", b.taken), text("%.2f with %d", b.d7[below], below),
                      text("%.2f with %d", b.d7[above], above), text("%.2f with %d", b.best(), b.best_clusters())});
  }
  n.table({"batch", "decode takes", "us", "best", "us", "% more"}, losing);
  n.say("And where it was not timed, what was, with fewer clusters and with more:");
  n.table({"batch", "decode takes", "us, fewer", "us, more", "us, best"}, around);
  n.check_that("the formulas' errors are below 8 % (root of the mean square)",
               off.d6.rms() < 0.08 && off.d7.rms() < 0.08);
}

// All that was timed of a group, for docs/measurements/h200-small-decode.md.
inline void every_time(Narrator& n, const ClusterTimes& times, int group) {
  require(std::ranges::count(ClusterTimes::groups, group) == 1, "--times", group,
          "must be 4 or 8: no other group was timed");
  n.section("Every batch that was timed");
  n.step("Batches with a group of %d, in us. fit: expected_times of decode_cost.hpp. clusters: with which its D7 is the "
         "fastest. best: the least time of all, and with how many clusters; a dot: D6. A dash: not timed.", group);
  std::vector<std::vector<std::string>> table;
  for (const TimedBatch& b : times.batches()) {
    if (b.group != group) continue;
    const double d7 = b.d7[b.expected.clusters];
    table.push_back({b.name(), text("%.2f", b.d6), text("%.2f", b.expected.d6), text("%d", b.expected.clusters),
                     std::isnan(d7) ? "-" : text("%.2f", d7), text("%.2f", b.expected.d7), b.taken > 0 ? "D7" : "D6",
                     text("%.2f", b.best()), b.best_clusters() > 0 ? text("%d", b.best_clusters()) : ".",
                     std::isnan(b.lost()) ? "-" : text("%.1f", 100 * b.lost())});
  }
  n.table({"batch", "D6", "fit", "clusters", "D7", "fit", "taken", "best", "with", "lost %"}, table);
}

}  // namespace flashladder::walkthroughs
