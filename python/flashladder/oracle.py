"""The formula of attention in float64, on numpy: what tests and `flashladder.verify` compare with.

Independent of the library: nothing here calls it. docs/conventions.md has the rules that this writes out.
"""
from typing import NamedTuple

import numpy as np

LOG2_E = 1.4426950408889634


class Logits(NamedTuple):
    """How a dot product becomes a logit, and who sees whom; fields as of AttentionConfig."""
    sm_scale: object = None
    causal: bool = False
    window_left: int = -1
    logits_soft_cap: float = 0.0
    pos_encoding_mode: str = "NONE"
    rope_scale: float = 1.0
    rope_theta: float = 1e4
    sinks: object = None        # [num_qo_heads]
    custom_mask: object = None  # [qo_len, kv_len] of one request; in causal's place


def f64(x):
    """Any array as float64 on the host; torch's bfloat16 too."""
    if hasattr(x, "detach"):
        x = x.detach().float().cpu().numpy()
    return np.asarray(x, np.float64)


def frequencies(dim, scale=1.0, theta=1e4, llama31=None):
    """[dim / 2]; llama31: (low_freq_factor, high_freq_factor, old_context_len), between which wavelengths are scaled."""
    plain = theta ** (-2 * np.arange(dim // 2) / dim)
    if llama31 is None:
        return plain / scale
    low, high, old = llama31
    smooth = np.clip((old * plain / (2 * np.pi) - low) / (high - low), 0.0, 1.0)
    return (1 - smooth) * plain / scale + smooth * plain


def rotated(x, positions, rotary_dim=None, interleave=False, **angles_of):
    """RoPE: x [n, heads, dim] to positions [n]; angles_of: scale, theta, llama31."""
    x, dim = np.array(x, np.float64), rotary_dim or x.shape[-1]
    half = dim // 2
    angles = np.asarray(positions, np.float64)[:, None] * frequencies(dim, **angles_of)
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    a, b = (slice(0, dim, 2), slice(1, dim, 2)) if interleave else (slice(0, half), slice(half, dim))
    first, second = x[..., a].copy(), x[..., b].copy()
    x[..., a], x[..., b] = first * cos - second * sin, second * cos + first * sin
    return x


def alibi_slopes(heads):
    """One for each head: powers of 2^(-8/n) for the largest power of two n, then those in between."""
    n = 1 << (heads.bit_length() - 1)
    first = [2.0 ** (-8 * (h + 1) / n) for h in range(n)]
    return np.array(first + [2.0 ** (-4 * (2 * h + 1) / n) for h in range(heads - n)])


def attention(q, k, v, logits=Logits()):
    """One request: q [qo_len, heads, dim], k and v [kv_len, kv_heads, dim] -> (o, lse to base 2), float64."""
    q, k, v = f64(q), f64(k), f64(v)
    qo_len, heads, dim = q.shape
    kv_len, kv_heads = k.shape[:2]
    offset = kv_len - qo_len
    if logits.pos_encoding_mode == "ROPE_LLAMA":
        q = rotated(q, offset + np.arange(qo_len), scale=logits.rope_scale, theta=logits.rope_theta)
        k = rotated(k, np.arange(kv_len), scale=logits.rope_scale, theta=logits.rope_theta)
    group = heads // kv_heads
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scale = dim ** -0.5 if logits.sm_scale is None else logits.sm_scale
    s = np.einsum("ihd,jhd->hij", q, k) * scale
    if logits.logits_soft_cap:
        s = logits.logits_soft_cap * np.tanh(s / logits.logits_soft_cap)
    i, j = np.arange(qo_len)[:, None], np.arange(kv_len)[None, :]
    if logits.pos_encoding_mode == "ALIBI":
        s = s + alibi_slopes(heads)[:, None, None] * (j - i)
    visible = np.ones((qo_len, kv_len), bool)
    if logits.custom_mask is not None:
        visible &= np.asarray(logits.custom_mask, bool).reshape(qo_len, kv_len)
    elif logits.causal:
        visible &= j <= i + offset
    if logits.window_left >= 0:
        visible &= j >= i + offset - logits.window_left
    s = np.where(visible[None], s, -np.inf)
    sinks = np.full(heads, -np.inf) if logits.sinks is None else f64(logits.sinks)
    most = np.maximum(s.max(axis=2, initial=-np.inf), sinks[:, None])
    safe = np.where(np.isfinite(most), most, 0.0)
    p = np.exp(s - safe[..., None])
    total = p.sum(axis=2) + np.exp(sinks[:, None] - safe)
    with np.errstate(divide="ignore", invalid="ignore"):
        o = np.einsum("hij,jhd->hid", p, v) / total[..., None]
        lse = (safe + np.log(total)) * LOG2_E
    empty = total == 0
    o[empty], lse[empty] = 0.0, -np.inf
    return o.transpose(1, 0, 2), lse.T


def merged(states):
    """(o, lse to base 2) of the union of the keys of several such pairs."""
    values, lses = zip(*states)
    values, lses = np.stack([f64(x) for x in values]), np.stack([f64(x) for x in lses])
    most = lses.max(axis=0)
    safe = np.where(np.isfinite(most), most, 0.0)
    weights = np.exp2(lses - safe)
    total = weights.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        o = np.where(total[..., None] > 0, (weights[..., None] * values).sum(axis=0) / total[..., None], 0.0)
        return o, safe + np.log2(total)


class Pages(NamedTuple):
    """Page lists, host arrays, and how the cache lies."""
    indptr: object
    indices: object
    last_page_len: object
    page_size: int
    kv_layout: str = "NHD"

    def length(self, request):
        pages = int(self.indptr[request + 1]) - int(self.indptr[request])
        return (pages - 1) * self.page_size + int(self.last_page_len[request]) if pages else 0

    def tokens(self, cache, request):
        """[kv_len, heads, dim] of a request: page by page, entry by entry."""
        length = self.length(request)
        out = np.zeros((length, cache.shape[2 if self.kv_layout == "NHD" else 1], cache.shape[3]))
        for t in range(length):
            page = int(self.indices[int(self.indptr[request]) + t // self.page_size])
            entry = t % self.page_size
            out[t] = cache[page, entry] if self.kv_layout == "NHD" else cache[page, :, entry]
        return out


def split_cache(kv, kv_layout="NHD"):
    """(K, V) of rank 4, float64, of a cache of rank 5, a pair of rank 4, or a pair of rank 3 with pages of one token."""
    if isinstance(kv, (tuple, list)):
        k, v = f64(kv[0]), f64(kv[1])
        if k.ndim == 3:
            axis = 1 if kv_layout == "NHD" else 2
            k, v = np.expand_dims(k, axis), np.expand_dims(v, axis)
        return k, v
    whole = f64(kv)
    return whole[:, 0], whole[:, 1]


def batch_attention(q, kv, pages, qo_indptr=None, logits=Logits(), custom_masks=None):
    """A batch over pages: q [rows, heads, dim]; without qo_indptr one query a request. -> (o, lse), float64."""
    k, v = split_cache(kv, pages.kv_layout)
    q = f64(q)
    batch = len(pages.last_page_len)
    qo = list(range(batch + 1)) if qo_indptr is None else [int(n) for n in qo_indptr]
    o, lse = np.zeros((*q.shape[:2], v.shape[-1])), np.full(q.shape[:2], -np.inf)
    for b in range(batch):
        rows = slice(qo[b], qo[b + 1])
        said = logits if custom_masks is None else logits._replace(custom_mask=custom_masks[b])
        o[rows], lse[rows] = attention(q[rows], pages.tokens(k, b), pages.tokens(v, b), said)
    return o, lse


def rmsnorm(x, weight, eps=1e-6, plus=0.0):
    x = f64(x)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * (f64(weight) + plus)


UNIT_ROUNDOFF = {"float32": 2.0 ** -24, "float16": 2.0 ** -11, "bfloat16": 2.0 ** -8}


def tolerances(dtype, kv, q, sm_scale=None):
    """(of o, of lse): what rounding may change. P and o are rounded to the dtype once each, of which each changes o by
    u * max|v| at most, and logits are summed in f32, whose error grows with their size."""
    v = np.concatenate([f64(x).ravel() for x in (kv if isinstance(kv, (tuple, list)) else (kv,))])
    most_v = float(np.nanmax(np.abs(v), initial=0.0))
    q = f64(q)
    dim = q.shape[-1]
    most_logit = float(np.nanmax(np.abs(q), initial=0.0)) * most_v * dim * (dim ** -0.5 if sm_scale is None else abs(sm_scale))
    u = UNIT_ROUNDOFF[dtype]
    in_f32 = 16 * UNIT_ROUNDOFF["float32"] * (1 + most_logit)
    return (3 * u + in_f32) * most_v, 2 * in_f32 + 4 * UNIT_ROUNDOFF["float32"] * 40
