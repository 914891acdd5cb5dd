// What D6 and D7 took on a grid of batches, beside what decode_cost.hpp expects of them and chooses: read from the committed
// lines, never typed. A batch of the grid has one KV head, so a tile for each request, and all requests are equally long.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.hpp"
#include "draw/xy_chart.hpp"
#include "gpu/decode/decode_cost.hpp"
#include "walkthroughs/measured.hpp"

namespace flashladder::walkthroughs {

struct TimedBatch {
  int group, tiles, keys;
  double d6;                      // us
  std::vector<double> d7;         // [clusters]; NaN: not timed
  gpu::d7::DecodeTimes expected;
  int taken;                      // clusters that decode takes; 0: D6

  std::string name() const { return text("B%d kv%d %d/1", tiles, keys, group); }
  double decode() const { return taken > 0 ? d7[taken] : d6; }  // what decode chooses; NaN: not timed
  int best_clusters() const {  // 0: D6
    int best = 0;
    double least = d6;
    for (int n = 1; n < static_cast<int>(d7.size()); ++n) {
      if (d7[n] < least) best = n, least = d7[n];
    }
    return best;
  }
  double best() const { return best_clusters() > 0 ? d7[best_clusters()] : d6; }
  double lost() const { return decode() / best() - 1; }
};

class ClusterTimes {
 public:
  static constexpr int resident = 14;  // of the H200 that was timed
  inline static const std::vector<int> groups{4, 8}, tiles{1, 2, 4, 8, 12, 14},
      keys{256, 512, 1024, 2048, 4096, 8192, 16384};

  ClusterTimes() {
    for (const int group : groups) {
      for (const int t : tiles) {
        for (const int k : keys) batches_.push_back(timed(group, t, k));
      }
    }
  }

  const std::vector<TimedBatch>& batches() const { return batches_; }
  const TimedBatch* find(const gpu::d7::BatchShape& shape) const {  // nullptr: not of the grid
    const auto same = [&](const TimedBatch& b) {
      return b.tiles == shape.tiles && b.keys == shape.most_keys && b.group == shape.rows && shape.head_dim == 128;
    };
    const auto at = std::ranges::find_if(batches_, same);
    return at != batches_.end() ? &*at : nullptr;
  }

  // A row for a group and a number of tiles, a column for a number of keys.
  template <class Cell>
  void grid(Narrator& n, Cell cell) const {
    std::vector<std::string> header{"group", "tiles"};
    for (const int k : keys) header.push_back(text(header.size() == 2 ? "%d keys" : "%d", k));
    std::vector<std::vector<std::string>> rows;
    for (std::size_t i = 0; i < batches_.size(); ++i) {
      const TimedBatch& b = batches_[i];
      if (i % keys.size() == 0) rows.push_back({text("%d", b.group), text("%d", b.tiles)});
      rows.back().push_back(cell(b));
    }
    n.table(header, rows);
  }

 private:
  TimedBatch timed(int group, int tiles, int keys) const {
    const gpu::d7::BatchShape shape{tiles, keys, group, 128};
    TimedBatch b{.group = group, .tiles = tiles, .keys = keys, .d6 = 0, .d7 = std::vector<double>(resident + 1),
                 .expected = gpu::d7::expected_times(shape, resident),
                 .taken = gpu::d7::worth_clusters(shape, resident)};
    const std::string work = b.name() + " p16 cold";
    b.d6 = lines_.us(work, "D6 pdl");
    for (int n = 0; n <= resident; ++n) b.d7[n] = lines_.us(work, text("D7 pdl, %d cluster%s", n, n == 1 ? "" : "s"));
    require(b.d6 > 0 && b.d7[tiles] > 0, "measurements", work, "has no line of D6, or none of D7 with a cluster a tile");
    return b;
  }

  Measured lines_{{"h200-small-decode-fit.jsonl"}};
  std::vector<TimedBatch> batches_;
};

// Of a formula over all that was timed: the root mean square of its relative error, and the largest.
struct FitError {
  double squares = 0, most = 0;
  int count = 0;
  void add(double expected, double timed) {
    if (std::isnan(timed)) return;
    const double off = expected / timed - 1;
    squares += off * off, ++count;
    most = std::max(most, std::abs(off));
  }
  double rms() const { return std::sqrt(squares / count); }
};
struct FitErrors {
  FitError d6, d7;
};
inline FitErrors fit_errors(const ClusterTimes& times) {
  FitErrors errors;
  for (const TimedBatch& b : times.batches()) {
    errors.d6.add(b.expected.d6, b.d6);
    for (int n = b.tiles; n <= ClusterTimes::resident; n += b.tiles) {
      errors.d7.add(gpu::d7::d7_time(double(b.keys) * b.tiles / n, n, ClusterTimes::resident, n > b.tiles), b.d7[n]);
    }
  }
  return errors;
}

// D6, and D7 with a cluster for each tile, over the keys of a tile: discs are times, dashes the formulas. Cut tiles are left
// out: with them D7's line would be of another number of clusters at each length.
inline draw::Svg picture_of_times(const ClusterTimes& times, int group, const std::vector<int>& tiles) {
  using draw::XySeries;
  const std::vector<std::pair<draw::Rgb, draw::Rgb>> colours{{draw::sky, draw::orange}, {draw::blue, draw::vermillion}};
  std::vector<XySeries> series;
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    const std::string of = text(", %d tile%s", tiles[i], tiles[i] == 1 ? "" : "s");
    XySeries d6{.name = "D6" + of, .colour = colours[i].first, .points = {}, .joined = true};
    XySeries d7{.name = "D7" + of, .colour = colours[i].second, .points = {}, .joined = true};
    XySeries fitted6{.name = d6.name + " (formula)", .colour = d6.colour, .points = {}, .joined = true, .hollow = true};
    XySeries fitted7{.name = d7.name + " (formula)", .colour = d7.colour, .points = {}, .joined = true, .hollow = true};
    for (const TimedBatch& b : times.batches()) {
      if (b.group != group || b.tiles != tiles[i]) continue;
      const auto put = [&](XySeries& to, double us) { to.points.push_back({double(b.keys), us, text("%.2f us", us)}); };
      put(d6, b.d6), put(d7, b.d7[b.tiles]), put(fitted6, b.expected.d6);
      put(fitted7, gpu::d7::d7_time(b.keys, b.tiles, ClusterTimes::resident, false));
    }
    series.insert(series.end(), {d6, fitted6, d7, fitted7});
  }
  const std::vector<double> ticks(ClusterTimes::keys.begin(), ClusterTimes::keys.end());
  return draw::xy_chart(series, {.caption = {text("D6, and D7 with a cluster for each tile, group of %d", group),
                                             "One H200, a launch of a replayed graph with programmatic dependent launch, "
                                             "over rotating caches. Discs: timed. Rings: the formulas of decode_cost.hpp."},
                                 .x = {"keys of a tile", true, ticks}, .y = {"us", true, {}}});
}

}  // namespace flashladder::walkthroughs
