// What decides whether attention waits for memory or for arithmetic: the memories of one GPU, the traffic that a larger
// tile saves, and the FLOP that each byte is used for. Chapter 02 tells it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/attention_params.hpp"
#include "core/visibility.hpp"
#include "draw/bar_chart.hpp"
#include "walkthroughs/narrate.hpp"
#include "walkthroughs/traffic.hpp"

namespace flashladder::walkthroughs {

// One H200. Sizes: what cuDeviceGetAttribute answers on it. Rates: NVIDIA's data sheet, H200 SXM, 16-bit floats, dense.
struct Gpu {
  double sms = 132, registers = 65536 * 4, shared = 228 * 1024, l2 = 60 * 1048576.0, memory = 139.8 * 1073741824;  // bytes
  double bytes_per_s = 4.8e12, flop_per_s = 989e12, cuda_core_flop_per_s = 67e12;  // the last in float, no tensor cores
  double flop_per_byte() const { return flop_per_s / bytes_per_s; }
};

// Attention of batch requests of the same lengths, bottom-right causal, 16 bit: FLOP of both matrix products (a
// multiplication and an addition each) over the visible pairs; bytes of q, K, V and o, each once.
struct Work {
  std::string name;
  std::int32_t batch, qo_len, kv_len, num_qo_heads, num_kv_heads, head_dim = 128;

  double flop() const {
    const AttentionParams p{.mask = MaskMode::causal};
    double pairs = 0;
    for (std::int32_t i = 0; i < qo_len; ++i) pairs += visible_keys(p, qo_len, kv_len, i).size();
    return 4.0 * head_dim * num_qo_heads * batch * pairs;
  }
  double bytes() const { return 4.0 * head_dim * batch * (1.0 * num_qo_heads * qo_len + 1.0 * num_kv_heads * kv_len); }
  double intensity() const { return flop() / bytes(); }
};

inline void tell_memories(Narrator& n, const Gpu& gpu) {
  n.step("The memories of one GPU, an H200 with %.0f SMs:", gpu.sms);
  const auto size = [](double bytes) { return text("%.0f KiB", bytes / 1024); };
  const auto all = [](double bytes) { return text("%.0f MiB", bytes / 1048576); };
  n.table({"memory", "of one SM", "of the GPU", "who can read it"},
          {{"registers", size(gpu.registers), all(gpu.registers * gpu.sms), "one thread its own"},
           {"shared memory", size(gpu.shared), all(gpu.shared * gpu.sms), "the threads of one block"},
           {"L2 cache", "-", all(gpu.l2), "all"},
           {"HBM (\"memory\")", "-", text("%.0f GiB", gpu.memory / 1073741824), "all, at 4.8 TB/s"}});
}

// A tile of `rows` queries and one of as many keys, 16 bit, and o in float: what a block holds on the chip.
inline double tile_bytes(double rows, double head_dim) { return rows * head_dim * (2 + 2 * 2 + 4); }

inline void tell_io_complexity(Narrator& n, TrafficShape s) {
  n.step("Queries outside, %d tokens, head_dim %d: a larger tile needs more memory on the chip and reads K and V less "
         "often.", s.tokens, s.head_dim);
  std::vector<std::vector<std::string>> rows;
  std::vector<double> products;
  for (const std::int32_t tile : {32, 64, 128, 256}) {
    s.query_tile = s.key_tile = tile;
    const draw::Traffic t = fa2_traffic(s);
    const double on_chip = tile_bytes(tile, s.head_dim) / 1024, mib = (t.k + t.v) / 1048576;
    products.push_back(on_chip * mib);
    rows.push_back({text("%d", tile), text("%.0f", on_chip), text("%d", div_up(s.tokens, tile)), text("%.1f", mib),
                    text("%.0f", products.back())});
  }
  n.table({"tile", "on chip KiB", "K and V read, times", "K and V MiB", "KiB * MiB"}, rows);
  const auto [least, most] = std::ranges::minmax(products);
  n.check_that("memory on the chip times bytes read is the same for every tile", most <= least * 1.001);
}

inline void tell_intensity(Narrator& n, const Gpu& gpu) {
  const std::vector<Work> works{{"decode 1 on 8192, 32/32", 1, 1, 8192, 32, 32},
                                {"decode 1 on 8192, 32/8", 1, 1, 8192, 32, 8},
                                {"the same, batch 64", 64, 1, 8192, 32, 8},
                                {"decode 1 on 8192, 64/8", 1, 1, 8192, 64, 8},
                                {"extend 16 on 8192, 32/8", 1, 16, 8192, 32, 8},
                                {"prefill 2048, 32/8", 1, 2048, 2048, 32, 8},
                                {"prefill 8192, 32/8", 1, 8192, 8192, 32, 8}};
  n.step("FLOP for each byte, if q, K, V and o cross the border once (head_dim 128, 16 bit, causal). A query, a key and a "
         "head take 4 * head_dim FLOP: two products, each a multiplication and an addition. us: what the H200 needs at "
         "least for the one and for the other, at %.0f TFLOP/s and %.1f TB/s.", gpu.flop_per_s / 1e12,
         gpu.bytes_per_s / 1e12);
  std::vector<std::vector<std::string>> rows;
  std::vector<draw::Bar> bars;
  bool crossed = false;  // works stand in the order of FLOP/byte; the GPU's bar goes where the bound changes
  for (const Work& w : works) {
    const double by_flop = w.flop() / gpu.flop_per_s * 1e6, by_bytes = w.bytes() / gpu.bytes_per_s * 1e6;
    rows.push_back({w.name, text("%.2f", w.flop() / 1e9), text("%.2f", w.bytes() / 1e6), text("%.1f", w.intensity()),
                    text("%.2f", by_flop), text("%.2f", by_bytes), by_flop > by_bytes ? "arithmetic" : "memory"});
    if (by_flop > by_bytes && !crossed) {
      crossed = true;
      bars.push_back({"an H200, 16 bit", {gpu.flop_per_byte()}, "where both take as long"});
    }
    bars.push_back({w.name, {w.intensity()}, by_flop > by_bytes ? "arithmetic" : "memory"});
  }
  n.table({"queries on keys, heads", "GFLOP", "MB", "FLOP/byte", "us arithm.", "us memory", "bound by"}, rows);
  n.say("The GPU can do %.0f FLOP in the time in which a byte arrives. Work below that waits for memory, work above it for "
        "arithmetic. Decode does group_size FLOP a byte, however long the request and however large the batch, because each "
        "request has keys of its own. The GPU's figure is that of its tensor cores; its CUDA cores, in float, do %.0f.",
        gpu.flop_per_byte(), gpu.cuda_core_flop_per_s / gpu.bytes_per_s);
  n.figure("intensity", draw::bar_chart(bars, {.caption = {"FLOP for each byte", "attention, head_dim 128, 16 bit; the axis "
                                                           "is logarithmic"}, .unit = "FLOP", .logarithmic = true}),
           "Arithmetic intensity: decode is far left of what the GPU can do, a long prefill far right.");
  n.check_that("decode does group_size FLOP a byte", std::abs(works[1].intensity() - 4) < 0.01 &&
                                                         std::abs(works[2].intensity() - 4) < 0.01);
}

}  // namespace flashladder::walkthroughs
