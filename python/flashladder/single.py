"""Attention of one request over keys that lie token by token: one call, nothing is planned ahead."""
import ctypes
import functools

from . import _structs as s
from . import operations as _operations
from ._arrays import dtype_code, family_of
from ._library import refuse
from ._run import PackedMask, _flat
from ._tensors import one_device, out_like, scale, tensors
from .attention import AttentionConfig, c_logits

__all__ = ["single_decode_with_kv_cache", "single_prefill_with_kv_cache"]


@functools.lru_cache(maxsize=256)
def _options(sm_scale, mask, window_left, logits_soft_cap, pos_encoding_mode, rope_scale, rope_theta):
    return c_logits(AttentionConfig(1, 1, 1, sm_scale=sm_scale, mask=mask, window_left=window_left,
                                    logits_soft_cap=logits_soft_cap or 0.0, pos_encoding_mode=pos_encoding_mode,
                                    rope_scale=rope_scale or 1.0, rope_theta=rope_theta or 1e4))


def _attend(name, q, k, v, kv_layout, logits, out, o_dtype, lse, return_lse, sinks, custom_mask, natural,
            k_scale, v_scale):
    family = family_of(q, "q")
    one_device(q, (("lse", lse), ("sinks", sinks),
                   ("custom_mask", custom_mask.bits if isinstance(custom_mask, PackedMask) else custom_mask)))
    device = family.device(q)
    code = dtype_code(o_dtype, "o_dtype") if o_dtype is not None else family.code(q, "q")
    if kv_layout not in s.LAYOUTS:
        refuse("kv_layout", kv_layout, "must be NHD or HND")
    out = out_like(family, out, (*tuple(q.shape)[:-1], v.shape[-1]), code, device)
    if return_lse and lse is None:
        lse = family.empty(tuple(q.shape)[:-1], s.F32, device)
    slots, at = tensors(q=q, k=k, v=v, out=out)
    cache = s.KvCache(k=at[1], v=at[2], layout=s.LAYOUTS[kv_layout])
    numbers = []
    for name_of_scale, x in (("k_scale", k_scale), ("v_scale", v_scale)):
        of_heads = len(getattr(x, "shape", ())) > 0 and tuple(x.shape) != (1,)
        if of_heads:
            kv_heads = k.shape[1 if kv_layout == "NHD" else 0]
            setattr(cache, f"{name_of_scale}_per_head", _flat(family, x, name_of_scale, kv_heads, device))
        numbers.append(None if of_heads else x)
    scale(cache, *numbers)
    arguments = s.AttentionArguments(q=at[0], kv=ctypes.addressof(cache), o=at[3])
    rows = 1
    for extent in tuple(q.shape)[:-1]:
        rows *= extent
    if lse is not None:
        setattr(arguments, "lse_natural" if natural else "lse_log2", _flat(family, lse, "lse", rows, device))
    if sinks is not None:
        arguments.sinks = _flat(family, sinks, "sinks", q.shape[-2], device)
    if isinstance(custom_mask, PackedMask):
        custom_mask = family.mask(custom_mask.bits)
        arguments.packed_custom_mask, arguments.packed_custom_mask_bytes = family.pointer(custom_mask), custom_mask.shape[0]
    elif custom_mask is not None:
        custom_mask = family.mask(custom_mask)
        arguments.custom_mask, arguments.custom_mask_bytes = family.pointer(custom_mask), custom_mask.shape[0]
    _operations._call(name, slots, ctypes.addressof(arguments), ctypes.addressof(logits))
    return (out, lse) if return_lse else out


def single_decode_with_kv_cache(q, k, v, kv_layout="NHD", sm_scale=None, window_left=-1, logits_soft_cap=0.0,
                                pos_encoding_mode="NONE", rope_scale=1.0, rope_theta=1e4, sinks=None, out=None, o_dtype=None,
                                lse=None, return_lse=False, natural=False, k_scale=None,
                                v_scale=None):
    """One query of one request: o [num_qo_heads, head_dim], or (o, lse) with lse f32 [num_qo_heads].

    q     [num_qo_heads, head_dim]
    k, v  [kv_len, num_kv_heads, head_dim], or [num_kv_heads, kv_len, head_dim] with kv_layout="HND"
    The other arguments are those of AttentionConfig; natural=True gives lse to base e instead of 2;
    k_scale, v_scale: what a stored k and v are multiplied with, numbers or f32 [num_kv_heads].
    """
    logits = _options(sm_scale, "none", window_left, logits_soft_cap, pos_encoding_mode, rope_scale, rope_theta)
    return _attend("fl_single_decode_with_kv_cache", q, k, v, kv_layout, logits, out, o_dtype, lse, return_lse, sinks, None,
                   natural, k_scale, v_scale)


def single_prefill_with_kv_cache(q, k, v, causal=False, kv_layout="NHD", custom_mask=None, sm_scale=None, window_left=-1,
                                 logits_soft_cap=0.0, pos_encoding_mode="NONE", rope_scale=1.0, rope_theta=1e4, sinks=None,
                                 out=None, o_dtype=None, lse=None, return_lse=False, natural=False,
                                 k_scale=None, v_scale=None):
    """Queries of one request, its last tokens: o [qo_len, num_qo_heads, head_dim], or (o, lse).

    q            [qo_len, num_qo_heads, head_dim]; k, v as above
    causal       query i sees the keys up to i + kv_len - qo_len
    custom_mask  bool or uint8 [qo_len, kv_len], in causal's place
    """
    mask = "custom" if custom_mask is not None else "causal" if causal else "none"
    logits = _options(sm_scale, mask, window_left, logits_soft_cap, pos_encoding_mode, rope_scale, rope_theta)
    return _attend("fl_single_prefill_with_kv_cache", q, k, v, kv_layout, logits, out, o_dtype, lse, return_lse, sinks,
                   custom_mask, natural, k_scale, v_scale)
