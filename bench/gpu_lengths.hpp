// Lengths of the batches that are timed on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace flashladder::bench {

using Lengths = std::vector<std::int32_t>;

// Drawn once, log-normal with mu 6.9 and sigma 1.3: 106,057 keys, the longest 9,251. The same that the peers are timed on.
inline const Lengths lognormal64{2185, 974,  4915, 3714, 640,  4830, 332,  753,  457,  310,  5417, 1465, 279,
                          5487, 5347, 9251, 342,  1021, 251,  3079, 197,  3988, 603,  1080, 1071, 969,
                          745,  1310, 3679, 2825, 1893, 1367, 317,  4156, 1259, 1206, 1012, 608,  1246,
                          1576, 175,  31,   1511, 2120, 97,   683,  199,  358,  2357, 466,  175,  798,
                          1020, 3596, 60,   76,   2375, 3920, 171,  570,  336,  243,  46,   2518};

// The batch of the planner's sample.
inline const Lengths mixed16{512, 1024, 2048, 4096, 512, 512, 1024, 2048, 512, 1024, 1024, 2048, 4096, 8192, 8192, 16384};

inline Lengths uniform(std::int32_t batch, std::int32_t kv_len) { return Lengths(static_cast<std::size_t>(batch), kv_len); }

}  // namespace flashladder::bench
