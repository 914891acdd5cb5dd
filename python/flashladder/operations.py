"""The operations around attention: merging, the paged cache, norms and RoPE, under FlashInfer's names.

Arrays of torch, numpy or cupy; the call runs where its first array lies, on that library's current stream. docs/conventions.md
says what each computes. What is returned is made anew unless `out` is given; names that end in `_inplace` or `_in_place`
write their first arguments. InputError (a ValueError) says which argument is wrong, and why.
"""
import ctypes

from . import _structs as c
from . import torch_ops as _ops
from ._arrays import family_of
from ._library import call, refuse
from ._tensors import Described, Slots, must_lie_with, on, out_like, tensors, tensors_and_cache

__all__ = ["append_paged_kv_cache", "append_paged_kv_cache_by_slots", "apply_rope_pos_ids_inplace",
           "apply_rope_with_cos_sin_cache_inplace", "fused_add_rmsnorm", "gemma_fused_add_rmsnorm", "gemma_rmsnorm",
           "get_batch_indices_positions", "get_seq_lens", "layernorm", "make_cos_sin_cache", "merge_state",
           "merge_state_in_place", "merge_states", "rmsnorm", "rope"]

_LAYOUTS = c.LAYOUTS


def _address(x):
    return ctypes.addressof(x)


def _call(name, first, *arguments):
    """A call on the device of `first`, an array or what tensors() gave, on its current stream."""
    if type(first) is Described:
        call(name, *arguments, first.on())
        return
    if type(first) is Slots:
        first = first.first
    family = family_of(first)
    where = on(first)
    guard = family.guard(family.device(first)) if family.gpu(first) else None
    if guard is None:
        call(name, *arguments, _address(where))
    else:
        with guard:
            call(name, *arguments, _address(where))


def _ints(x, argument, like, count=None, long=False):
    """A dense int32 array that lies where `like` does; one of int64 stays what it is where the call takes it (`long`)."""
    family = family_of(x, argument)
    must_lie_with(like, x, argument)
    x = family.dense(x if long and family.is_int64(x) else family.int32(x))
    if count is not None and x.shape[0] != count:
        refuse(f"{argument} size", x.shape[0], f"must be {count}")
    return x, family.pointer(x)


def _layout(kv_layout):
    if kv_layout not in _LAYOUTS:
        refuse("kv_layout", kv_layout, "must be NHD or HND")
    return _LAYOUTS[kv_layout]


# --- Merging ------------------------------------------------------------------------------------------------------------
def _f32(x, argument):
    family = family_of(x, argument)
    return x if family.code(x, argument) == c.F32 else family.to(x, c.F32)


def _merged(family, v, out):
    """The merged values in v's own dtype."""
    code = family.code(v, "v")
    return out if code == c.F32 else family.to(out, code)


def merge_state(v_a, s_a, v_b, s_b):
    """Attention of the union of two sets of keys from what each alone gave.

    v_a, v_b  [n, num_heads, head_dim]   the two outputs; float16 and bfloat16 are merged in f32, and rounded once
    s_a, s_b  [n, num_heads], f32        their lse, base 2
    Returns (v, s) of v_a's dtype and f32.
    """
    if _ops.is_tracing():
        v, s = v_a.new_empty(v_a.shape), s_a.new_empty(s_a.shape)
        _ops.op("merge")(v_a, s_a, v_b, s_b, v, s)
        return v, s
    family = family_of(v_a, "v_a")
    out = family.empty(tuple(v_a.shape), c.F32, family.device(v_a))
    lse = family.empty(tuple(s_a.shape), c.F32, family.device(v_a))
    keep, at = tensors(v_a=_f32(v_a, "v_a"), s_a=_f32(s_a, "s_a"), v_b=_f32(v_b, "v_b"), s_b=_f32(s_b, "s_b"), v_out=out,
                       s_out=lse)
    _call("fl_merge_state", keep, *at)
    del keep
    return _merged(family, v_a, out), lse


def merge_state_in_place(v, s, v_other, s_other, mask=None):
    """merge_state that writes its result into v and s. mask: bool [n]; rows where it is false stay as they are."""
    family = family_of(v, "v")
    v32, s32 = _f32(v, "v"), _f32(s, "s")
    keep, at = tensors(v=v32, s=s32, v_other=_f32(v_other, "v_other"), s_other=_f32(s_other, "s_other"))
    if mask is not None:
        must_lie_with(v, mask, "mask")
    bytes_ = family.mask(mask) if mask is not None else None
    if bytes_ is not None and bytes_.shape[0] != v.shape[0]:
        refuse("mask size", bytes_.shape[0], f"must be {v.shape[0]}, a byte for each row")
    _call("fl_merge_state_in_place", keep, *at, family.pointer(bytes_) if bytes_ is not None else None)
    for given, merged in ((v, v32), (s, s32)):
        if given is not merged:
            family.copy_into(given, merged)
    del keep


def merge_states(v, s):
    """Attention of the union of num_states sets of keys.

    v  [n, num_states, num_heads, head_dim], s [n, num_states, num_heads] f32 base 2. Returns (v, s) without that dimension.
    """
    family = family_of(v, "v")
    n, _, heads, dim = v.shape
    out, lse = family.empty((n, heads, dim), c.F32, family.device(v)), family.empty((n, heads), c.F32, family.device(v))
    keep, at = tensors(v=_f32(v, "v"), s=_f32(s, "s"), v_out=out, s_out=lse)
    _call("fl_merge_states", keep, *at)
    del keep
    return _merged(family, v, out), lse


# --- The paged cache ----------------------------------------------------------------------------------------------------
def _page_lists(like, indices, indptr, last_page_len):
    indices, at = _ints(indices, "kv_indices", like)
    batch = last_page_len.shape[0]
    indptr, indptr_at = _ints(indptr, "kv_indptr", like, batch + 1)
    last, last_at = _ints(last_page_len, "kv_last_page_len", like)
    lists = c.PageLists(indptr=indptr_at, indices=at or None, last_page_len=last_at, num_indices=indices.shape[0], batch=batch)
    return lists, (indices, indptr, last)


def append_paged_kv_cache(append_key, append_value, batch_indices, positions, paged_kv_cache, kv_indices, kv_indptr,
                          kv_last_page_len, kv_layout="NHD", k_scale=None, v_scale=None):
    """Writes keys and values of new tokens into their pages, which the page lists have already; returns nothing.

    append_key, append_value  [nnz, num_kv_heads, head_dim]
    batch_indices, positions  int32 [nnz]: whose token it is (-1: nobody's, nothing is written), and which one
    paged_kv_cache            [pages, 2, page_size, heads, dim] or (K, V); HND: heads before page_size
    kv_indices, kv_indptr, kv_last_page_len   the page lists, with the new tokens in them
    k_scale, v_scale          what a stored k and v are multiplied with; with them float16 keys may go into an fp8 cache
    """
    if _ops.is_tracing():
        k, v = paged_kv_cache if isinstance(paged_kv_cache, (tuple, list)) else (paged_kv_cache[:, 0], paged_kv_cache[:, 1])
        return _ops.op("append")(append_key, append_value, batch_indices, positions, k, v, kv_indices, kv_indptr,
                                 kv_last_page_len, kv_layout)
    rows = append_key.shape[0]
    batch_indices, batch_at = _ints(batch_indices, "batch_indices", append_key, rows)
    positions, positions_at = _ints(positions, "positions", append_key, rows)
    lists, keep = _page_lists(append_key, kv_indices, kv_indptr, kv_last_page_len)
    slots, at, cache = tensors_and_cache(paged_kv_cache, _layout(kv_layout), k_scale, v_scale, append_key=append_key,
                                         append_value=append_value)
    _call("fl_append_paged_kv_cache", slots, *at, batch_at, positions_at, cache, _address(lists))
    del slots, keep, batch_indices, positions


def append_paged_kv_cache_by_slots(append_key, append_value, slot_mapping, paged_kv_cache, kv_layout="NHD", k_scale=None,
                                   v_scale=None):
    """The same with slot_mapping int64 [nnz]: page * page_size + entry of each token, -1: nowhere."""
    family = family_of(slot_mapping, "slot_mapping")
    slot_mapping = family.dense(slot_mapping)
    if str(slot_mapping.dtype).rpartition(".")[2] != "int64" or slot_mapping.shape[0] != append_key.shape[0]:
        refuse("slot_mapping", f"{slot_mapping.dtype} {list(slot_mapping.shape)}", f"must be int64 [{append_key.shape[0]}]")
    must_lie_with(append_key, slot_mapping, "slot_mapping")
    slots, at, cache = tensors_and_cache(paged_kv_cache, _layout(kv_layout), k_scale, v_scale, append_key=append_key,
                                         append_value=append_value)
    _call("fl_append_paged_kv_cache_by_slots", slots, *at, family.pointer(slot_mapping), cache)
    del slots


def get_batch_indices_positions(append_indptr, seq_lens, nnz, batch_indices=None, positions=None):
    """For each appended row its request and its position: (batch_indices, positions), int32 [nnz].

    append_indptr  int32 [batch + 1]; seq_lens int32 [batch], with the new tokens. Rows beyond the last get -1 and 0.
    """
    family = family_of(append_indptr, "append_indptr")
    batch = seq_lens.shape[0]
    indptr, indptr_at = _ints(append_indptr, "append_indptr", append_indptr, batch + 1)
    lens, lens_at = _ints(seq_lens, "seq_lens", append_indptr)
    device, outs = family.device(append_indptr), []
    for x, name in ((batch_indices, "batch_indices"), (positions, "positions")):
        if x is not None and not (family.is_int32(x) and tuple(x.shape) == (nnz,)):
            refuse(name, f"{x.dtype} {list(x.shape)}", f"must be int32 [{nnz}]")
        if x is not None:
            must_lie_with(append_indptr, x, name)
        outs.append(family.empty_int32(nnz, device) if x is None else x)
    _call("fl_get_batch_indices_positions", append_indptr, indptr_at, lens_at, batch, family.pointer(outs[0]),
          family.pointer(outs[1]), nnz)
    return outs[0], outs[1]


def get_seq_lens(kv_indptr, kv_last_page_len, page_size):
    """Tokens of each request: int32 [batch], of its pages and its last page's length."""
    family = family_of(kv_indptr, "kv_indptr")
    batch = kv_last_page_len.shape[0]
    indptr, indptr_at = _ints(kv_indptr, "kv_indptr", kv_indptr, batch + 1)
    last, last_at = _ints(kv_last_page_len, "kv_last_page_len", kv_indptr)
    out = family.empty_int32(batch, family.device(kv_indptr))
    _call("fl_get_seq_lens", kv_indptr, indptr_at, last_at, batch, page_size, family.pointer(out))
    del indptr, last
    return out


# --- Norms --------------------------------------------------------------------------------------------------------------
def _norm(name, input, weight, eps, out):
    if _ops.is_tracing():
        out = input.new_empty(input.shape) if out is None else out
        _ops.op(name[3:])(input, weight, out, eps)
        return out
    family = family_of(input, "input")
    out = out_like(family, out, tuple(input.shape), family.code(input, "input"), family.device(input))
    slots, at = tensors(input=input, weight=weight, out=out)
    _call(name, slots, *at, eps)
    del slots
    return out


def _fused_norm(name, input, residual, weight, eps):
    if _ops.is_tracing():
        _ops.op(name[3:])(input, residual, weight, eps)
        return
    slots, at = tensors(input=input, residual=residual, weight=weight)
    _call(name, slots, *at, eps)
    del slots


def rmsnorm(input, weight, eps=1e-6, out=None):
    """input / rms(input) * weight over the last dimension: input [n, d] or [n, heads, d], weight [d]."""
    return _norm("fl_rmsnorm", input, weight, eps, out)


def gemma_rmsnorm(input, weight, eps=1e-6, out=None):
    """rmsnorm with 1 + weight in weight's place."""
    return _norm("fl_gemma_rmsnorm", input, weight, eps, out)


def fused_add_rmsnorm(input, residual, weight, eps=1e-6):
    """residual += input, then input = rmsnorm(residual), both in place; [n, d]."""
    _fused_norm("fl_fused_add_rmsnorm", input, residual, weight, eps)


def gemma_fused_add_rmsnorm(input, residual, weight, eps=1e-6):
    """fused_add_rmsnorm with 1 + weight in weight's place."""
    _fused_norm("fl_gemma_fused_add_rmsnorm", input, residual, weight, eps)


def layernorm(input, gamma, beta, eps=1e-6):
    """(input - mean) / std * gamma + beta over the last dimension; gamma and beta [d], f32 or of input's dtype."""
    if _ops.is_tracing():
        out = input.new_empty(input.shape)
        _ops.op("layernorm")(input, gamma, beta, out, eps)
        return out
    family = family_of(input, "input")
    out = family.empty(tuple(input.shape), family.code(input, "input"), family.device(input))
    slots, at = tensors(input=input, gamma=gamma, beta=beta, out=out)
    _call("fl_layernorm", slots, *at, eps)
    del slots
    return out


# --- RoPE ---------------------------------------------------------------------------------------------------------------
def rope(rotary_dim=None, interleave=False, rope_scale=1.0, rope_theta=1e4, low_freq_factor=0.0, high_freq_factor=0.0,
         old_context_len=0):
    """fl_rope of these angles; with old_context_len those of Llama 3.1 (8192, and factors 1 and 4 unless they are said)."""
    return c.Rope(rotary_dim=rotary_dim or 0, interleave=int(bool(interleave)), rope_scale=rope_scale, rope_theta=rope_theta,
                  low_freq_factor=low_freq_factor, high_freq_factor=high_freq_factor, old_context_len=old_context_len)


def apply_rope_pos_ids_inplace(q, k, pos_ids, angles=None):
    """Rotates q [nnz, num_qo_heads, head_dim] and k [nnz, num_kv_heads, head_dim] to pos_ids int32 [nnz], in place."""
    ids, ids_at = _ints(pos_ids, "pos_ids", q, q.shape[0])
    slots, at = tensors(q=q, k=k)
    _call("fl_apply_rope_pos_ids_inplace", slots, *at, ids_at, _address(angles) if angles is not None else None)
    del slots, ids


def apply_rope_with_cos_sin_cache_inplace(q, k, positions, cos_sin_cache, is_neox=True):
    """The same with a table: cos_sin_cache f32 [max_pos, rotary_dim], cosines before sines. int64 is not converted."""
    if _ops.is_tracing():
        _ops.op("rope_table")(q, k, positions, cos_sin_cache, bool(is_neox))
        return
    ids, ids_at = _ints(positions, "positions", q, q.shape[0], True)
    slots, at = tensors(q=q, k=k, cos_sin_cache=cos_sin_cache)
    name = "fl_apply_rope_with_cos_sin_cache_inplace"
    _call(name + "_int64" if family_of(ids).is_int64(ids) else name, slots, at[0], at[1], ids_at, at[2], int(bool(is_neox)))
    del slots, ids


def make_cos_sin_cache(max_pos, rotary_dim, like=None, **angles):
    """f32 [max_pos, rotary_dim] for the call above, of rope()'s arguments; numpy's, or made of `like`'s library and device."""
    import numpy
    table = numpy.empty((max_pos, rotary_dim), numpy.float32)
    said = rope(rotary_dim=rotary_dim, **angles)
    call("fl_make_rope_cos_sin_cache", max_pos, _address(said), table.ctypes.data, table.size)
    if like is None or type(like).__module__ == "numpy":
        return table
    family = family_of(like)
    return family.from_numpy(table, family.device(like))
