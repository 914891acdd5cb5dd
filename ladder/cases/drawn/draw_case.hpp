// Data for a spec: the same bits from the same seed on every machine and compiler (random.hpp), pages shuffled in a pool
// twice too large, and NaN in every slot that no token uses, so that a kernel which reads one can't hide it.
// A token's values depend on the seed and on its place in the batch only, not on page size, layout or dtype (which rounds).
#pragma once

#include "ladder/cases/case.hpp"

namespace flashladder::ladder {

// Throws InputError for a spec that validate() refuses or that was read from a file, and, before anything is allocated, for
// one whose bytes_estimate() exceeds the machine's available memory.
Case draw_case(const CaseSpec& spec);

}  // namespace flashladder::ladder
