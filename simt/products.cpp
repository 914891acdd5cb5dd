#include "simt/products.hpp"

#include <array>
#include <cstring>

#include "core/half.hpp"
#include "simt/memory.hpp"
#include "simt/warp.hpp"

namespace flashladder::simt {
namespace {

constexpr unsigned lanes = 32, all = 0xffffffffu;
constexpr int depth = 16;  // of a product, along k

// An operand's description, in bytes.
struct Operand {
  std::uint32_t address, leading, stride;

  explicit Operand(std::uint64_t bits)
      : address(static_cast<std::uint32_t>(bits & 0x3fff) << 4), leading(static_cast<std::uint32_t>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<std::uint32_t>(bits >> 32 & 0x3fff) << 4) {}

  // Element (row, k) of rows that lie one behind the other, and of rows along k.
  std::uint32_t of_rows(std::uint32_t row, std::uint32_t k) const {
    return swizzled_128(address + row / 8 * stride + row % 8 * 128 + k * 2);
  }
  std::uint32_t of_columns(std::uint32_t column, std::uint32_t k) const {
    return swizzled_128(address + column / 64 * leading + k / 8 * stride + k % 8 * 128 + column % 64 * 2);
  }
};

template <class Element>
float value(std::uint16_t bits) {
  Element x;
  x.bits = bits;
  return static_cast<float>(x);
}
template <class Element>
float at(std::uint32_t address) {
  std::uint16_t bits;
  std::memcpy(&bits, at_shared(address, 2), 2);
  return value<Element>(bits);
}

template <class Element>
void compute(const std::array<Product, lanes>& of, unsigned warp) {
  const Product& any = of[0];
  float a[depth][16];  // [k][row]
  const Operand b(any.b), from(any.a_shared);
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned k = 0; k < depth; ++k) {
      const std::uint32_t pair = of[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2];
      a[k][row] = any.a_is_shared ? at<Element>(from.of_rows(warp * 16 + row, k))
                                  : value<Element>(static_cast<std::uint16_t>(pair >> k % 2 * 16));
    }
  }
  for (unsigned column = 0; column < static_cast<unsigned>(any.n); ++column) {
    float sum[16] = {};
    for (unsigned k = 0; k < depth; ++k) {
      const float x = at<Element>(any.along_k ? b.of_columns(column, k) : b.of_rows(column, k));
      for (unsigned row = 0; row < 16; ++row) sum[row] += a[k][row] * x;
    }
    for (unsigned row = 0; row < 16; ++row) {
      float& c = of[row % 8 * 4 + column % 8 / 2].c[column / 8 * 4 + row / 8 * 2 + column % 2];
      c = any.add ? c + sum[row] : sum[row];
    }
  }
}

template <class Element>
struct Multiply {
  void operator()(Product* const* of, unsigned here) const {
    if (here != all) cluster->fail("wgmma without all lanes of its warp");
    std::array<Product, lanes> products;
    for (unsigned lane = 0; lane < lanes; ++lane) products[lane] = *of[lane];
    const unsigned warp = static_cast<unsigned>(current->warp - current->cta->warps.data()) % 4;
    if (!cluster->late()) return compute<Element>(products, warp);
    CopyGroup& group = current->warp->open_products;
    if (group == nullptr) group = std::make_shared<CopyGroup::element_type>();
    group->push_back([products, warp] { compute<Element>(products, warp); });
  }
};

struct Step {
  std::size_t pending;
};
struct Commit {
  void operator()(Step* const*, unsigned) const {
    Warp& warp = *current->warp;
    if (warp.open_products == nullptr) warp.open_products = std::make_shared<CopyGroup::element_type>();
    warp.products.push_back(std::move(warp.open_products));
    warp.open_products = nullptr;
  }
};
struct Wait {
  void operator()(Step* const* of, unsigned) const {
    for (auto& groups = current->warp->products; groups.size() > of[0]->pending; groups.pop_front()) {
      run_all(*groups.front());
    }
  }
};

}  // namespace

template <class Element>
void multiply_64(Product mine) {
  meet<Multiply<Element>>(all, "wgmma", mine);
}
template void multiply_64<Half>(Product);
template void multiply_64<BFloat16>(Product);

void commit_products() {
  Step mine{0};
  meet<Commit>(all, "wgmma's commit", mine);
}
void wait_for_products(std::size_t pending) {
  Step mine{pending};
  meet<Wait>(all, "wgmma's wait", mine);
}

}  // namespace flashladder::simt
