#include "gpu/prefill/boxes.hpp"

#include <algorithm>
#include <bit>

#include "core/error.hpp"
#include "gpu/prefill/prefill.hpp"
#include "gpu/tensor_map.hpp"

namespace flashladder::gpu {
namespace {

constexpr std::int32_t row_elements = 64, group = 8;  // of an atom
constexpr std::uint64_t element_bytes = 2, row_bytes = row_elements * element_bytes;

std::uint64_t bytes(std::int64_t elements) { return static_cast<std::uint64_t>(elements) * element_bytes; }

// A dimension of one entry may have any stride; the driver wants a positive one, and describes no others.
std::uint64_t stride(const char* argument, std::int64_t elements, std::int64_t entries) {
  if (entries <= 1) return row_bytes;
  require(elements > 0, argument, elements, 
          "is a stride and must be positive for a kernel that copies boxes: ask for backend fa2");
  return bytes(elements);
}

struct Cache {
  const char* argument;  // its name, for errors
  const void* data;
  KvStrides strides;
  std::int32_t num_heads, head_dim;

  // Heads and their rows of 64 features are one dimension of rows of 64.
  std::int32_t head_step() const {
    const std::int64_t head = num_heads > 1 ? strides.head : 0;
    require(head >= 0 && head % row_elements == 0, argument, head,
            "is the stride from head to head and must be a multiple of 64 elements for a kernel that copies boxes: ask for "
            "backend fa2");
    return static_cast<std::int32_t>(head / row_elements);
  }
  std::uint64_t head_rows() const {
    return static_cast<std::uint64_t>(num_heads - 1) * static_cast<std::uint64_t>(head_step()) +
           static_cast<std::uint64_t>(head_dim / row_elements);
  }
  std::uint32_t box_heads() const { return static_cast<std::uint32_t>(head_dim / row_elements); }
};

CUtensorMap pages_map(const Cache& c, const PageList& pages, std::int32_t box_rows) {
  return tensor_map(BoxedTensor<5>{
      .data = c.data,
      .dims = {row_elements, group, c.head_rows(), static_cast<std::uint64_t>(pages.page_size / group),
               static_cast<std::uint64_t>(pages.num_pages)},
      .strides = {stride(c.argument, c.strides.entry, pages.page_size), row_bytes,
                  stride(c.argument, group * c.strides.entry, pages.page_size),
                  stride(c.argument, c.strides.page, pages.num_pages)},
      .box = {row_elements, group, c.box_heads(), static_cast<std::uint32_t>(box_rows / group), 1}});
}

CUtensorMap rows_map(const Cache& c, std::int32_t rows, std::int32_t groups, std::int32_t tile) {
  const std::uint64_t row = stride(c.argument, c.strides.page, rows);
  return tensor_map(BoxedTensor<5>{
      .data = c.data,
      .dims = {row_elements, group, c.head_rows(), static_cast<std::uint64_t>(std::max(groups, 1)), group},
      .strides = {row, row_bytes, group * row, row},
      .box = {row_elements, group, c.box_heads(), static_cast<std::uint32_t>(tile / group), 1}});
}

CUtensorMap end_map(const Cache& c, std::int32_t rows) {
  const std::uint64_t row = stride(c.argument, c.strides.page, rows);
  return tensor_map(BoxedTensor<5>{.data = c.data,
                                   .dims = {row_elements, static_cast<std::uint64_t>(rows), c.head_rows(), 1, 1},
                                   .strides = {row, row_bytes, row, row},
                                   .box = {row_elements, group, c.box_heads(), 1, 1}});
}

// The largest power of two that divides both.
std::int32_t common_rows(std::int32_t a, std::int32_t b) {
  return 1 << std::min(std::countr_zero(static_cast<std::uint32_t>(a)), std::countr_zero(static_cast<std::uint32_t>(b)));
}

bool is_ragged(const PageList& pages) { return pages.indices == nullptr && pages.page_size == 1; }

}  // namespace

std::string why_no_boxes(std::int32_t page_size, bool identity) {
  if (page_size % group == 0 || (identity && page_size == 1)) return "";
  return "page_size " + std::to_string(page_size) + ", which is no multiple of 8";
}

KvBoxes kv_boxes(const AttentionCall& call, std::int32_t tile) {
  // Of an empty cache only boxes out of range are asked for: any memory will do.
  const bool empty = call.kv.pages.num_pages == 0;
  const PageList pages = empty ? PageList{nullptr, group, 1} : call.kv.pages;
  const std::int32_t heads = call.params.num_kv_heads;
  constexpr KvStrides any{row_elements, row_elements, row_elements};
  const Cache k{"k_cache", empty ? call.rows.q : call.kv.k, empty ? any : call.kv.k_strides, heads, call.params.head_dim_qk};
  const Cache v{"v_cache", empty ? call.rows.q : call.kv.v, empty ? any : call.kv.v_strides, heads, call.params.head_dim_vo};
  KvBoxes boxes{.pages = pages, .by_page_size = Divisor(pages.page_size), .k_head = k.head_step(), .v_head = v.head_step(),
                .ragged = is_ragged(pages)};
  if (boxes.ragged) {
    boxes.box_rows = tile;
    boxes.whole_groups = std::max(pages.num_pages - (group - 1), 0) / group;
    boxes.k = rows_map(k, pages.num_pages, boxes.whole_groups, tile), boxes.k_end = end_map(k, pages.num_pages);
    boxes.v = rows_map(v, pages.num_pages, boxes.whole_groups, tile), boxes.v_end = end_map(v, pages.num_pages);
    return boxes;
  }
  const std::string reason = why_no_boxes(pages.page_size, false);
  require(reason.empty(), "page_size", pages.page_size, "must be a multiple of 8 for a kernel that copies boxes");
  boxes.box_rows = common_rows(pages.page_size, tile);
  boxes.first_key_mask = -boxes.box_rows;
  boxes.k = pages_map(k, pages, boxes.box_rows);
  boxes.v = pages_map(v, pages, boxes.box_rows);
  return boxes;
}

QueryBoxes query_boxes(const AttentionCall& call, std::int32_t pack) {
  const std::int32_t queries = p11::warp_group_rows / pack;
  const AttentionParams& p = call.params;
  const auto rows_map = [&](const void* data, std::int32_t head_dim, std::uint64_t head, std::uint64_t token,
                            std::int32_t box_queries) {
    return tensor_map(BoxedTensor<4>{
        .data = data,
        .dims = {row_elements, static_cast<std::uint64_t>(p.num_qo_heads), static_cast<std::uint64_t>(call.nnz_qo),
                 static_cast<std::uint64_t>(head_dim / row_elements)},
        .strides = {head, token, row_bytes},
        .box = {row_elements, static_cast<std::uint32_t>(pack), static_cast<std::uint32_t>(box_queries), 1}});
  };
  QueryBoxes boxes{.q = rows_map(call.rows.q, p.head_dim_qk, stride("q", call.rows.q_head, p.num_qo_heads),
                                 stride("q", call.rows.q_token, call.nnz_qo), queries),
                   .by_pack = Divisor(pack), .group_rows = queries * pack};
  const auto positive = [](std::int64_t elements, std::int64_t entries) { return entries <= 1 || elements > 0; };
  boxes.o_in_boxes = call.rows.o_dtype != DType::f32 && p11::warp_rows % pack == 0 &&
                     positive(call.rows.o_head, p.num_qo_heads) && positive(call.rows.o_token, call.nnz_qo);
  if (boxes.o_in_boxes) {
    boxes.o = rows_map(call.rows.o, p.head_dim_vo, stride("o", call.rows.o_head, p.num_qo_heads),
                       stride("o", call.rows.o_token, call.nnz_qo), p11::warp_rows / pack);
  }
  return boxes;
}

}  // namespace flashladder::gpu
