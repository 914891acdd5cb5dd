"""RoPE whose results are fp8: queries into arrays, keys and values into their pages. FlashInfer's calls with parts that rotate
(rope) and parts that do not (nope); a key is its rope features and then its nope features.

A number is rotated in float, divided by a scale (1 / quant_scale, where FlashInfer multiplies), rounded once and saturated.
"""
from .. import quantised as _quantised
from .._arrays import DTYPE_NAMES, FP8_CODES, dtype_code, family_of
from .._library import refuse
from .._tensors import must_lie_with
from ._hints import layout_of


def _code_of(quantize_dtype, outs):
    """The fp8 dtype: what is said, else that of the first output that is given, else E4M3."""
    given = [x for x in outs if x is not None]
    said = quantize_dtype if quantize_dtype is not None else given[0].dtype if given else "float8_e4m3fn"
    code = dtype_code(said, "quantize_dtype")
    if code not in FP8_CODES:
        refuse("quantize_dtype", said, "must be float8_e4m3fn or float8_e5m2")
    for x in given:
        if family_of(x).code(x, "an output") != code:
            refuse("an output's dtype", x.dtype, f"must be {DTYPE_NAMES[code]}")
    return code


def _scale(name, quant_scale):
    if not float(quant_scale) > 0:
        refuse(name, quant_scale, "must be greater than 0")
    return 1.0 / float(quant_scale)


def _out(out, like, code):
    """`out`, or a new fp8 array of the shape of `like`."""
    if out is None:
        family = family_of(like)
        return family.empty(tuple(like.shape), code, family.device(like))
    if tuple(out.shape) != tuple(like.shape):
        refuse("an output's shape", list(out.shape), f"must be {list(like.shape)}")
    must_lie_with(like, out, "an output")
    return out


def _is_none(nope):
    return nope is None or 0 in tuple(nope.shape)[1:]


def _parts(rope, nope, table, pos_ids, slots, rope_out, nope_out, is_neox, scale):
    """Rows of heads [n, heads, dim] into arrays of the same shape."""
    family = family_of(rope)
    if _is_none(nope):  # the call writes two arrays: the second is nobody's
        nope, nope_out = rope, family.empty(tuple(rope.shape), family.code(rope_out, "out"), family.device(rope))
    outs = rope_out[:, None], nope_out[:, None]  # pages of one token
    _quantised.rope_append_by_slots(rope, nope, table, pos_ids, slots, outs, is_neox, scale)


def _with_head(x):
    """[n, 1, dim] of the latent rows [n, dim]."""
    return x[:, None] if x is not None and len(x.shape) == 2 else x


def rope_quantize_fp8(q_rope, k_rope, q_nope, k_nope, cos_sin_cache, pos_ids, is_neox=True, quantize_dtype=None,
                      quant_scale_q=1.0, quant_scale_kv=1.0, q_rope_out=None, k_rope_out=None, q_nope_out=None,
                      k_nope_out=None, enable_pdl=False, backend="cuda"):
    """(q_rope_out, k_rope_out, q_nope_out, k_nope_out) in fp8: the rope parts turned to pos_ids, all times their scale.

    q_rope, q_nope  [nnz, num_qo_heads, dim]; k_rope, k_nope [nnz, num_kv_heads, dim], or latent rows [nnz, dim]. nope may be
                    None. float16 or bfloat16
    cos_sin_cache   f32 [max_pos, rope dim], cosines before sines
    """
    code, outs = _code_of(quantize_dtype, (q_rope_out, k_rope_out, q_nope_out, k_nope_out)), []
    nnz = q_rope.shape[0]
    for rope, nope, rope_out, nope_out, name, scale in (
            (q_rope, q_nope, q_rope_out, q_nope_out, "quant_scale_q", quant_scale_q),
            (k_rope, k_nope, k_rope_out, k_nope_out, "quant_scale_kv", quant_scale_kv)):
        nope = rope[..., :0] if nope is None else nope
        rope_out, nope_out = _out(rope_out, rope, code), _out(nope_out, nope, code)
        _parts(*map(_with_head, (rope, nope)), cos_sin_cache, pos_ids, _quantised.rows_in_order(rope, nnz),
               *map(_with_head, (rope_out, nope_out)), is_neox, _scale(name, scale))
        outs.append((rope_out, nope_out))
    (q, q_more), (k, k_more) = outs
    return q, k, q_more, k_more


def mla_rope_quantize_fp8(q_rope, k_rope, q_nope, k_nope, cos_sin_cache, pos_ids, is_neox=True, quantize_dtype=None,
                          quant_scale_q=1.0, quant_scale_kv=1.0, q_rope_out=None, k_rope_out=None, q_nope_out=None,
                          k_nope_out=None, enable_pdl=False):
    """rope_quantize_fp8 of latent rows: k_rope and k_nope [nnz, dim]."""
    return rope_quantize_fp8(q_rope, k_rope, q_nope, k_nope, cos_sin_cache, pos_ids, is_neox, quantize_dtype, quant_scale_q,
                             quant_scale_kv, q_rope_out, k_rope_out, q_nope_out, k_nope_out)


def _slots(batch_indices, positions, kv_indices, kv_indptr, page_size, pages):
    """int64 [nnz]: the slot of each token, -1 for rows of nobody. One that the page lists do not have gets a slot behind the
    pool, which the CPU refuses."""
    family, batch = family_of(positions, "positions"), kv_indptr.shape[0] - 1
    if batch < 1 or kv_indices.shape[0] < 1:
        refuse("kv_indptr", list(kv_indptr.shape), "must have batch + 1 entries, and kv_indices pages")
    b, at, indptr, indices = (family.int64(x) for x in (batch_indices, positions, kv_indptr, kv_indices))
    owner = b.clip(0, batch - 1)
    entry = indptr[owner] + at // page_size
    there = (b < batch) & (at >= 0) & (entry < indptr[owner + 1]) & (entry < kv_indices.shape[0])
    slots = indices[entry.clip(0, kv_indices.shape[0] - 1)] * page_size + at % page_size
    slots = there * slots + (~there) * (pages * page_size)
    return slots * (b >= 0) + (b < 0) * -1


def rope_quantize_fp8_append_paged_kv_cache(
        q_rope, k_rope, q_nope, k_nope, v, cos_sin_cache, pos_ids, paged_kv_cache, kv_indices, kv_indptr, batch_indices,
        positions, is_neox=True, quantize_dtype=None, quant_scale_q=1.0, quant_scale_kv=1.0, page_size=16, kv_layout="NHD",
        q_rope_out=None, q_nope_out=None, enable_pdl=False):
    """(q_rope_out, q_nope_out) in fp8, and keys and values, which go into their pages of an fp8 cache.

    q_rope, q_nope, k_rope, k_nope, cos_sin_cache, pos_ids   as of rope_quantize_fp8; pos_ids are angles alone
    v                         [nnz, num_kv_heads, head_dim]; None with latent rows, whose k_nope is both
    paged_kv_cache            (K, V) of rank 4, heads before page_size with HND; of latent rows (ckv, kpe) of rank 3
    kv_indices, kv_indptr     the page lists, with the new tokens in them
    batch_indices, positions  int32 [nnz]: whose token it is (-1: nobody's, which writes nothing), and which one
    """
    latent = len(k_rope.shape) == 2
    if not isinstance(paged_kv_cache, (tuple, list)) or len(paged_kv_cache) != 2:
        refuse("paged_kv_cache", type(paged_kv_cache).__name__, "must be two arrays: K and V, or ckv and kpe")
    if (v is None) != latent:
        refuse("v", "given" if v is not None else "None", "must be None with latent rows, and given with keys of heads")
    k_cache, v_cache = (x[:, :, None] for x in reversed(paged_kv_cache)) if latent else paged_kv_cache
    layout = "NHD" if latent else layout_of(kv_layout)
    have = k_cache.shape[1 if layout == "NHD" else 2]
    if int(page_size) != have:
        refuse("page_size", page_size, f"must be {have}, which the cache has")
    code = _code_of(quantize_dtype, (q_rope_out, q_nope_out, k_cache, v_cache))
    slots = _slots(batch_indices, positions, kv_indices, kv_indptr, have, k_cache.shape[0])
    of_q, of_kv = _scale("quant_scale_q", quant_scale_q), _scale("quant_scale_kv", quant_scale_kv)
    append = lambda key, value, cache: _quantised.rope_append_by_slots(
        key, value, cos_sin_cache, pos_ids, slots, cache, is_neox, of_kv, layout)
    if latent:
        if _is_none(k_nope):
            refuse("k_nope", "None", "must be given with latent rows: it is what ckv holds")
        append(k_rope[:, None], k_nope[:, None], (k_cache, v_cache))
    else:
        turned = k_rope.shape[-1]
        append(k_rope, v, (k_cache[..., :turned], v_cache))
        if not _is_none(k_nope):
            _quantised.quantise(k_nope, k_cache[..., turned:], slots, of_kv, layout)
    q_nope = q_rope[..., :0] if q_nope is None else q_nope
    q_rope_out, q_nope_out = _out(q_rope_out, q_rope, code), _out(q_nope_out, q_nope, code)
    rows = _quantised.rows_in_order(q_rope, q_rope.shape[0]) * (slots >= 0) + (slots < 0) * -1
    _parts(q_rope, q_nope, cos_sin_cache, pos_ids, rows, q_rope_out, q_nope_out, is_neox, of_q)
    return q_rope_out, q_nope_out
