// The tensors of a graph's object on the CPU: as many rows as its limits say, of which a batch has the first ones. All bits of
// the others are set, and a run must leave them so.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "tests/api_prefill.hpp"

namespace flashladder::test {

// The rows of `t`, with NaN behind them.
struct GraphRows {
  std::vector<std::byte> bytes;
  Tensor tensor;

  GraphRows(const Tensor& t, std::int64_t rows) : tensor(t) {
    const std::int64_t row = t.shape[1] * t.shape[2] * static_cast<std::int64_t>(size_of(t.dtype));
    bytes.assign(static_cast<std::size_t>(rows * row), std::byte{0xff});
    std::memcpy(bytes.data(), t.data, static_cast<std::size_t>(t.shape[0] * row));
    tensor = contiguous(bytes.data(), t.dtype, {rows, t.shape[1], t.shape[2]});
  }
};

// What `run(output)` writes into the case's rows of a graph's output.
inline Result written_first(const ladder::Case& c, DType o_dtype, std::int64_t rows,
                            const std::function<void(const AttentionOutput&)>& run) {
  const std::int64_t heads = c.spec.params.num_qo_heads, used = c.q.shape[0];
  ladder::GuardedOutput out(rows, heads, c.spec.params.head_dim_vo, o_dtype);
  const AttentionOutput view = out.view();
  const auto behind = [&] {
    const auto* o = static_cast<const std::byte*>(view.o.data);
    const auto row = static_cast<std::size_t>(heads * view.o.shape[2]) * size_of(o_dtype);
    std::vector<std::byte> bytes(o + used * row, o + rows * row);
    const auto lse = std::as_bytes(view.lse_log2.subspan(static_cast<std::size_t>(used * heads)));
    bytes.insert(bytes.end(), lse.begin(), lse.end());
    return bytes;
  };
  const std::vector<std::byte> before = behind();
  run(view);
  CHECK(out.guards_intact());
  CHECK((behind() == before));
  const auto values = static_cast<std::size_t>(used * heads * view.o.shape[2]);
  Result result{.o = std::vector<float>(values),
                .lse_log2 = {view.lse_log2.begin(), view.lse_log2.begin() + used * heads}};
  reference::load_row(view.o, 0, static_cast<std::int64_t>(values), result.o.data());
  return result;
}

}  // namespace flashladder::test
