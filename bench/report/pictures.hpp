// The report's pictures. Each is empty (no text) where the lines hold nothing to draw.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bench/report/lines.hpp"
#include "draw/svg.hpp"

namespace flashladder::bench {

// TB/s and TFLOP/s on a GPU, GB/s and GFLOP/s on a CPU.
struct RateUnits {
  double factor = 1;
  const char *bytes = "TB/s", *flops = "TFLOP/s";
};
RateUnits units_of(const Lines& lines);

// A colour for each backend, the same in all pictures of a page.
using Colours = std::map<std::string, draw::Rgb>;
Colours colours_of(const Lines& lines);

// Attention of every backend: TFLOP/s over FLOP a byte, under the ceilings of memory and GEMM.
draw::Svg roofline_picture(const Lines& lines, const Colours& colours);

// Works of one attention that differ in one number only: the largest such set of the lines.
enum class Over : std::uint8_t { decode_kv_len, decode_batch, prefill_length };
draw::Svg rates_over(const Lines& lines, Over what, const Colours& colours);

// One bar a case: our fastest backend; behind it its share of the memory's ceiling and the fastest of the others.
enum class Bars : std::uint8_t { decode, operations };
draw::Svg rate_bars(const Lines& lines, Bars what);

// The rungs on the case that most of them ran, one picture for decode and one for prefill; last the plug-ins that ran it.
struct LadderStep {
  std::string rung, idea;  // idea: of the registry; "" where this build has no such rung. A plug-in: "plug-in mine"
  const Work* best = nullptr;
  double gain = 0;  // the rung below's time by this one's; 0: it is the lowest. A plug-in: the highest rung's by its own
};
struct LadderPicture {
  std::string family, work;
  std::vector<LadderStep> steps;
  draw::Svg svg;
};
std::vector<LadderPicture> ladder_pictures(const Lines& lines);

draw::Svg error_bars(const Lines& lines);         // in percent of the tolerance
draw::Svg off_double_bars(const Lines& lines);    // how far o is from double, on a logarithmic axis

}  // namespace flashladder::bench
