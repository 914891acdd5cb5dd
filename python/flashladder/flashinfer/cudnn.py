"""FlashInfer's cudnn_* calls: one call over pages, or over keys token by token, which plans and runs."""
from .. import _structs as s
from .._arrays import DTYPE_NAMES, dtype_code, family_of, name_of_dtype
from .._library import refuse
from ..serving import planned_there
from ._drafts import kept_attention
from ._fp8 import served, wide_query
from ._hints import must_be, number
from ._masks import check_lse_form
from ._wrapper import config_of

__all__ = ["cudnn_batch_decode_with_kv_cache", "cudnn_batch_prefill_with_kv_cache"]


def ragged_call(q, k, v, qo_indptr, kv_indptr, sm_scale, causal, window_left=-1, out=None, out_code=None, lse=None,
                return_lse=False, natural=False, sinks=None):
    """Attention over keys without pages in one call."""
    config = config_of(q.shape[1], k.shape[1], q.shape[2], 1, head_dim_vo=v.shape[2], q_dtype=name_of_dtype(q.dtype),
                       kv_dtype=name_of_dtype(k.dtype), o_dtype=None if out_code is None else DTYPE_NAMES[out_code],
                       sm_scale=sm_scale, mask="causal" if causal else "none", window_left=window_left,
                       sinks=sinks is not None)
    attention = kept_attention(s.RAGGED_PREFILL, config, q)
    attention.plan(kv_indptr, None, qo_indptr)
    return attention.run(q, (k, v), None, out, lse, return_lse, sinks, natural=natural)


def _lengths(x):
    """int32 [batch] of FlashInfer's [batch] or [batch, 1, 1, 1]."""
    return x if len(x.shape) == 1 else x.reshape(-1)


def _host_list(x):
    return [int(n) for n in family_of(x).host([_lengths(x)])[0]]


def _sum(lengths):
    out = [0]
    for n in lengths:
        out.append(out[-1] + n)
    return out


def _must_be_dense(name, offsets, wants):
    """batch_offsets_*: requests follow each other without a gap. Reading them costs a wait on the GPU."""
    if offsets is None:
        return
    have = _host_list(offsets)
    if have != wants[:len(have)] or len(have) < len(wants) - 1:
        refuse(name, have, f"must be {wants}: requests follow each other without a gap")


def cudnn_batch_decode_with_kv_cache(
        q, k_cache, v_cache, scale, workspace_buffer, *, max_sequence_kv, actual_seq_lens_kv=None, block_tables=None,
        is_cuda_graph_compatible=False, batch_offsets_q=None, batch_offsets_o=None, batch_offsets_k=None,
        batch_offsets_v=None, out=None, return_lse=False, lse=None, q_len_per_req=1, window_left=-1, sinks=None):
    """Decode over a block table: o [batch * q_len_per_req, num_heads, head_dim], or (o, lse), lse to base 2.

    q                   [batch, num_heads, head_dim], strides free but along head_dim
    k_cache, v_cache    [pages, num_kv_heads, page_size, head_dim]
    scale               what multiplies q·k
    actual_seq_lens_kv  int32 [batch]; block_tables int32 [batch, max_pages]
    """
    for name, value in (("actual_seq_lens_kv", actual_seq_lens_kv), ("block_tables", block_tables)):
        if value is None:
            refuse(name, "None", "must be given: the cache has pages")
    must_be("batch_offsets_k", batch_offsets_k, None, "must be None: the block table says where keys lie")
    must_be("batch_offsets_v", batch_offsets_v, None, "must be None: the block table says where values lie")
    lens, each = _lengths(actual_seq_lens_kv), int(q_len_per_req)
    if batch_offsets_q is not None or batch_offsets_o is not None:
        row = q.shape[1] * q.shape[2]
        dense = [row * each * i for i in range(lens.shape[0] + 1)]
        _must_be_dense("batch_offsets_q", batch_offsets_q, dense)
        _must_be_dense("batch_offsets_o", batch_offsets_o, dense)
    (q, code), which, cum = wide_query(q, k_cache, out), s.TRTLLM_BATCH_DECODE, None
    if each > 1:
        which, cum = s.TRTLLM_BATCH_CONTEXT, [each * i for i in range(lens.shape[0] + 1)]
    return served(1.0, which, q, (k_cache, v_cache), "HND", block_tables, lens, workspace_buffer, cum,
                  each if each > 1 else 0, int(max_sequence_kv), float(scale), 1.0, window_left, sinks, False, out=out,
                  out_code=code, lse=lse, return_lse=return_lse)


def _padded_lse(family, packed, qo_indptr, max_len, lse, device):
    """[batch, max_len, heads], as cuDNN gives it: rows beyond a request's queries are -inf."""
    batch, heads = len(qo_indptr) - 1, packed.shape[1]
    if lse is None:
        lse = family.empty((batch, max_len, heads), s.F32, device)
    elif tuple(lse.shape) != (batch, max_len, heads):
        refuse("lse shape", list(lse.shape), f"must be {[batch, max_len, heads]}")
    lse[...] = float("-inf")
    for b in range(batch):
        first, last = qo_indptr[b], qo_indptr[b + 1]
        if last > first:
            family.copy_into(lse[b, :last - first], packed[first:last])
    return lse


def _planned_there(q, k_cache, lens_q, lens_kv, block_tables, return_lse, offsets):
    """Are all lengths on the device, and none of them wanted on the host?"""
    if block_tables is None or return_lse or any(x is not None for x in offsets) or lens_q is None or lens_kv is None:
        return False
    return planned_there(family_of(q, "q"), q, k_cache, lens_kv, lens_q)


def _code_of(o_data_type):
    return dtype_code(o_data_type, "o_data_type") if o_data_type is not None else None


def cudnn_batch_prefill_with_kv_cache(
        q, k_cache, v_cache, scale, workspace_buffer, *, max_token_per_sequence, max_sequence_kv, actual_seq_lens_q=None,
        actual_seq_lens_kv=None, block_tables=None, causal, return_lse, q_scale=None, k_scale=None, v_scale=None,
        batch_offsets_q=None, batch_offsets_o=None, batch_offsets_k=None, batch_offsets_v=None, batch_offsets_stats=None,
        batch_offsets_units="elements", out=None, lse=None, is_cuda_graph_compatible=False, backend=None, o_data_type=None,
        lse_base="log2"):
    """Prefill: (o [num_tokens, num_heads, head_dim_vo], lse [batch, max_token_per_sequence, num_heads] or None).

    q                 [num_tokens, num_heads, head_dim], a request's rows behind those of the one before
    k_cache, v_cache  with block_tables [pages, num_kv_heads, page_size, head_dim], without [kv_tokens, num_kv_heads, dim]
    actual_seq_lens_* int32 [batch] or [batch, 1, 1, 1], on the host; or both on the device: over pages, with no lse and no
                      offsets the plan is then made there, without a wait and in a capture too, else they are copied, which
                      costs a wait. With batch_offsets_units="tokens" the offsets say them too
    """
    check_lse_form(lse_base, "NH")
    if batch_offsets_units not in ("elements", "tokens"):
        refuse("batch_offsets_units", batch_offsets_units, "must be elements or tokens")
    tokens = batch_offsets_units == "tokens"
    offsets = (batch_offsets_q, batch_offsets_o, batch_offsets_stats)
    q, code = wide_query(q, k_cache, out, _code_of(o_data_type))
    if _planned_there(q, k_cache, actual_seq_lens_q, actual_seq_lens_kv, block_tables, return_lse, offsets):
        o = served(
            v_scale, s.CUDNN_BATCH_PREFILL, q, (k_cache, v_cache), "HND", block_tables, _lengths(actual_seq_lens_kv),
            workspace_buffer, None, int(max_token_per_sequence), int(max_sequence_kv), float(scale) * number(q_scale)
            * number(k_scale), 1.0, -1, None, bool(causal), out=out, out_code=code, seq_lens_q=_lengths(actual_seq_lens_q))
        return o, None
    qo = _sum(_host_list(actual_seq_lens_q)) if actual_seq_lens_q is not None else None
    kv = _host_list(actual_seq_lens_kv) if actual_seq_lens_kv is not None else None
    if qo is None and tokens and batch_offsets_q is not None:
        qo = _host_list(batch_offsets_q)
    if kv is None and tokens and batch_offsets_k is not None and block_tables is None:
        offsets = _host_list(batch_offsets_k)
        kv = [b - a for a, b in zip(offsets, offsets[1:])]
    if qo is None or kv is None:
        refuse("actual_seq_lens_q", "None", "must be given, and actual_seq_lens_kv, or say both by offsets in tokens")
    heads, dim_vo = q.shape[1], v_cache.shape[-1]
    unit = {"q": heads * q.shape[2], "o": heads * dim_vo, "stats": heads}
    for name, offsets in (("q", batch_offsets_q), ("o", batch_offsets_o), ("stats", batch_offsets_stats)):
        _must_be_dense(f"batch_offsets_{name}", offsets, [n if tokens else n * unit[name] for n in qo])
    family = family_of(q, "q")
    device, natural, scale = family.device(q), lse_base == "ln", float(scale) * number(q_scale) * number(k_scale)
    more = {"out": out, "out_code": code, "return_lse": return_lse, "natural": natural}
    if block_tables is None:
        row = [k_cache.shape[1] * k_cache.shape[2], v_cache.shape[1] * dim_vo]
        starts = _sum(kv)
        for name, offsets, step in (("k", batch_offsets_k, row[0]), ("v", batch_offsets_v, row[1])):
            _must_be_dense(f"batch_offsets_{name}", offsets, [n if tokens else n * step for n in starts])
        result = served(v_scale, ragged_call, q, k_cache, v_cache, qo, starts, scale, causal, **more)
    else:
        import numpy
        result = served(
            v_scale, s.CUDNN_BATCH_PREFILL, q, (k_cache, v_cache), "HND", block_tables, numpy.asarray(kv, numpy.int32),
            workspace_buffer, numpy.asarray(qo, numpy.int32), int(max_token_per_sequence), int(max_sequence_kv), scale, 1.0,
            -1, None, bool(causal), **more)
    o, packed = result if return_lse else (result, None)
    return o, _padded_lse(family, packed, qo, int(max_token_per_sequence), lse, device) if return_lse else None
