#include "reference/key_stream.hpp"

#include <algorithm>

#include "reference/gather.hpp"

namespace flashladder::reference {
namespace {

constexpr std::size_t rows_ahead = 32;  // 16 KB of head_dim 128: longer than DRAM's latency, small beside an L2 cache
static_assert(rows_ahead <= 2 * KeyStream::in_place_tile, "no further than the next tile, whose rows are located");

}  // namespace

KeyStream::KeyStream(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, bool read_once,
                     Buffers& buffers)
    : problem_(problem), request_(request), kv_head_(kv_head), keys_(keys), in_place_(read_once && rows_in_place(problem)),
      buffers_(buffers) {
  buffers.rows.clear();
  if (!in_place_) return;
  append_rows();
  Prefetcher start{buffers.rows, row_floats()};
  while (start.rows.size() + rows_ahead > buffers.rows.size() && start.rows.size() >= Prefetcher::rows_at_once)
    start.fetch();
}

bool KeyStream::next(KeyTile& tile) {
  if (keys_.empty()) return false;
  const Range now = first_of(keys_, in_place_ ? in_place_tile : gathered_tile);
  keys_.begin = now.end;
  std::vector<const float*>& rows = buffers_.rows;
  Prefetcher ahead{};
  if (in_place_) {
    rows.erase(rows.begin(), rows.begin() + done_);
    done_ = 2 * now.size();
    append_rows();
    ahead = {std::span(rows).subspan(std::min(rows_ahead, rows.size())), row_floats()};
  } else {
    gather(now);
  }
  tile = {now, rows.data(), rows.data() + now.size(), ahead};
  return true;
}

// No more than a row of K and of V has, because both are fetched alike.
std::int32_t KeyStream::row_floats() const { return std::min(problem_.kv.head_dim_qk, problem_.kv.head_dim_vo); }

// The next tile's, if there is one.
void KeyStream::append_rows() {
  const Range tile = first_of(keys_, in_place_tile);
  std::vector<const float*>& rows = buffers_.rows;
  const std::size_t at = rows.size();
  rows.resize(at + 2 * tile.size());
  locate_rows(problem_, request_, kv_head_, tile, rows.data() + at, rows.data() + at + tile.size());
}

void KeyStream::gather(Range keys) {
  load_keys(problem_, request_, kv_head_, keys, buffers_.k);
  load_values(problem_, request_, kv_head_, keys, buffers_.v);
  buffers_.rows.clear();
  for (const Buffer* matrix : {&buffers_.k, &buffers_.v}) {
    for (std::int32_t j = 0; j < keys.size(); ++j) buffers_.rows.push_back(matrix->row(j).data());
  }
}

}  // namespace flashladder::reference
