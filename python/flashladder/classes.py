"""The plan and run classes of docs/api.md, one for each kind of batch.

    decode = flashladder.BatchDecodeWithPagedKVCache(AttentionConfig(32, 8, 128, page_size=16), like=q)
    decode.plan(paged_kv_indptr, paged_kv_last_page_len)      # once a step; int32, on the host or the device
    o, lse = decode.run(q, kv_cache, paged_kv_indices, return_lse=True)   # once a layer

`like` is an array: the object is made for its device and its library. Every class has plan_block_table(seq_lens, max_pages)
beside plan(), explain() and plan_json().
"""
from . import _structs as s
from .attention import Attention, AttentionConfig, Limits

__all__ = ["BatchAttention", "BatchDecodeWithPagedKVCache", "BatchPrefillWithPagedKVCache", "BatchPrefillWithRaggedKVCache",
           "CUDAGraphBatchDecodeWithPagedKVCache", "CUDAGraphBatchPrefillWithPagedKVCache",
           "CUDAGraphBatchPrefillWithRaggedKVCache"]


class BatchDecodeWithPagedKVCache(Attention):
    """One query a request. plan(paged_kv_indptr, paged_kv_last_page_len)."""

    def __init__(self, config: AttentionConfig, like, kv_layout="NHD"):
        super().__init__(s.DECODE, config, like, None, kv_layout)


class BatchPrefillWithPagedKVCache(Attention):
    """Many queries a request. plan(paged_kv_indptr, paged_kv_last_page_len, qo_indptr)."""

    def __init__(self, config: AttentionConfig, like, kv_layout="NHD"):
        super().__init__(s.PREFILL, config, like, None, kv_layout)


class BatchPrefillWithRaggedKVCache(Attention):
    """The same over keys without pages, [tokens, num_kv_heads, head_dim]. plan(kv_indptr, None, qo_indptr)."""

    def __init__(self, config: AttentionConfig, like):
        super().__init__(s.RAGGED_PREFILL, config._replace(page_size=1), like)


class CUDAGraphBatchDecodeWithPagedKVCache(Attention):
    """Decode for CUDA graphs, within limits. plan(paged_kv_indptr, paged_kv_last_page_len, page_ids=...) before each replay;
    q and o have limits.max_batch rows."""

    def __init__(self, config: AttentionConfig, limits: Limits, like, kv_layout="NHD"):
        super().__init__(s.GRAPH_DECODE, config, like, limits, kv_layout)


class CUDAGraphBatchPrefillWithPagedKVCache(Attention):
    """Prefill for CUDA graphs, within limits. plan(paged_kv_indptr, paged_kv_last_page_len, qo_indptr, page_ids=...) before
    each replay; q and o have limits.max_nnz_qo rows."""

    def __init__(self, config: AttentionConfig, limits: Limits, like, kv_layout="NHD"):
        super().__init__(s.GRAPH_PREFILL, config, like, limits, kv_layout)


class CUDAGraphBatchPrefillWithRaggedKVCache(Attention):
    """The same over keys without pages, as BatchPrefillWithRaggedKVCache has them. plan(kv_indptr, None, qo_indptr) before
    each replay. limits.max_pages are tokens, and k and v have so many rows or more."""

    def __init__(self, config: AttentionConfig, limits: Limits, like):
        super().__init__(s.GRAPH_RAGGED_PREFILL, config._replace(page_size=1), like, limits)


class BatchAttention(Attention):
    """Requests with one query and with many in one launch, for graphs too (docs/18_mixed.md); plan() as of
    CUDAGraphBatchPrefillWithPagedKVCache."""

    def __init__(self, config: AttentionConfig, limits: Limits, like, kv_layout="NHD"):
        super().__init__(s.BATCH_ATTENTION, config, like, limits, kv_layout)
