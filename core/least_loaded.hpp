// Greedy list scheduling's one question, who is least loaded, by a tournament over the CTAs: leaf width + c is CTA c, every
// inner node the smaller of its two children, node 1 the winner. A node is one integer, load before index: the bits of a
// non-negative float order like the float itself, so the smallest integer is the least loaded CTA and, among equals, the
// lowest one. An update is a walk of minima, without a branch. The host's planner and the GPU's have the same one.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

class LeastLoaded {
 public:
  // Nodes that a tournament of so many CTAs has; node 0 is not used.
  FL_HD static constexpr std::size_t nodes(std::uint32_t num_ctas) { return 2 * std::size_t{std::bit_ceil(num_ctas)}; }

  // nodes [nodes(num_ctas)] are set_leaf() and then, level by level from the leaves, set_inner().
  FL_HD constexpr LeastLoaded(std::uint64_t* nodes, std::uint32_t num_ctas)
      : nodes_(nodes), width_(std::bit_ceil(num_ctas)), num_ctas_(num_ctas) {}

  FL_HD constexpr std::uint32_t width() const { return width_; }
  FL_HD constexpr void set_leaf(std::uint32_t c, float load) {  // c < width(): those beyond the last CTA never win
    nodes_[width_ + c] = c < num_ctas_ ? node(load, c) : ~std::uint64_t{0};
  }
  FL_HD constexpr void set_inner(std::uint32_t n) { nodes_[n] = smaller(nodes_[2 * n], nodes_[2 * n + 1]); }

  // Adds cost to the winner and returns its index.
  FL_HD constexpr std::uint32_t give(float cost) {
    const auto cta = static_cast<std::uint32_t>(nodes_[1]);
    std::uint64_t winner = node(load(nodes_[1]) + cost, cta);
    std::uint32_t n = width_ + cta;
    nodes_[n] = winner;
    while (n > 1) {
      winner = smaller(winner, nodes_[n ^ 1]);
      n /= 2;
      nodes_[n] = winner;
    }
    return cta;
  }
  FL_HD constexpr float load_of(std::uint32_t cta) const { return load(nodes_[width_ + cta]); }

 private:
  FL_HD static constexpr std::uint64_t smaller(std::uint64_t a, std::uint64_t b) { return a < b ? a : b; }
  FL_HD static constexpr std::uint64_t node(float load, std::uint32_t cta) {
    return (std::uint64_t{std::bit_cast<std::uint32_t>(load)} << 32) | cta;
  }
  FL_HD static constexpr float load(std::uint64_t node) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(node >> 32));
  }

  std::uint64_t* nodes_;
  std::uint32_t width_, num_ctas_;
};

}  // namespace flashladder
