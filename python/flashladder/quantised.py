"""Operations whose results are fp8: norms, and RoPE on the way into a cache or an array.

Each number is computed in float, divided by a scale, rounded once to nearest even, and saturated (docs/conventions.md). fp8
arrays are torch's float8 tensors, numpy's with the package ml_dtypes, or uint8 arrays that hold the bits: of the latter
`out_dtype` says which fp8 they are, float8_e4m3fn unless it is said.
"""
from . import _structs as c
from . import torch_ops as _ops
from ._arrays import FP8_CODES, dtype_code, family_of, name_of_dtype
from ._library import refuse
from ._tensors import CacheSlot, TensorSlot, must_lie_with, tensors
from .operations import _address, _call, _ints, append_paged_kv_cache_by_slots

__all__ = ["fused_add_rmsnorm_quant", "layernorm_quant", "rmsnorm_quant"]


def fp8_code(x, argument, out_dtype=None):
    """FL_F8_E4M3 or FL_F8_E5M2 of an fp8 array, or of the bytes of one."""
    name = name_of_dtype(x.dtype)
    code = dtype_code(out_dtype or "float8_e4m3fn", "out_dtype") if name == "uint8" else dtype_code(name, f"{argument} dtype")
    if code not in FP8_CODES:
        refuse(f"{argument} dtype", name, "must be float8_e4m3fn or float8_e5m2")
    return code


def _scale_of(scale, like):
    """(the number, None), or (0, a float32 array of one element where `like` lies)."""
    import numpy
    if not hasattr(scale, "shape") or isinstance(scale, numpy.generic):
        return float(scale), None
    family = family_of(scale, "scale")
    if tuple(scale.shape) not in ((), (1,)):
        refuse("scale shape", list(scale.shape), "must be one number, or an array of one")
    if family.code(scale, "scale") != c.F32:
        scale = family.to(scale, c.F32)
    if family.device(scale) != family_of(like).device(like) and hasattr(family, "copy_to"):
        scale = family.copy_to(scale, family_of(like).device(like))
    must_lie_with(like, scale, "scale")
    return 0.0, scale


# --- Norms --------------------------------------------------------------------------------------------------------------
def _norm(name, out, scale, eps, out_dtype, **inputs):
    first = next(iter(inputs.values()))
    number, stored = _scale_of(scale, first)
    if stored is None and not number > 0:
        refuse("scale", number, "must be greater than 0")
    if _ops.is_tracing():
        _ops.op(name[3:])(*inputs.values(), out, number, stored, eps, out_dtype and name_of_dtype(out_dtype))
        return
    code = fp8_code(out, "out", out_dtype)
    must_lie_with(first, out, "out")
    slots, at = tensors(**inputs)
    slot = TensorSlot().show(out, "out", code=code)
    _call(name, slots, *at, slot.address, number, None if stored is None else family_of(stored).pointer(stored), eps)
    del slots, slot


def rmsnorm_quant(out, input, weight, scale, eps=1e-6, out_dtype=None):
    """out = rmsnorm(input) / scale in fp8: input [n, d], weight [d], out [n, d]. scale: a number, or f32 of one element, which
    is read where it lies. input keeps its bits."""
    _norm("fl_rmsnorm_quant", out, scale, eps, out_dtype, input=input, weight=weight)


def fused_add_rmsnorm_quant(out, input, residual, weight, scale, eps=1e-6, out_dtype=None):
    """residual += input in place, then out = rmsnorm(residual) / scale in fp8; input keeps its bits."""
    _norm("fl_fused_add_rmsnorm_quant", out, scale, eps, out_dtype, input=input, residual=residual, weight=weight)


def layernorm_quant(out, input, gamma, beta, scale, eps=1e-6, out_dtype=None):
    """out = layernorm(input) / scale in fp8, as rmsnorm_quant has it; gamma, beta [d]: f32, or of input's dtype."""
    _norm("fl_layernorm_quant", out, scale, eps, out_dtype, input=input, gamma=gamma, beta=beta)


# --- Rows into fp8 ------------------------------------------------------------------------------------------------------
def rows_in_order(x, n):
    """int64 [n], 0 .. n - 1, where x lies: each row goes to the slot of its own number."""
    family = family_of(x)
    kept = _rows.get((id(family), str(family.device(x))))
    if kept is None or kept.shape[0] < n:
        import numpy
        kept = family.from_numpy(numpy.arange(max(2 * n, 1024), dtype=numpy.int64), family.device(x))
        _rows[id(family), str(family.device(x))] = kept
    return kept[:n]


_rows: dict = {}


def quantise(x, out, slots=None, scale=1.0, layout="NHD"):
    """Writes x / scale [n, heads, dim] as fp8 into the slots of out [pages, page_size, heads, dim] (HND: heads before
    page_size), or without slots into the rows of out [n, heads, dim]. dim must be even: an append writes two arrays, and here
    they are the halves of one."""
    half = x.shape[-1] // 2
    if x.shape[-1] % 2:
        refuse("head_dim", x.shape[-1], "must be even where rows become fp8")
    if slots is None:
        slots, out = rows_in_order(x, x.shape[0]), out[:, None]
    halves = lambda y: (y[..., :half], y[..., half:])
    append_paged_kv_cache_by_slots(*halves(x), slots, halves(out), layout, scale, scale)


def rope_append_by_slots(key, value, table, positions, slots, cache, is_neox=True, scale=1.0, layout="NHD"):
    """key [n, heads, rotary dims] turned to positions, and value beside it, into the slots of cache, K and V: in fp8 over a
    scale, rounded once. table: f32 [max_pos, rotary dims], cosines before sines. A row whose slot is -1 goes nowhere."""
    family = family_of(key, "key")
    scratch = family.empty((key.shape[0], 1, key.shape[2]), family.code(key, "key"), family.device(key))  # a q, of nobody
    ids, ids_at = _ints(positions, "pos_ids", key, key.shape[0])
    must_lie_with(key, slots, "slots")
    described, at = tensors(q=scratch, append_key=key, append_value=value, cos_sin_cache=table)
    kv = CacheSlot().show(cache, c.LAYOUTS[layout], key).scale(scale, scale)
    _call("fl_rope_with_cos_sin_cache_append_paged_kv_cache_by_slots", described, *at, ids_at, family.pointer(slots),
          kv.address, int(bool(is_neox)))
    del described, ids, kv
