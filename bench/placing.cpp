#include "bench/placing.hpp"

#include <algorithm>

namespace flashladder::bench {

bool is_plugin(const Measurement& line) { return line.backend.starts_with("plug-in "); }

std::vector<Place> places_of(std::span<const Measurement> lines) {
  std::vector<Place> places;
  for (const Measurement& mine : lines) {
    if (!is_plugin(mine)) continue;
    std::vector<const Measurement*> same;
    for (const Measurement& m : lines) {
      if (m.family == mine.family && m.work == mine.work) same.push_back(&m);
    }
    std::ranges::stable_sort(same, {}, [](const Measurement* m) { return m->us; });
    const auto at = std::ranges::find(same, &mine);
    Place place{.work = mine.work, .backend = mine.backend, .place = static_cast<int>(at - same.begin()) + 1,
                .of = static_cast<int>(same.size()), .faster = {}, .slower = {}};
    if (at != same.begin()) place.faster = Neighbour{at[-1]->backend, mine.us / at[-1]->us};
    if (at + 1 != same.end()) place.slower = Neighbour{at[1]->backend, at[1]->us / mine.us};
    places.push_back(std::move(place));
  }
  return places;
}

}  // namespace flashladder::bench
