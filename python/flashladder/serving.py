"""FlashInfer's calls over a block table, as the library has them: trtllm_batch_decode_with_kv_cache and its kin.

`flashladder.flashinfer` has FlashInfer's own signatures, and calls these. A decode takes lengths where its arrays lie, and
plans on the device. So does a prefill whose lengths all lie on the GPU, beside a cache of the queries' dtype: without a wait,
in a capture too, and without a cut. Else a prefill takes lengths on the host: those on a GPU are copied, which is one wait.
"""
import ctypes
import threading

from . import _structs as s
from ._arrays import aligned, family_of
from ._library import call, refuse
from ._run import _flat
from ._tensors import one_device, out_like, tensors, tensors_and_cache

_kept = threading.local()  # memory of calls whose workspace_buffer is too small, and page-locked memory: a thread's own


def _memory(family, device, name, make, size):
    """`size` bytes that this thread keeps for a device, at a multiple of 16. A caller's earlier calls on the same stream may
    use them."""
    have = getattr(_kept, "memory", None)
    if have is None:
        have = _kept.memory = {}
    key = (id(family), str(device), name)
    if key not in have or have[key][1] < size:
        have[key] = (make(2 * size), 2 * size)
    return aligned(have[key][0])


def _workspace(ask, arguments, where, family, device, buffer):
    """What the call needs: of the caller's buffer if that is large enough, else of memory that this thread keeps. ask: the
    function that says how much that is, and its first arguments."""
    wants, staging = ctypes.c_size_t(), ctypes.c_size_t()
    call(*ask, ctypes.addressof(arguments), where, ctypes.addressof(wants), ctypes.addressof(staging))
    workspace = s.Workspace(device_bytes=wants.value, staging_bytes=staging.value)
    start = aligned(buffer) if buffer is not None else 0
    room = buffer.shape[0] * _itemsize(buffer) - (start - family.pointer(buffer)) if buffer is not None else 0
    if room >= wants.value:
        workspace.device = start
    else:
        workspace.device = _memory(family, device, "device", lambda n: family.bytes(n, device), wants.value)
    if staging.value:
        workspace.staging = _memory(family, device, "staging", family.pinned, staging.value)
    return workspace


def _itemsize(x):
    return x.itemsize if hasattr(x, "itemsize") and not callable(x.itemsize) else x.element_size()


def _tables(family, block_tables, seq_lens):
    """block_tables, dense int32 [batch, max_pages], and the batch."""
    tables, batch = family.dense(family.int32(block_tables)), seq_lens.shape[0]
    if len(tables.shape) != 2:
        refuse("block_tables shape", list(tables.shape), "must be [batch, max_pages]")
    if tables.shape[0] != batch:
        refuse("block_tables shape", list(tables.shape), f"must have {batch} rows: seq_lens has as many entries")
    return tables, batch


def _lengths(family, seq_lens, query, there):
    """int32 [batch]: there, where the query lies, or on the host."""
    if not there:
        return family_of(seq_lens).host([seq_lens])[0]
    if family.gpu(query) and not family_of(seq_lens).gpu(seq_lens):
        seq_lens = family.copy_to(seq_lens, family.device(query))
    return family.dense(family.int32(seq_lens))


def planned_there(family, query, kv_cache, seq_lens, queries):
    """Is a prefill's plan made on the device? Its lengths must lie there, and its kernel read K and V where they lie."""
    k = kv_cache[0] if isinstance(kv_cache, (tuple, list)) else kv_cache
    if not family.gpu(query) or k.dtype != query.dtype:
        return False
    return all(family_of(x) is family and family.gpu(x) for x in (seq_lens, queries))


def _queries_there(which, family, batch, cum_seq_lens_q, seq_lens_q):
    """(cum_seq_lens_q, seq_lens_q) on the device, one of them None, as the call takes them."""
    if seq_lens_q is None:
        if cum_seq_lens_q.shape[0] < batch + 1:
            refuse("cum_seq_lens_q shape", list(cum_seq_lens_q.shape), f"must be [{batch + 1}]: seq_lens has {batch} entries")
        cum = family.dense(family.int32(cum_seq_lens_q))[:batch + 1]
        return (cum, None) if which == s.TRTLLM_BATCH_CONTEXT else (None, cum[1:] - cum[:-1])
    if seq_lens_q.shape[0] != batch:
        refuse("actual_seq_lens_q shape", list(seq_lens_q.shape), f"must be [{batch}]: actual_seq_lens_kv has {batch} entries")
    return None, family.dense(family.int32(seq_lens_q))


def run_serving_call(which, query, kv_cache, kv_layout, block_tables, seq_lens, workspace_buffer=None, cum_seq_lens_q=None,
                     max_q_len=0, max_kv_len=0, bmm1_scale=1.0, bmm2_scale=1.0, window_left=-1, sinks=None, causal=False,
                     out=None, out_code=None, lse=None, return_lse=False, natural=False, seq_lens_q=None):
    """One call of fl_serving_run: o [rows, num_qo_heads, head_dim], or (o, lse).

    query         [rows, num_qo_heads, head_dim]; a decode has max_q_len rows for each request, or one
    kv_cache      of rank 5 with K at index 0 and V at 1, or (K, V) of rank 4
    block_tables  int32 [batch, max_pages]; seq_lens int32 [batch]; cum_seq_lens_q int32 [batch + 1], of a prefill; or, of
                  cuDNN's with all lengths on the GPU, seq_lens_q int32 [batch]
    bmm1_scale    what multiplies q·k; None: the default of the call, 1
    """
    family = family_of(query, "query")
    one_device(query, (("block_tables", block_tables), ("sinks", sinks), ("lse", lse)))
    device, decode = family.device(query), which in (s.TRTLLM_BATCH_DECODE, s.CUDNN_BATCH_DECODE, s.XQA)
    tables, batch = _tables(family, block_tables, seq_lens)
    queries = cum_seq_lens_q if seq_lens_q is None else seq_lens_q
    there = not decode and planned_there(family, query, kv_cache, seq_lens, queries)
    lengths, cum, each = _lengths(family, seq_lens, query, decode or there), None, None
    if there:
        cum, each = _queries_there(which, family, batch, cum_seq_lens_q, seq_lens_q)
    elif not decode:
        (cum,) = family_of(cum_seq_lens_q).host([cum_seq_lens_q])
    first, first_each = (family_of(x).pointer(x) or None if x is not None else None for x in (cum, each))
    dim_vo = (kv_cache[1] if isinstance(kv_cache, (tuple, list)) else kv_cache).shape[-1]
    rows, heads = query.shape[0], query.shape[1]
    out = out_like(family, out, (rows, heads, dim_vo), out_code or family.code(query, "query"), device)
    if return_lse and lse is None:
        lse = family.empty((rows, heads), s.F32, device)
    slots, at, cache = tensors_and_cache(kv_cache, s.LAYOUTS[kv_layout], query=query, out=out)
    lse_at = _flat(family, lse, "lse", rows * heads, device) if lse is not None else None
    arguments = s.ServingCall(
        q=at[0], o=at[1], kv=cache, block_tables=family.pointer(tables) or None,
        seq_lens=family_of(lengths).pointer(lengths) or None, cum_seq_lens_q=first,
        sinks=_flat(family, sinks, "sinks", heads, device) if sinks is not None else None,
        lse_log2=None if natural else lse_at, lse_natural=lse_at if natural else None, batch=batch,
        max_pages=tables.shape[1], max_q_len=max_q_len, max_kv_len=max_kv_len, bmm1_scale=bmm1_scale or 0.0,
        bmm2_scale=bmm2_scale, use_window=int(window_left != -1), window_left=window_left if window_left != -1 else 0,
        causal=int(bool(causal)), lengths_on_device=int(there), seq_lens_q=first_each)
    workspace = _workspace(("fl_serving_bytes", which), arguments, slots.on(), family, device, workspace_buffer)
    arguments.workspace_buffer = ctypes.addressof(workspace)
    call("fl_serving_run", which, ctypes.addressof(arguments), slots.on())
    return (out, lse) if return_lse else out


def run_latent_decode(query, kv_cache, block_tables, seq_lens, bmm1_scale, workspace_buffer=None, head_dim_ckv=512,
                      max_seq_len=None, bmm2_scale=1.0, out=None, out_code=None, lse=None, return_lse=False, natural=False):
    """One call of fl_mla_decode_run: o [as query, head_dim_ckv], or (o, lse), lse f32 [batch * q_len, num_heads].

    query     [batch, q_len, num_heads, features], causal if q_len > 1, or [batch, num_heads, features]
    kv_cache  [pages, page_size, features]
    seq_lens  int32 [batch], read where the query lies; with q_len > 1 on the host
    """
    family = family_of(query, "query")
    one_device(query, (("kv_cache", kv_cache), ("block_tables", block_tables), ("out", out), ("lse", lse)))
    if len(query.shape) not in (3, 4):
        refuse("query rank", len(query.shape), "must be 4: [batch, q_len, num_heads, features], or 3 with one query a request")
    device, q_len = family.device(query), query.shape[1] if len(query.shape) == 4 else 1
    tables, batch = _tables(family, block_tables, seq_lens)
    lengths, rows, heads = _lengths(family, seq_lens, query, q_len == 1), batch * q_len, query.shape[-2]
    out = out_like(family, out, (*query.shape[:-1], head_dim_ckv), out_code or family.code(query, "query"), device)
    if return_lse and lse is None:
        lse = family.empty((rows, heads), s.F32, device)
    lse_at = _flat(family, lse, "lse", rows * heads, device) if lse is not None else None
    most = tables.shape[1] * kv_cache.shape[1] if max_seq_len is None else max_seq_len
    slots, at = tensors(query=query, out=out, kv_cache=kv_cache)
    cache = s.MlaCache(ckv=at[2], head_dim_ckv=head_dim_ckv)
    arguments = s.MlaDecodeCall(
        query=at[0], o=at[1], kv_cache=ctypes.addressof(cache), block_tables=family.pointer(tables) or None,
        seq_lens=family_of(lengths).pointer(lengths) or None, lse_log2=None if natural else lse_at,
        lse_natural=lse_at if natural else None, batch=batch, max_pages=tables.shape[1], max_seq_len=min(most, 2 ** 31 - 1),
        bmm1_scale=bmm1_scale, bmm2_scale=bmm2_scale)
    workspace = _workspace(("fl_mla_decode_bytes",), arguments, slots.on(), family, device, workspace_buffer)
    arguments.workspace_buffer = ctypes.addressof(workspace)
    call("fl_mla_decode_run", ctypes.addressof(arguments), slots.on())
    return (out, lse) if return_lse else out
