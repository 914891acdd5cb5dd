// In how many heads' worth of work claims go: what the host's packer (packed_plan.cpp) and the GPU's planner (gpu/plan/) must
// agree in, written once.
//
// As many copies as keep keys and values of the whole batch below half of an L2 cache of 50 MB (H100, H200), so that what
// many CTAs read is read from memory once. But the last section is not so narrow that it is little work for each CTA: work
// is taken longest first only inside of a section, and at its end all CTAs shall be done together. Work that is all alike
// needs no order. And where every request has one tile, nobody shares keys with anybody: then all heads go together, whose
// rows lie side by side in memory. Queues have no sections.
#pragma once

#include <cstdint>

#include "core/host_device.hpp"
#include "core/range.hpp"

namespace flashladder::gpu {

struct Sections {
  std::int32_t width = 1, narrow = 0;  // PackedHeader's section and narrow
};

// What a claimed part is, so far as it decides the sections.
struct SectionedWork {
  std::int32_t copies = 1, pack = 1, group_size = 1, head_dim_vo = 0, num_ctas = 1, batch = 0;
  std::int64_t tiles = 0, items = 0;             // stored: of one copy
  std::int64_t tokens = 0;                       // keys of all requests
  std::int32_t least_keys = 0, most_keys = 0;    // of an item

  FL_HD constexpr Sections sections() const {
    constexpr std::int64_t most_bytes = 24 << 20, element_bytes = 2, least_work = 7;  // of each CTA
    if (tiles <= batch) return {copies, 0};
    const std::int64_t of_kv_head = (1 + tokens) * head_dim_vo * 2 * element_bytes, fit = most_bytes / of_kv_head;
    const std::int64_t wished = (fit > 1 ? fit : 1) * group_size / pack, at_least = wished > 1 ? wished : 1;
    const std::int64_t width = at_least < copies ? at_least : copies;
    const std::int64_t for_work = div_up(least_work * num_ctas, items), spare = copies > for_work ? copies - for_work : 0;
    const bool alike = least_keys >= most_keys / 10 * 9;
    const std::int64_t narrow = alike || for_work <= width ? (copies - 1) / width : spare / width;
    return {static_cast<std::int32_t>(width), static_cast<std::int32_t>(narrow)};
  }
};

}  // namespace flashladder::gpu
