// How long planning takes: lengths in, Plan out, into a Plan that is used again and again, on one core.
#pragma once

#include <vector>

#include "bench/measurement.hpp"

namespace flashladder::bench {

// Skewed decode batches (lognormal lengths) of 256 and of 4096 requests, 8 KV heads, on 264 CTAs, by policies count and
// balanced; a prefill of 64 prompts of lognormal lengths, whose work 132 CTAs claim; and a batch of 64 in which 4 requests
// prefill and 60 decode.
std::vector<Measurement> measure_plans(int rounds);

}  // namespace flashladder::bench
