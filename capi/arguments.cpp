#include "capi/arguments.hpp"

namespace flashladder::capi {

void require_null(const void* pointer, const char* name, const char* rule) {
  require(pointer == nullptr, name, "a pointer", rule);
}

api::BatchLengths lengths_of(const fl_batch& b, const api::AttentionSession::Kind& kind) {
  require(b.batch >= 0, "batch", b.batch, "must not be negative");
  const std::int64_t n = b.batch;
  api::BatchLengths lengths;
  if (kind.decode) require_null(b.qo_indptr, "qo_indptr", "must be NULL: a decode has one query a request");
  else lengths.qo_indptr = array(b.qo_indptr, n + 1, "qo_indptr");
  if (kind.ragged) {
    require_null(b.paged_kv_indptr, "paged_kv_indptr", "must be NULL: a ragged cache has kv_indptr");
    require_null(b.paged_kv_last_page_len, "paged_kv_last_page_len", "must be NULL: a ragged cache has kv_indptr");
    require_null(b.seq_lens, "seq_lens", "must be NULL: a ragged cache has kv_indptr");
    lengths.kv_indptr = array(b.kv_indptr, n + 1, "kv_indptr");
  } else if (b.seq_lens != nullptr) {
    require_null(b.paged_kv_indptr, "paged_kv_indptr", "must be NULL: seq_lens says that there is a block table");
    require_null(b.paged_kv_last_page_len, "paged_kv_last_page_len",
                 "must be NULL: seq_lens says that there is a block table");
    lengths.block_table = api::BlockTableLengths{array(b.seq_lens, n, "seq_lens"), b.max_pages};
  } else {
    lengths.paged_kv_indptr = array(b.paged_kv_indptr, n + 1, "paged_kv_indptr");
    lengths.paged_kv_last_page_len = array(b.paged_kv_last_page_len, n, "paged_kv_last_page_len");
  }
  if (!kind.ragged) require_null(b.kv_indptr, "kv_indptr", "must be NULL: this cache has pages");
  require(b.max_pages == 0 || lengths.block_table, "max_pages", b.max_pages, "must be 0: there is no block table");
  if (flag(b.lengths_on_device, "lengths_on_device")) {
    const bool plain = !kind.graph && !kind.ragged && !kind.mixed && !kind.latent;
    require(plain, "lengths_on_device", 1, "is for FL_DECODE and FL_PREFILL alone");
    lengths.max_seq_len = b.max_seq_len;
    if (!kind.decode) lengths.most_queries = api::MostQueries{b.max_nnz_qo, b.max_qo_len};
  } else {
    require(b.max_seq_len == 0, "max_seq_len", b.max_seq_len, "must be 0, since lengths_on_device is 0");
  }
  if (lengths.most_queries) return lengths;
  constexpr const char* rule = "must be 0: it is for a prefill whose lengths lie on the device";
  require(b.max_qo_len == 0, "max_qo_len", b.max_qo_len, rule);
  require(b.max_nnz_qo == 0, "max_nnz_qo", b.max_nnz_qo, rule);
  return lengths;
}

void put(const api::WorkspaceBytes& bytes, std::size_t* device_bytes, std::size_t* staging_bytes) {
  out_pointer(device_bytes, "device_bytes");
  require(staging_bytes != nullptr || bytes.staging == 0, "staging_bytes", "NULL",
          "must not be NULL: a GPU's plan needs staging memory");
  *device_bytes = bytes.device;
  if (staging_bytes != nullptr) *staging_bytes = bytes.staging;
}

api::Workspace workspace_of(const fl_workspace* workspace) {
  const fl_workspace w = read(workspace, "workspace");
  const auto bytes = [](void* data, std::size_t size, const char* name) {
    if (size > 0) require_pointer(data, name);
    return std::span<std::byte>(static_cast<std::byte*>(data), size);
  };
  return {.device = bytes(w.device, w.device_bytes, "workspace.device"),
          .staging = bytes(w.staging, w.staging_bytes, "workspace.staging")};
}

std::span<const std::int32_t> page_ids_of(const std::int32_t* ids, std::int64_t count) {
  return array(ids, count, "page_ids");
}

api::AttentionArguments arguments_of(const fl_attention_arguments& a, std::int64_t num_qo_heads) {
  const Tensor q = tensor_of(a.q, "q"), o = tensor_of(a.o, "o");
  return {.q = q, .kv = {}, .page_ids = page_ids_of(a.page_ids, a.num_page_ids),
          .output = {o, if_given(a.lse_log2, rows_and_heads(q)), if_given(a.lse_natural, rows_and_heads(q))},
          .sinks = if_given(a.sinks, num_qo_heads),
          .custom_mask = array(a.custom_mask, a.custom_mask_bytes, "custom_mask"),
          .packed_custom_mask = array(a.packed_custom_mask, a.packed_custom_mask_bytes, "packed_custom_mask")};
}

}  // namespace flashladder::capi
