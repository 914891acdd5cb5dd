// Family append: new keys and values into shuffled pages, alone or with q and k rotated on the way.
#include "bench/gpu/device_rows.hpp"
#include "bench/gpu/op_works.hpp"
#include "bench/gpu/paged_pool.hpp"
#include "bench/gpu/rope_table.hpp"
#include "gpu/append/append.hpp"
#include "reference/append.hpp"
#include "reference/rope_ops.hpp"

namespace flashladder::bench {
namespace {

constexpr std::int32_t held_before = 1024, q_width = 32 * PagedPool::head_dim;

reference::BatchIndicesPositions places_of(const AppendCase& c) {
  std::vector<std::int32_t> indptr{0};
  const std::vector<std::int32_t> seq_lens(static_cast<std::size_t>(c.batch), held_before + c.each);
  for (std::int32_t b = 0; b < c.batch; ++b) indptr.push_back(indptr.back() + c.each);
  return reference::get_batch_indices_positions(indptr, seq_lens, c.batch * c.each);
}

struct AppendRun final : OpRun {
  AppendCase c;
  std::int32_t tokens;
  PagedPool pool;
  reference::BatchIndicesPositions to;
  gpu::DeviceBuffer q, k, v, batch_indices;
  RopeTable table;
  std::vector<std::int64_t> rows;

  explicit AppendRun(const AppendCase& c_)
      : c(c_), tokens(c.batch * c.each),
        pool(std::vector<std::int32_t>(static_cast<std::size_t>(c.batch), held_before + c.each), 1, 1), to(places_of(c)),
        q(random_halves(std::int64_t{1} * q_width * tokens, 3)),
        k(random_halves(std::int64_t{1} * PagedPool::width * tokens, 4)),
        v(random_halves(std::int64_t{1} * PagedPool::width * tokens, 5)), batch_indices(to_device(to.batch_indices)),
        table(to.positions), rows(sampled_rows(tokens)) {}

  void launch(std::int32_t place, bool enable_pdl, void* stream) const override {
    const auto tensor = [&](const gpu::DeviceBuffer& b, std::int32_t heads) {
      return contiguous(b.data(), DType::f16, {tokens, heads, PagedPool::head_dim});
    };
    const Tensor keys = tensor(k, PagedPool::num_kv_heads), values = tensor(v, PagedPool::num_kv_heads);
    const auto s = static_cast<cudaStream_t>(stream);
    if (c.with_rope) {
      gpu::rope_with_cos_sin_cache_append_paged_kv_cache(tensor(q, 32), keys, values, table.device_cache(), true,
                                                         span_of(batch_indices), table.device_positions(), pool.cache(place),
                                                         pool.device_table(), s, enable_pdl);
    } else {
      gpu::append_paged_kv_cache(keys, values, span_of(batch_indices), table.device_positions(), pool.cache(place),
                                 pool.device_table(), s, enable_pdl);
    }
  }

  std::string checked() const override { return rows_text(rows, tokens); }

  HostRows in_cache(std::int32_t place, int which) const {
    std::vector<std::int64_t> slots;
    for (const std::int64_t row : rows) {
      const auto i = static_cast<std::size_t>(row);
      slots.push_back(pool.row_of(to.batch_indices[i], to.positions[i], which));
    }
    return {pool.bytes(place), slots, PagedPool::width};
  }

  std::string check(std::int32_t place, const GpuTimer& timer) const override {
    HostRows want_q(q.data(), rows, q_width), want_k(k.data(), rows, PagedPool::width);
    const HostRows want_v(v.data(), rows, PagedPool::width);
    launch(place, false, timer.stream());
    timer.synchronise();
    std::string wrong = same_rows("value", in_cache(place, 1), want_v, rows);
    if (!wrong.empty()) return wrong;
    if (!c.with_rope) return same_rows("key", in_cache(place, 0), want_k, rows);
    reference::apply_rope_with_cos_sin_cache_inplace(table.positions_of(rows), want_q.heads(PagedPool::head_dim),
                                                     want_k.heads(PagedPool::head_dim), table.host_cache(), true);
    wrong = compare_rows("key", in_cache(place, 0), want_k, rows, RopeTable::slack);
    return wrong.empty() ? compare_rows("q", HostRows(q.data(), rows, q_width), want_q, rows, RopeTable::slack) : wrong;
  }
};

}  // namespace

std::vector<TimedWork> append_works(const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const AppendCase& c : append_cases()) {
    say("preparing " + c.name());
    add_event_work(works, Family::append, c.name(), c.bytes(), std::make_shared<const AppendRun>(c), timer);
  }
  return works;
}

}  // namespace flashladder::bench
