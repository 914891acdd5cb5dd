#include "api/serving_mla.hpp"

#include <cstddef>
#include <limits>
#include <string>

#include "api/batch_mla.hpp"
#include "api/serving_session.hpp"
#include "core/checks.hpp"
#include "core/error.hpp"
#include "core/refuse.hpp"

namespace flashladder::api {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

// [batch, q_len, heads, dim] as rows of [batch * q_len, heads, dim]. A tensor of rank 3 has one query a request.
template <class AnyTensor>
AnyTensor rows_of_queries(const AnyTensor& t, const char* name, std::int64_t batch) {
  const std::string argument = name;
  if (t.rank != 3 && t.rank != 4) {
    refuse(argument + " rank", t.rank, "must be 4: [batch, q_len, num_heads, features], or 3 with one query a request");
  }
  if (t.shape[0] != batch) {
    refuse(argument + " shape[0]", t.shape[0], "must be the batch, the size of seq_lens (" + std::to_string(batch) + ")");
  }
  if (t.rank == 3) return t;
  const std::int64_t q_len = t.shape[1], rows = batch * q_len;
  if (q_len < 1 || rows > int32_max) {
    refuse(argument + " shape[1]", q_len, "must be at least 1, and with the batch's requests 2^31 - 1 queries in all");
  }
  if (batch > 1 && q_len > 1 && t.strides[0] != q_len * t.strides[1]) {
    refuse(argument + " stride[0]", t.strides[0], "must be q_len * stride[1]: requests follow each other as queries do");
  }
  AnyTensor flat = t;
  flat.rank = 3;
  flat.shape = {rows, t.shape[2], t.shape[3]};
  flat.strides = {q_len == 1 ? t.strides[0] : t.strides[1], t.strides[2], t.strides[3]};
  return flat;
}

// Features [first, first + count) of each row.
ConstTensor part(const ConstTensor& q, std::int64_t first, std::int64_t count) {
  ConstTensor features = q;
  features.shape[2] = count;
  if (q.data != nullptr) {
    features.data = static_cast<const std::byte*>(q.data) + first * static_cast<std::int64_t>(size_of(q.dtype));
  }
  return features;
}

// A call under whichever names. query, out: as the caller has them, of rank 3 or 4.
struct LatentDecode {
  ConstTensor query;
  const AttentionOutput& out;
  const char *query_name, *o_name;
  const PagedMlaCache& kv;
  BlockTableLengths table;
  std::span<const std::int32_t> page_ids;
  std::int32_t max_seq_len;
  float sm_scale;
  MlaScales scales;

  std::int64_t batch() const { return static_cast<std::int64_t>(table.seq_lens.size()); }
  std::int64_t q_len() const { return query.rank == 3 ? 1 : query.shape[1]; }
};

AttentionConfig config_for(const LatentDecode& d, const ConstTensor& q, const On& on) {
  require_equal(q.shape[2], std::int64_t{d.kv.head_dim_ckv} + d.kv.head_dim_kpe,
                (std::string(d.query_name) + " features").c_str(), "those of a row of the cache");
  require(q.shape[1] >= 1 && q.shape[1] <= int32_max, "num_heads", q.shape[1], "must be 1 .. 2^31 - 1");
  return MlaConfig{.num_heads = static_cast<std::int32_t>(q.shape[1]), .head_dim_ckv = d.kv.head_dim_ckv,
                   .head_dim_kpe = d.kv.head_dim_kpe, .page_size = d.kv.page_size, .causal = d.q_len() > 1,
                   .sm_scale = d.sm_scale, .kv_dtype = d.kv.dtype, .q_dtype = q.dtype, .o_dtype = d.out.o.dtype,
                   .execution = {.device = on.device, .enable_pdl = on.enable_pdl}}
      .attention();
}

ServingCall call_of(const LatentDecode& d, const On& on) {
  const ConstTensor q = rows_of_queries(d.query, d.query_name, d.batch());
  AttentionOutput output = d.out;
  output.o = rows_of_queries(d.out.o, d.o_name, d.batch());
  const std::int32_t ckv = d.kv.head_dim_ckv, kpe = d.kv.head_dim_kpe;
  ServingCall call{.config = config_for(d, q, on), .lengths = {.block_table = d.table},
                   .arguments = {.q = part(q, 0, ckv), .kv = {}, .page_ids = d.page_ids, .output = output, .sinks = {},
                                 .latent = LatentTensors{part(q, ckv, kpe), d.kv, d.scales}}};
  if (d.q_len() == 1) {
    call.lengths.max_seq_len = most_in(d.table, d.kv.page_size, d.max_seq_len);
    return call;
  }
  for (std::int64_t b = 0; b <= d.batch(); ++b) call.qo_indptr.push_back(static_cast<std::int32_t>(b * d.q_len()));
  for (std::int64_t b = 0; b < d.batch(); ++b) {
    const std::int32_t len = d.table.seq_lens[static_cast<std::size_t>(b)];
    if (len <= d.max_seq_len) continue;
    refuse(element("seq_lens", b), len, "must be at most max_seq_len (" + std::to_string(d.max_seq_len) + ")",
           static_cast<int>(b));
  }
  return call;
}

ServingCall call_of(const TrtllmBatchDecodeMla& c, const On& on) {
  require_scale(c.bmm1_scale, "bmm1_scale");
  require_scale(c.bmm2_scale, "bmm2_scale");
  require(c.max_seq_len >= 0, "max_seq_len", c.max_seq_len, "must not be negative");
  return call_of({.query = c.query, .out = c.out, .query_name = "query", .o_name = "o", .kv = c.kv_cache,
                  .table = table_of(c.block_tables, c.seq_lens, "block_tables", "seq_lens"), .page_ids = c.block_tables,
                  .max_seq_len = c.max_seq_len, .sm_scale = c.bmm1_scale, .scales = {.v = c.bmm2_scale}}, on);
}

ServingCall call_of(const XqaMla& c, const On& on) {
  require_scale(c.q_scale, "q_scale");
  require_scale(c.kv_scale, "kv_scale");
  require(c.q.rank != 4 || c.q.shape[1] == 1, "q.shape[1]", c.q.shape[1], "must be 1: one query a request, and no beams");
  // The same bits: a length beyond 2^31 - 1 is a negative one, which counts as 0.
  const std::span<const std::int32_t> seq_lens(reinterpret_cast<const std::int32_t*>(c.seq_lens.data()), c.seq_lens.size());
  return call_of({.query = c.q, .out = c.output, .query_name = "q", .o_name = "output", .kv = c.kv_cache,
                  .table = table_of(c.page_table, seq_lens, "page_table", "seq_lens"), .page_ids = c.page_table,
                  .max_seq_len = static_cast<std::int32_t>(int32_max), .sm_scale = c.q_scale,
                  .scales = {.k = c.kv_scale, .kpe = c.kv_scale, .v = c.kv_scale}}, on);
}

}  // namespace

WorkspaceBytes workspace_bytes(const TrtllmBatchDecodeMla& call, const On& on) { return serving_bytes(call_of(call, on)); }
WorkspaceBytes workspace_bytes(const XqaMla& call, const On& on) { return serving_bytes(call_of(call, on)); }

void trtllm_batch_decode_with_kv_cache_mla(const TrtllmBatchDecodeMla& call, const On& on) {
  attend_served(call_of(call, on), call.workspace_buffer, on);
}
void xqa_mla(const XqaMla& call, const On& on) { attend_served(call_of(call, on), call.workspace_buffer, on); }

}  // namespace flashladder::api
