// wgmma: products of a warp group whose operands lie in shared memory, under way until somebody waits for them.
#pragma once

#include <cstdint>

namespace flashladder::simt {

// A lane's part of a product of [64, 16] and [16, n].
struct Product {
  float* c;                // [n / 2], its accumulators
  int n;
  std::uint32_t a[4];      // the left operand in registers, or
  std::uint64_t a_shared;  // ... a description of where it lies
  bool a_is_shared;
  std::uint64_t b;
  bool along_k, add;
};

template <class Element>
void multiply_64(Product mine);
void commit_products();
void wait_for_products(std::size_t pending);  // groups that may still be under way

}  // namespace flashladder::simt
