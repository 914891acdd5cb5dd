"""Several draft tokens a request under a mask of their own, over a block table: FlashInfer's speculative decoding by XQA.

Each draft token sees all that comes before the drafts, and of these the ones whose bits are set. The bits lie in words of 32,
the lowest first: `mask` has a row of ceil(max_q_len / 32) words for each draft token, [batch, q_len, words] or [rows, words],
as uint32, or cut into integers of another width.
"""
import threading

import numpy

from .. import _structs as s
from .._arrays import DTYPE_NAMES, family_of, name_of_dtype, on_host
from .._library import refuse
from .._run import PackedMask
from ..attention import Attention
from ._wrapper import config_of

_kept = threading.local()


def kept_attention(kind, config, like, kv_layout="NHD"):
    """An attention object of this thread's, of which the last eight live: for calls that plan and run in one."""
    family = family_of(like)
    objects = _kept.__dict__.setdefault("objects", {})
    key = (kind, config, kv_layout, id(family), str(family.device(like)))
    if key not in objects:
        if len(objects) >= 8:
            objects.clear()
        objects[key] = Attention(kind, config, like, kv_layout=kv_layout)
    return objects[key]


def _rows_of(mask, rows, max_q_len):
    """bool [rows, max_q_len] on the host."""
    bits = family_of(mask, "mask").host_bytes(mask)
    wants = rows * -(-max_q_len // 32) * 4
    if bits.shape[0] != wants:
        refuse("mask size", f"{bits.shape[0]} bytes", f"must be {wants}: for each of {rows} rows {-(-max_q_len // 32)} words")
    return numpy.unpackbits(bits.reshape(rows, -1), axis=1, bitorder="little", count=max_q_len).astype(bool)


def mask_of_drafts(mask, qo, kv_lens, max_q_len):
    """The bits of a custom mask [q_len, kv_len] of each request. qo: int [batch + 1]; all on the host."""
    rows, parts = _rows_of(mask, qo[-1], max_q_len), []
    for b, kv_len in enumerate(kv_lens):
        q_len = qo[b + 1] - qo[b]
        if q_len > max_q_len:
            refuse("max_q_len", max_q_len, f"must be at least {q_len}, the draft tokens of request {b}")
        if q_len > kv_len:
            refuse(f"seq_lens[{b}]", kv_len, f"must be at least {q_len}: it counts the draft tokens too (request {b})")
        sees = numpy.ones((q_len, kv_len), bool)
        sees[:, kv_len - q_len:] = rows[qo[b]:qo[b + 1], :q_len]
        parts.append(numpy.packbits(sees, bitorder="little"))
    return numpy.concatenate(parts) if parts else numpy.zeros(0, numpy.uint8)


def draft_attention(query, kv_cache, kv_layout, block_tables, seq_lens, mask, cum_seq_lens_q, max_q_len, bmm1_scale,
                    window_left, sinks, out, out_code, lse, return_lse):
    """o [rows, num_heads, head_dim], or (o, lse), of draft tokens under a mask. Lengths and mask go to the host: a wait."""
    family = family_of(query, "query")
    k, v = kv_cache if isinstance(kv_cache, (tuple, list)) else (kv_cache[:, 0], kv_cache[:, 1])
    page_at, heads_at = (1, 2) if kv_layout == "NHD" else (2, 1)
    kv_lens, qo = ([int(n) for n in x] for x in on_host([seq_lens, cum_seq_lens_q]))
    config = config_of(query.shape[1], k.shape[heads_at], query.shape[2], k.shape[page_at], head_dim_vo=v.shape[-1],
                       q_dtype=name_of_dtype(query.dtype), kv_dtype=name_of_dtype(k.dtype), sm_scale=bmm1_scale,
                       o_dtype=None if out_code is None else DTYPE_NAMES[out_code], mask="custom", window_left=window_left,
                       sinks=sinks is not None)
    attention = kept_attention(s.PREFILL, config, query, kv_layout)
    bits = family.from_numpy(mask_of_drafts(mask, qo, kv_lens, max_q_len), family.device(query))
    attention.plan_block_table(kv_lens, block_tables.shape[1], qo)
    return attention.run(query, kv_cache, block_tables, out, lse, return_lse, sinks, PackedMask(bits))
