"""FlashInfer's flashinfer.rope: rotates q [nnz, num_qo_heads, head_dim] and k [nnz, num_kv_heads, head_dim].

Positions are indptr and offsets (row i of request b stands at offsets[b] + i - indptr[b]), or pos_ids int32 [nnz], or
positions with a table of cosines and sines. Names that end in _inplace write q and k; the others give rotated copies.
"""
import inspect

from .. import operations as _operations
from .. import torch_ops as _ops
from .._arrays import family_of
from .._library import refuse
from ._rope_fp8 import mla_rope_quantize_fp8, rope_quantize_fp8, rope_quantize_fp8_append_paged_kv_cache

__all__ = ["apply_llama31_rope", "apply_llama31_rope_inplace", "apply_llama31_rope_pos_ids",
           "apply_llama31_rope_pos_ids_inplace", "apply_rope", "apply_rope_inplace", "apply_rope_pos_ids",
           "apply_rope_pos_ids_inplace", "apply_rope_with_cos_sin_cache", "apply_rope_with_cos_sin_cache_inplace",
           "mla_rope_quantize_fp8", "precompute_freqs_cis", "rope_quantize_fp8", "rope_quantize_fp8_append_paged_kv_cache"]


def _positions(indptr, offsets, nnz):
    """int32 [nnz] of indptr and offsets; rows of nobody stand at 0.

    Appended tokens are a request's last ones: that rule with lengths of offset + rows gives the positions.
    """
    lengths = offsets + (indptr[1:] - indptr[:-1])
    return _operations.get_batch_indices_positions(indptr, lengths, nnz)[1]


def _rotate(q, k, pos_ids, rotary_dim, interleave, scale, theta, low=0.0, high=0.0, old_context_len=0):
    if _ops.is_tracing():
        _ops.op("rope_pos_ids")(q, k, pos_ids, rotary_dim or 0, bool(interleave), float(scale), float(theta), float(low),
                                float(high), int(old_context_len))
        return
    _operations.apply_rope_pos_ids_inplace(q, k, pos_ids, _operations.rope(rotary_dim, interleave, scale, theta, low, high,
                                                                           old_context_len))


def apply_rope_pos_ids_inplace(q, k, pos_ids, rotary_dim=None, interleave=False, rope_scale=1, rope_theta=1e4):
    """RoPE in place. rotary_dim: the first features alone; interleave: pairs (2i, 2i + 1) in place of halves."""
    _rotate(q, k, pos_ids, rotary_dim, interleave, rope_scale, rope_theta)


def apply_llama31_rope_pos_ids_inplace(q, k, pos_ids, rotary_dim=None, interleave=False, rope_scale=8, rope_theta=5e5,
                                       low_freq_factor=1, high_freq_factor=4, old_context_len=8192):
    """The same with the frequencies of Llama 3.1."""
    _rotate(q, k, pos_ids, rotary_dim, interleave, rope_scale, rope_theta, low_freq_factor, high_freq_factor,
            old_context_len)


def apply_rope_inplace(q, k, indptr, offsets, rotary_dim=None, interleave=False, rope_scale=1, rope_theta=1e4):
    """apply_rope_pos_ids_inplace with positions by indptr int32 [batch + 1] and offsets int32 [batch]."""
    apply_rope_pos_ids_inplace(q, k, _positions(indptr, offsets, q.shape[0]), rotary_dim, interleave, rope_scale, rope_theta)


def apply_llama31_rope_inplace(q, k, indptr, offsets, rotary_dim=None, interleave=False, rope_scale=8, rope_theta=5e5,
                               low_freq_factor=1, high_freq_factor=4, old_context_len=8192):
    """apply_llama31_rope_pos_ids_inplace with positions by indptr and offsets."""
    apply_llama31_rope_pos_ids_inplace(q, k, _positions(indptr, offsets, q.shape[0]), rotary_dim, interleave, rope_scale,
                                       rope_theta, low_freq_factor, high_freq_factor, old_context_len)


def _copies(q, k):
    if _ops.is_tracing():
        return q.clone(), k.clone()
    family = family_of(q, "q")
    return family.copy(q), family.copy(k)


def _out_of_place(in_place):
    def rotated(q, k, *arguments, **names):
        q, k = _copies(q, k)
        in_place(q, k, *arguments, **names)
        return q, k
    rotated.__signature__ = inspect.signature(in_place)
    rotated.__name__ = in_place.__name__.replace("_inplace", "")
    rotated.__doc__ = f"{in_place.__name__} on copies, which it returns: (q, k)."
    return rotated


apply_rope = _out_of_place(apply_rope_inplace)
apply_rope_pos_ids = _out_of_place(apply_rope_pos_ids_inplace)
apply_llama31_rope = _out_of_place(apply_llama31_rope_inplace)
apply_llama31_rope_pos_ids = _out_of_place(apply_llama31_rope_pos_ids_inplace)


def _heads(x, head_size, name):
    """[nnz, heads, head_size] of FlashInfer's [nnz, heads * head_size]; a view."""
    if len(x.shape) == 3:
        if x.shape[2] != head_size:
            refuse("head_size", head_size, f"must be {x.shape[2]}, the last dimension of {name}")
        return x
    if len(x.shape) != 2 or x.shape[1] % head_size:
        refuse(f"{name} shape", list(x.shape), f"must be [nnz, heads * head_size] with head_size {head_size}, or of rank 3")
    if _ops.is_tracing():
        return x.unflatten(1, (-1, head_size))
    return family_of(x, name).split_heads(x, x.shape[1] // head_size, head_size)


def apply_rope_with_cos_sin_cache_inplace(positions, query, key, head_size, cos_sin_cache, is_neox=True):
    """RoPE in place by a table: query [nnz, num_qo_heads * head_size] or of rank 3, key alike, positions int32 or int64
    [nnz], cos_sin_cache f32 [max_pos, rotary_dim] with cosines before sines. is_neox: halves, else pairs (2i, 2i + 1)."""
    _operations.apply_rope_with_cos_sin_cache_inplace(_heads(query, head_size, "query"), _heads(key, head_size, "key"),
                                                      positions, cos_sin_cache, is_neox)


def apply_rope_with_cos_sin_cache(positions, query, key, head_size, cos_sin_cache, is_neox=True):
    """The same on copies, which it returns: (query, key)."""
    query, key = _copies(query, key)
    apply_rope_with_cos_sin_cache_inplace(positions, query, key, head_size, cos_sin_cache, is_neox)
    return query, key


def precompute_freqs_cis(head_dim, max_seq_len, rope_theta=1e4, rope_scale=1.0, like=None, device=None):
    """The table for the calls above: f32 [max_seq_len, head_dim], cosines before sines. It is made of the library and on the
    device of the array `like`; without one of torch, where that is imported, on `device` or where torch makes tensors."""
    import sys
    torch = sys.modules.get("torch")
    if like is None and torch is not None:
        like = torch.empty(0, device=device) if device is not None else torch.empty(0)
        if device is None and torch.cuda.is_available():
            like = torch.empty(0, device="cuda")
    return _operations.make_cos_sin_cache(max_seq_len, head_dim, like, rope_theta=rope_theta, rope_scale=rope_scale)
