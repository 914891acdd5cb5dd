// The colours of every picture. Eight categories that stay apart for colour-blind readers (Okabe and Ito, "Color Universal
// Design", 2008) and one sequential ramp through the corner colours of viridis (van der Walt and Smith, matplotlib 2.0).
// Pictures carry their own paper, so that they read the same on a light and on a dark page.
#pragma once

#include <cstdint>
#include <string>

namespace flashladder::draw {

struct Rgb {
  std::uint8_t r = 0, g = 0, b = 0;
  friend constexpr bool operator==(const Rgb&, const Rgb&) = default;
};

inline constexpr Rgb paper{255, 255, 255}, ink{27, 39, 51}, muted{91, 103, 112}, rule{206, 213, 220}, fog{236, 239, 242};
inline constexpr Rgb blue{0, 114, 178}, orange{230, 159, 0}, green{0, 158, 115}, vermillion{213, 94, 0};
inline constexpr Rgb purple{204, 121, 167}, sky{86, 180, 233}, yellow{240, 228, 66}, brown{133, 88, 59};
inline constexpr Rgb grey{110, 119, 128};  // for edges: idle time is grey, so no category is

inline constexpr int num_categories = 24;

std::string hex(Rgb colour);              // #0072b2
Rgb mix(Rgb a, Rgb b, double share_of_b);  // share_of_b outside 0 .. 1 is clamped
Rgb category(std::int64_t index);         // eight hues, then the same lighter, then darker; repeats after num_categories
Rgb ramp(double t);                       // 0 = dark violet .. 1 = yellow; outside is clamped, NaN is fog
Rgb ink_on(Rgb background);               // ink or paper, whichever reads better

}  // namespace flashladder::draw
