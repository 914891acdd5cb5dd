// What the tests of appending on the GPU share: a batch, its rows and its pools on the device, and where pools differ.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/op_checks.hpp"
#include "tests/append_batch.hpp"
#include "tests/gpu_ops_data.hpp"

namespace ops_test {

using flashladder::KvLayout;
using flashladder::PagedKvCache;
using flashladder::PagedKvTable;

// The batch's arrays on the device.
struct DeviceBatch {
  DeviceArray<std::int32_t> indptr, indices, last, requests, positions;

  explicit DeviceBatch(const AppendBatch& b)
      : indptr(b.indptr), indices(b.indices), last(b.last), requests(b.requests), positions(b.positions) {}
  PagedKvTable table() const { return {indptr.span(), indices.span(), last.span()}; }
};

// Pools on the device, all NaN.
struct DevicePools {
  const AppendPools& host;
  OnDevice k;
  std::unique_ptr<OnDevice> v;

  explicit DevicePools(const AppendPools& pools)
      : host(pools), k(*pools.k), v(pools.v ? std::make_unique<OnDevice>(*pools.v) : nullptr) {}
  PagedKvCache cache() const { return host.cache(k.t(), v ? &v->t() : nullptr); }
  // Where the pools are not the expected ones, to the byte; "" if nowhere.
  std::string difference(const AppendPools& expected) const { return difference(expected, expected); }
  // ... where they lie outside of what two pools have, number by number, or (NaN, memory that nobody uses) differ from both.
  std::string difference(const AppendPools& low, const AppendPools& high) const {
    const std::string of_k = difference("K", k, *low.k, *high.k);
    return !v ? of_k : of_k + difference("V", *v, *low.v, *high.v);
  }

 private:
  static std::string difference(const char* name, const OnDevice& pool, const Padded& low, const Padded& high) {
    const std::vector<unsigned char> got = pool.bytes();
    const std::size_t size = flashladder::size_of(low.t().dtype);
    std::size_t count = 0;
    std::string first;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const unsigned char a = low.bytes()[i], b = high.bytes()[i];
      if (got[i] == a || got[i] == b) continue;
      if (a != b && is_fp8(low.t().dtype) && is_between(low.t().dtype, got[i], a, b)) continue;
      if (count++ > 0) continue;
      first = " element " + std::to_string(i / size) + " byte " + std::to_string(i % size) + " of " +
              std::to_string(got.size() / size) + ": " + std::to_string(got[i]) + ", expected " + std::to_string(a) +
              (a == b ? "" : " .. " + std::to_string(b));
    }
    if (count > 0) first = std::string(name) + ": " + std::to_string(count) + " bytes, the first is" + first + ". ";
    return pool.guards_intact() ? first : first + name + ": a guard band is written. ";
  }
  static bool is_between(DType dtype, unsigned char got, unsigned char low, unsigned char high) {
    const auto number = [&](unsigned char bits) {
      Padded one(dtype, {1}, 0);
      *one.t().data_as<unsigned char>() = bits;
      return one.get(0);
    };
    return number(got) >= number(low) && number(got) <= number(high);  // false for NaN
  }
};

// Keys and values, NaN in the rows of padding.
struct AppendRows {
  Padded key, value;
  AppendRows(DType dtype, const AppendCase& c, const AppendBatch& b, std::mt19937& random)
      : key(dtype, {b.nnz(), c.heads, c.dim_k}, c.pad), value(dtype, {b.nnz(), c.heads, c.dim_v}, c.pad) {
    std::uniform_real_distribution<double> any(-2, 2);
    for (Padded* p : {&key, &value}) {
      const std::int64_t row = p->size() / b.nnz();
      for (std::int64_t i = 0; i < p->size(); ++i) {
        if (b.requests[i / row] >= 0) p->set(i, any(random));
      }
    }
  }
};

inline void info(const AppendCase& c) {
  MESSAGE(name_of(c.dtype), " heads ", c.heads, " dims ", c.dim_k, "/", c.dim_v, " page ", c.page_size, " batch ", c.batch,
          " ", name_of(c.layout), c.one_tensor ? " one tensor" : "", " pad ", c.pad);
}

inline constexpr KvLayout layouts[] = {KvLayout::NHD, KvLayout::HND};

inline AppendCase random_append_case(std::mt19937& random) {
  const auto any = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  AppendCase c{.dtype = gpu_dtypes[any(0, 1)], .heads = any(1, 12),
               .dim_k = any(0, 2) == 0 ? any(2, 140) : 16 * any(1, 16),
               .page_size = any(0, 1) == 0 ? 1 << any(0, 6) : any(1, 40), .batch = any(1, 9), .longest = any(1, 200),
               .most_rows = any(0, 4) == 0 ? 600 : 60, .layout = layouts[any(0, 1)], .one_tensor = any(0, 1) == 1,
               .pad = any(0, 1) == 0 ? 8 : any(0, 9)};
  c.dim_v = c.one_tensor || any(0, 2) > 0 ? c.dim_k : any(0, 1) == 0 ? any(1, 140) : 16 * any(1, 16);
  return c;
}

}  // namespace ops_test
