"""FlashInfer's trtllm_* calls: one call over a dense block table, which plans and runs."""
from .. import _structs as s
from .._arrays import dtype_code, family_of
from .._library import refuse
from ._drafts import draft_attention
from ._fp8 import is_fp8, served, wide_query
from ._hints import layout_of, must_be, number, refuse_foreign

__all__ = ["trtllm_batch_context_with_kv_cache", "trtllm_batch_decode_with_kv_cache", "trtllm_ragged_attention_deepseek",
           "xqa_batch_decode_with_kv_cache"]
SHARED = "must be True: K and V share their page ids here"


def sinks_of(sinks):
    """FlashInfer takes a tensor, or a list of one."""
    if isinstance(sinks, (list, tuple)):
        if len(sinks) != 1:
            refuse("sinks", f"{len(sinks)} arrays", "must be one")
        sinks = sinks[0]
    return sinks if sinks is None or len(sinks.shape) == 1 else sinks.reshape(-1)


def _out_code(out_dtype):
    return dtype_code(out_dtype, "out_dtype") if out_dtype is not None else None


def _every(family, n, step):
    """int32 [n + 1], 0, step, 2 step ..., on the host."""
    return [step * i for i in range(n + 1)]


def _refuse_fp4(o_sf_scale, o_sf_vec_size):
    must_be("o_sf_scale", o_sf_scale, None, "must be None: o is not quantised here")
    must_be("o_sf_vec_size", o_sf_vec_size, None, "must be None: o is not quantised here")


def is_decode(family, query, kv_cache, layout, each):
    """Are so many queries of every request one tile of the GPU's decode kernel? Then nothing is copied to the host."""
    if not family.gpu(query):
        return True
    k = kv_cache[0] if isinstance(kv_cache, (tuple, list)) else kv_cache[:, 0]
    kv_heads, dim = k.shape[1 if layout == "HND" else 2], query.shape[-1]
    computed = query.dtype == k.dtype and family.code(query, "query") != s.F32 and dim in (64, 128, 256)
    return computed and k.shape[-1] == dim and each * query.shape[1] <= kv_heads * (8 if dim == 256 else 16)


def trtllm_batch_decode_with_kv_cache(
        query, kv_cache, workspace_buffer, block_tables, seq_lens, max_seq_len, bmm1_scale=1.0, bmm2_scale=1.0,
        window_left=-1, out=None, out_dtype=None, o_sf_scale=None, o_sf_vec_size=None, sinks=None, kv_layout="HND",
        enable_pdl=None, backend="auto", q_len_per_req=1, o_scale=1.0, mask=None, max_q_len=None, cum_seq_lens_q=None,
        skip_softmax_threshold_scale_factor=None, kv_cache_sf=None, uses_shared_paged_kv_idx=True, lse=None,
        return_lse=False, bmm1_scale_log2=None, multi_ctas_kv_counter_buffer=None, enable_block_sparse_attention=False,
        cp_world=1, cp_rank=0, causal_seqlens_kv_global=None, bf16q_fp8kv_transform_mode=None, request_order=None,
        request_order_plan=None):
    """Decode over a block table: o [num_tokens, num_heads, head_dim], or (o, lse), lse to base 2.

    query         [batch, num_heads, head_dim]; with q_len_per_req or cum_seq_lens_q several rows a request, causal among them
    kv_cache      [pages, 2, num_kv_heads, page_size, head_dim] (HND) or (K, V) of rank 4; NHD: page_size before heads
    block_tables  int32 [batch, max_pages]; seq_lens int32 [batch], on query's device: nothing is copied to the host
    bmm1_scale    sm_scale, with the scales of fp8 in it; bmm2_scale multiplies o
    mask          of draft tokens among themselves in the place of causal: words of 32 bits, [batch, q_len, words] (uint32, or
                  uint16 and twice as many). Lengths and mask are then copied to the host
    out           may be fp8, and out_dtype
    sinks         f32 [num_heads]
    """
    refuse_foreign(kv_cache_sf, skip_softmax_threshold_scale_factor, request_order=request_order,
                   request_order_plan=request_order_plan, bf16q_fp8kv_transform_mode=bf16q_fp8kv_transform_mode,
                   causal_seqlens_kv_global=causal_seqlens_kv_global, bmm1_scale_log2=bmm1_scale_log2)
    _refuse_fp4(o_sf_scale, o_sf_vec_size)
    must_be("uses_shared_paged_kv_idx", uses_shared_paged_kv_idx, True, SHARED)
    must_be("enable_block_sparse_attention", enable_block_sparse_attention, False, "must be False: all pages are read")
    must_be("cp_world", cp_world, 1, "must be 1: several GPUs merge with merge_state here")
    must_be("cp_rank", cp_rank, 0, "must be 0")
    query, out_code = wide_query(query, kv_cache, out, _out_code(out_dtype))
    if not is_fp8(out, out_code):
        must_be("o_scale", o_scale, 1.0, "must be 1 unless o is fp8, when bmm2_scale has 1 / o_scale in it")
    family = family_of(query, "query")
    shared = dict(bmm1_scale=number(bmm1_scale), window_left=window_left, sinks=sinks_of(sinks), out=out,
                  out_code=out_code, lse=lse, return_lse=return_lse)
    layout, each = layout_of(kv_layout), q_len_per_req or 1
    common = (query, kv_cache, layout, block_tables, seq_lens, workspace_buffer)
    if mask is not None:
        cum = _every(family, seq_lens.shape[0], each) if cum_seq_lens_q is None else cum_seq_lens_q
        return served(bmm2_scale, draft_attention, *common[:-1], mask, cum, each if cum_seq_lens_q is None else int(max_q_len),
                      **shared)
    if cum_seq_lens_q is None and (each == 1 or is_decode(family, query, kv_cache, layout, each)):
        return served(bmm2_scale, s.TRTLLM_BATCH_DECODE, *common, max_q_len=each, max_kv_len=int(max_seq_len), **shared)
    if cum_seq_lens_q is None:
        cum_seq_lens_q, max_q_len = _every(family, seq_lens.shape[0], each), each
    return served(bmm2_scale, s.TRTLLM_BATCH_CONTEXT, *common, cum_seq_lens_q=cum_seq_lens_q, max_q_len=int(max_q_len),
                  max_kv_len=int(max_seq_len), **shared)


def xqa_batch_decode_with_kv_cache(query, kv_cache, workspace_buffer, block_tables, seq_lens, max_seq_len, bmm1_scale=1.0,
                                   bmm2_scale=1.0, window_left=-1, out=None, sinks=None, kv_layout="NHD", enable_pdl=None,
                                   q_len_per_req=1, o_scale=1.0, mask=None, kv_cache_sf=None, q_cu_seq_lens=None):
    """trtllm_batch_decode_with_kv_cache under another name, with NHD as its default layout."""
    return trtllm_batch_decode_with_kv_cache(
        query, kv_cache, workspace_buffer, block_tables, seq_lens, max_seq_len, bmm1_scale, bmm2_scale, window_left, out,
        sinks=sinks, kv_layout=kv_layout, q_len_per_req=q_len_per_req, o_scale=o_scale, mask=mask, kv_cache_sf=kv_cache_sf,
        cum_seq_lens_q=q_cu_seq_lens, max_q_len=q_len_per_req if q_cu_seq_lens is not None else None)


def trtllm_batch_context_with_kv_cache(
        query, kv_cache, workspace_buffer, block_tables, seq_lens, max_q_len, max_kv_len, bmm1_scale, bmm2_scale, batch_size,
        cum_seq_lens_q, cum_seq_lens_kv, window_left=-1, out=None, out_dtype=None, o_sf_scale=None, o_sf_vec_size=None,
        kv_layout="HND", enable_pdl=None, sinks=None, kv_cache_sf=None, skip_softmax_threshold_scale_factor=None,
        uses_shared_paged_kv_idx=True, causal=True, lse=None, return_lse=False, multi_ctas_kv_counter_buffer=None,
        use_fp16_softmax=None, uses_spcompress=None, backend="trtllm-gen"):
    """Prefill over a block table, causal: o [num_tokens, num_heads, head_dim], or (o, lse).

    query [num_tokens, num_heads, head_dim], rows of request b from cum_seq_lens_q[b] on. seq_lens, cum_seq_lens_q: int32, both
    on the device, where the plan is then made, without a wait and in a capture too, and no request may have more than
    max_q_len queries and max_kv_len keys; or on the host, where the plan balances the work by cutting keys. (Where they lie
    beside an fp8 cache on the device, they are copied, which costs a wait.) cum_seq_lens_kv and batch_size say the same again.
    """
    refuse_foreign(kv_cache_sf, skip_softmax_threshold_scale_factor, uses_spcompress)
    _refuse_fp4(o_sf_scale, o_sf_vec_size)
    must_be("uses_shared_paged_kv_idx", uses_shared_paged_kv_idx, True, SHARED)
    must_be("batch_size", int(batch_size), seq_lens.shape[0], f"must be {seq_lens.shape[0]}, the entries of seq_lens")
    which = s.TRTLLM_BATCH_CONTEXT
    if not causal:
        which = s.CUDNN_BATCH_PREFILL
        must_be("window_left", window_left, -1, "must be -1 without causal")
        must_be("sinks", sinks, None, "must be None without causal")
    query, out_code = wide_query(query, kv_cache, out, _out_code(out_dtype))
    return served(
        bmm2_scale, which, query, kv_cache, layout_of(kv_layout), block_tables, seq_lens, workspace_buffer, cum_seq_lens_q,
        int(max_q_len), int(max_kv_len), number(bmm1_scale), 1.0, window_left, sinks_of(sinks), False, out=out,
        out_code=out_code, lse=lse, return_lse=return_lse)


def trtllm_ragged_attention_deepseek(
        query, key, value, workspace_buffer, seq_lens, max_q_len, max_kv_len, bmm1_scale, bmm2_scale, o_sf_scale, batch_size,
        window_left, cum_seq_lens_q, cum_seq_lens_kv, enable_pdl, is_causal, return_lse, attention_sinks=None,
        skip_softmax_threshold_scale_factor=None, out=None, lse=None, sage_attn_sfs=(None, None, None, None),
        num_elts_per_sage_attn_blk=(0, 0, 0, 0), backend="trtllm-gen", q_seq_lens_cpu=None, kv_seq_lens_cpu=None,
        use_fp16_softmax=None, uses_spcompress=None, skip_all_rows_active_check=True):
    """Attention over keys without pages, K and V of different dims: query [num_tokens, heads, 192], key [kv_tokens, heads,
    192], value [kv_tokens, heads, 128], say; cum_seq_lens_* int32 [batch + 1]; attention_sinks f32 [heads]. o, or (o, lse).
    Queries of fp8 give bfloat16 where `out` is not given."""
    refuse_foreign(None, skip_softmax_threshold_scale_factor, uses_spcompress)
    must_be("sage_attn_sfs", tuple(sage_attn_sfs), (None,) * 4, "must be None: nothing is quantised here")
    must_be("num_elts_per_sage_attn_blk", tuple(num_elts_per_sage_attn_blk), (0,) * 4, "must be 0: nothing is quantised")
    if o_sf_scale not in (None, 1.0, 1, -1, -1.0):
        refuse("o_sf_scale", o_sf_scale, "must be 1: o is not quantised here")
    from .cudnn import ragged_call
    wide, out_code = wide_query(query, key, out, s.BF16)
    out_code = out_code if wide is not query else None
    return served(bmm2_scale, ragged_call, wide, key, value, cum_seq_lens_q, cum_seq_lens_kv, number(bmm1_scale),
                  bool(is_causal), window_left, out=out, out_code=out_code, lse=lse, return_lse=return_lse,
                  sinks=sinks_of(attention_sinks))
