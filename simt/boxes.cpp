#include "simt/boxes.hpp"

#include <algorithm>
#include <cstring>

#include "simt/memory.hpp"

namespace flashladder::simt {
namespace {

constexpr std::uint32_t row_bytes = 128;

struct Box {
  BoxedTensor tensor;
  std::int64_t at[5] = {};
  std::uint32_t shared = 0;

  std::uint32_t rows() const {
    std::uint32_t rows = 1;
    for (std::uint32_t d = 1; d < tensor.rank; ++d) rows *= tensor.box[d];
    return rows;
  }
  // Where row r of the box lies in the tensor, nullptr outside of it.
  std::byte* row(std::uint32_t r) const {
    std::byte* p = tensor.data;
    for (std::uint32_t d = 1; d < tensor.rank; ++d) {
      const std::int64_t x = at[d] + r % tensor.box[d];
      r /= tensor.box[d];
      if (x < 0 || x >= static_cast<std::int64_t>(tensor.dims[d])) return nullptr;
      p += x * static_cast<std::int64_t>(tensor.strides[d - 1]);
    }
    return p;
  }
  // 16 bytes of it, and where they lie in shared memory; nullptr where they are outside of the tensor.
  template <class Each>
  void each_piece(const Each& each) const {
    for (std::uint32_t r = 0; r < rows(); ++r) {
      std::byte* const from = row(r);
      for (std::uint32_t byte = 0; byte < row_bytes; byte += 16) {
        const std::int64_t x = at[0] + byte / 2;
        const bool inside = from != nullptr && x >= 0 && x + 8 <= static_cast<std::int64_t>(tensor.dims[0]);
        each(inside ? from + x * 2 : nullptr, at_shared(swizzled_128(shared + r * row_bytes + byte), 16));
      }
    }
  }
};

Box box_of(const CUtensorMap& map, const void* shared, const std::int32_t* at, std::size_t rank) {
  Box box;
  std::memcpy(&box.tensor, &map, sizeof box.tensor);
  if (box.tensor.rank != rank) cluster->fail("a box of another rank than its tensor map");
  std::copy(at, at + rank, box.at);
  box.shared = shared_address(shared);
  if (box.shared % 1024 != 0) cluster->fail("a swizzled box in shared memory that does not begin at a multiple of 1024");
  return box;
}

}  // namespace

void load_box(const CUtensorMap& map, void* to, const std::int32_t* at, std::size_t rank,
              std::function<void(std::uint32_t)> copied) {
  cluster->later([box = box_of(map, to, at, rank), copied = std::move(copied)] {
    box.each_piece([](const std::byte* from, std::byte* there) {
      from == nullptr ? std::memset(there, 0, 16) : std::memcpy(there, from, 16);
    });
    copied(box.rows() * row_bytes);
  });
}

void store_box(const CUtensorMap& map, const void* from, const std::int32_t* at, std::size_t rank) {
  const auto store = [box = box_of(map, from, at, rank)] {
    box.each_piece([](std::byte* to, const std::byte* here) {
      if (to != nullptr) std::memcpy(to, here, 16);
    });
  };
  if (!cluster->late()) return store();
  current->stores.push_back(store);
}

void wait_for_stores() { run_all(current->stores); }

}  // namespace flashladder::simt
