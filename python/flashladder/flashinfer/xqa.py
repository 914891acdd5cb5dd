"""FlashInfer's flashinfer.xqa, which is a module and can be called: flashinfer.xqa(q, k_cache, ...)."""
import sys
import types

from .. import _structs as s
from .._arrays import family_of
from .._library import refuse
from ..serving import run_latent_decode
from ._hints import layout_of, must_be, number
from ._drafts import draft_attention
from ._fp8 import is_fp8, served, wide_latents, wide_query
from .trtllm import is_decode, sinks_of

__all__ = ["xqa", "xqa_mla"]


def _one_of_two(cache, index, name):
    """K or V of rank 4; of a cache of rank 5, which holds both, the one at `index`."""
    return cache[:, index] if len(cache.shape) == 5 else cache


def _rows(x, q_seq_len, name):
    """[batch, 1, heads, dim] or [batch, 1, q_seq_len, heads, dim] as [rows, heads, dim]."""
    if len(x.shape) not in (4, 5):
        return x
    must_be(f"{name}.shape[1]", x.shape[1], 1, "must be 1: beams are not computed")
    queries = x.shape[2] if len(x.shape) == 5 else 1
    must_be("q_seq_len", q_seq_len, queries, f"must be {queries}, which {name} has: [batch, 1, q_seq_len, heads, head_dim]")
    return x.reshape(x.shape[0] * queries, x.shape[-2], x.shape[-1])


def _check_ragged(q, q_seq_len, q_cu_seq_lens, batch):
    """Requests with numbers of queries of their own: rows one behind the other."""
    if len(q.shape) != 3:
        refuse("q rank", len(q.shape), "must be 3 with q_cu_seq_lens, [rows, num_heads, head_dim]")
    if q_seq_len < 2:
        refuse("q_seq_len", q_seq_len, "must be the most queries of a request, more than 1, with q_cu_seq_lens")
    if tuple(q_cu_seq_lens.shape) != (batch + 1,):
        refuse("q_cu_seq_lens shape", list(q_cu_seq_lens.shape), f"must be [{batch + 1}]: seq_lens has {batch} entries")


def xqa(q, k_cache, v_cache, page_table, seq_lens, output=None, workspace_buffer=None, semaphores=None, num_kv_heads=None,
        page_size=None, sinks=None, q_scale=1.0, kv_scale=1.0, sliding_win_size=0, kv_layout="NHD", sm_count=None,
        enable_pdl=None, rcp_out_scale=1.0, q_seq_len=1, mask=None, *, q_cu_seq_lens=None, k_sf_cache=None, v_sf_cache=None,
        head_dim=None):
    """Decode over a block table. Writes `output`, or makes it, and returns it.

    q                 [batch, 1, num_heads, head_dim] or [batch, num_heads, head_dim]; with q_seq_len queries of every request
                      [batch, 1, q_seq_len, num_heads, head_dim] or [batch * q_seq_len, num_heads, head_dim]. May be fp8
    k_cache, v_cache  [pages, page_size, num_kv_heads, head_dim], or heads first (HND). Of rank 5: K at index 0 of k_cache, V
                      at index 1 of v_cache
    page_table        int32 [batch, max_pages]; seq_lens int32 or uint32 [batch] or [batch, 1]
    q_scale           multiplies q·k / sqrt(head_dim); kv_scale that too, and the output
    sliding_win_size  keys of the window, the last one counted; 0: all
    sinks             f32 [num_kv_heads, group] or [num_heads]
    output            may be fp8: it is then multiplied with rcp_out_scale
    mask              of a draft, words of 32 bits [batch, q_seq_len, words] (uint32, or uint16 and twice as many): bit k of
                      row i says whether query i sees query k; all see the keys before. It and seq_lens are copied to the
                      host. Left out: causal
    q_cu_seq_lens     int32 or uint32 [batch + 1]: each request has a number of queries of its own, 0 too, cumulative here, and
                      q_seq_len at most. q [rows, num_heads, head_dim], and mask [rows, words]. It goes to the host where
                      trtllm_batch_context_with_kv_cache's lengths do
    """
    for name, value in (("k_sf_cache", k_sf_cache), ("v_sf_cache", v_sf_cache)):
        must_be(name, value, None, "must be None: nvfp4 keys and values are not computed")
    if q_cu_seq_lens is not None:
        _check_ragged(q, q_seq_len, q_cu_seq_lens, seq_lens.shape[0])
    layout = layout_of(kv_layout)
    k, v = _one_of_two(k_cache, 0, "k_cache"), _one_of_two(v_cache, 1, "v_cache")
    heads_at, page_at = (2, 1) if layout == "NHD" else (1, 2)
    if len(k.shape) != 4:
        refuse("k_cache rank", len(k.shape), "must be 4, or 5 with K at index 0 and V at 1")
    for name, value, have in (("num_kv_heads", num_kv_heads, k.shape[heads_at]), ("page_size", page_size, k.shape[page_at]),
                              ("head_dim", head_dim, q.shape[-1])):
        must_be(name, value, have, f"must be {have}, which the arrays have")
    flat, out = _rows(q, q_seq_len, "q"), _rows(output, q_seq_len, "output") if output is not None else None
    flat, out_code = wide_query(flat, k, out)
    if not is_fp8(out, out_code):
        must_be("rcp_out_scale", number(rcp_out_scale), 1.0, "must be 1 unless output is fp8")
    window = int(sliding_win_size) - 1 if sliding_win_size > 0 else -1
    of_logits, of_o = number(q_scale) * number(kv_scale), number(kv_scale) * number(rcp_out_scale)
    lens = seq_lens if len(seq_lens.shape) == 1 else seq_lens.reshape(-1)
    common, shared = (flat, (k, v), layout, page_table, lens), dict(window_left=window, sinks=sinks_of(sinks), out=out,
                                                                                 out_code=out_code)
    ragged = q_cu_seq_lens is not None
    if mask is None and not ragged and (q_seq_len == 1 or is_decode(family_of(q), flat, (k, v), layout, q_seq_len)):
        result = served(of_o, s.XQA, *common, workspace_buffer, max_q_len=q_seq_len, bmm1_scale=of_logits, **shared)
    else:
        cum = q_cu_seq_lens if ragged else [q_seq_len * i for i in range(lens.shape[0] + 1)]
        shared["bmm1_scale"] = of_logits * q.shape[-1] ** -0.5
        if mask is not None:
            result = served(of_o, draft_attention, *common, mask, cum, q_seq_len, lse=None, **shared)
        else:
            result = served(of_o, s.TRTLLM_BATCH_CONTEXT, *common, workspace_buffer, cum, q_seq_len,
                            page_table.shape[1] * k.shape[page_at], **shared)
    if output is not None:
        if out is not output and family_of(out).pointer(out) != family_of(output).pointer(output):
            family_of(output).copy_into(output, out.reshape(output.shape))
        return output
    return result.reshape(q.shape)


def xqa_mla(q, k_cache, v_cache, page_table, seq_lens, output=None, workspace_buffer=None, semaphores=None, page_size=None,
            q_scale=1.0, kv_scale=1.0, sm_count=None, enable_pdl=None):
    """Latent attention over a block table. Writes `output`, or makes it, and returns it.

    q         [batch, 1, num_heads, 512 + 64] or [batch, num_heads, 512 + 64]; may be fp8, and so may output
    k_cache   [pages, page_size, 1, 512 + 64] or without the head; v_cache is k_cache, or its first 512 features
    q_scale   multiplies q·row; so 1 / sqrt(128 + 64) is in it. kv_scale multiplies that too, and the output
    seq_lens  int32 or uint32 [batch] or [batch, 1]
    """
    rows = k_cache[:, :, 0] if len(k_cache.shape) == 4 else k_cache
    k, v = family_of(k_cache, "k_cache"), family_of(v_cache, "v_cache")
    if v.pointer(v_cache) != k.pointer(k_cache) or tuple(v.layout(v_cache)[1]) != tuple(k.layout(k_cache)[1]):
        refuse("v_cache", "an array of its own", "must be k_cache or a view of its first features: a latent row is both")
    if len(rows.shape) != 3:
        refuse("k_cache rank", len(k_cache.shape), "must be 4, [pages, page_size, 1, features], or 3 without the head")
    must_be("page_size", page_size, rows.shape[1], f"must be {rows.shape[1]}, which the cache has")
    if len(q.shape) == 4:
        must_be("q.shape[1]", q.shape[1], 1, "must be 1: beams are not computed")
    scale = number(kv_scale)
    lens = seq_lens if len(seq_lens.shape) == 1 else seq_lens.reshape(-1)
    return served(1.0, run_latent_decode, wide_latents(q, rows, output), rows, page_table, lens, number(q_scale) * scale,
                  workspace_buffer, bmm2_scale=scale, out=output)


class _Callable(types.ModuleType):
    def __call__(self, *arguments, **names):
        return xqa(*arguments, **names)


sys.modules[__name__].__class__ = _Callable
