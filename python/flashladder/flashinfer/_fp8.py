"""fp8 queries and fp8 outputs, around kernels that read and write 16 bits and f32.

Every number of E4M3 and of E5M2 is one of float16, of bfloat16 and of float32 too. So fp8 queries are widened without a
rounding, and attention is that of those very queries. The cast is their own library's, on the current stream, and so is the
memory of what it makes: in a capture it is the graph's. An o of fp8 is computed in f32, multiplied with what scales it, and
rounded once, saturated.
"""
import functools
import math

from .. import _structs as s
from .._arrays import DTYPE_NAMES, FP8_CODES, family_of, name_of_dtype
from .._library import refuse
from .._tensors import must_lie_with
from ..quantised import quantise
from ..serving import run_serving_call
from ._hints import number


# --- Queries ------------------------------------------------------------------------------------------------------------
def wide_code(kv_code, o_code):
    """The dtype that fp8 queries are widened to: that of the cache, and beside an fp8 cache that of o, if it has 16 bits."""
    if kv_code not in FP8_CODES:
        return kv_code
    return o_code if o_code in (s.F16, s.BF16) else s.F16


def wide_dtypes(q_code, kv_code, o_code):
    """({q_dtype, kv_dtype, o_dtype} of who computes, the fp8 of q or None, that of o or None). o_code None: q's dtype."""
    fp8_q = q_code if q_code in FP8_CODES else None
    o_code = fp8_q if o_code is None else o_code
    fp8_o = o_code if o_code in FP8_CODES else None
    q = wide_code(kv_code, o_code) if fp8_q is not None else q_code
    o = s.F32 if fp8_o is not None else o_code
    dtypes = {"q_dtype": DTYPE_NAMES[q], "kv_dtype": DTYPE_NAMES[kv_code], "o_dtype": None if o is None else DTYPE_NAMES[o]}
    return dtypes, fp8_q, fp8_o


def widened(q, fp8_code, code):
    """q of an fp8, or of bytes with its bits, in a wider dtype."""
    name, family = name_of_dtype(q.dtype), family_of(q, "q")
    if name not in ("uint8", DTYPE_NAMES[fp8_code]):
        refuse("q dtype", name, f"must be {DTYPE_NAMES[fp8_code]}, which plan() was told")
    return family.widened(q, fp8_code, code)


def wide_query(query, kv, out=None, out_code=None):
    """(the query of a call in 16 bits or more, the dtype of its o if that is not the query's own): fp8 gives fp8, unless `out`
    or what was asked for is of another dtype."""
    code = family_of(query, "query").code(query, "query")
    if code not in FP8_CODES:
        return query, out_code
    k = kv[0] if isinstance(kv, (tuple, list)) else kv
    o = family_of(out, "out").code(out, "out") if out is not None else out_code or code
    return widened(query, code, wide_code(family_of(k).code(k, "the k cache"), o)), o


def wide_latents(query, kv, out):
    """The query of latent attention in 16 bits: fp8 becomes what rows and `out` have, or, where these are fp8 too or none is
    given, bfloat16, which o then is."""
    wide, _ = wide_query(query, kv, out, s.BF16)
    return wide


def scaled_by_heads(q, scale_q, scale_k, num_kv_heads):
    """Wide queries times scale_q [num_qo_heads] and scale_k [num_kv_heads], the scales of their logits, in f32; rounded once
    to q's dtype. Either may be an array of one number, a number, or None."""
    family, heads, scale = family_of(q, "q"), q.shape[-2], None
    if num_kv_heads < 1 or heads % num_kv_heads != 0:
        refuse("num_qo_heads", heads, f"must be a multiple of num_kv_heads = {num_kv_heads}")
    group = heads // num_kv_heads
    for name, x, parts in (("scale_q", scale_q, (num_kv_heads, group)), ("scale_k", scale_k, (num_kv_heads, 1))):
        if x is None:
            continue
        if hasattr(x, "shape"):
            must_lie_with(q, x, name)
            count = math.prod(x.shape)
            if count not in (1, parts[0] * parts[1]):
                refuse(f"{name} shape", list(x.shape), f"must be [{parts[0] * parts[1]}], one for each head, or one number")
            x = family.to(x, s.F32).reshape((1, 1, 1) if count == 1 else (*parts, 1))
        scale = x if scale is None else scale * x
    if scale is None:
        return q
    grouped = family.to(q, s.F32).reshape((q.shape[0], num_kv_heads, group, q.shape[-1]))
    return family.to(grouped * scale, family.code(q, "q")).reshape(tuple(q.shape))


# --- Outputs ------------------------------------------------------------------------------------------------------------
def is_fp8(out, out_code=None):
    """Whether the output that a call was given, or told of, is fp8."""
    return (family_of(out, "out").code(out, "out") if out is not None else out_code) in FP8_CODES


def _rows(x, argument):
    """[rows, heads, dim], the same memory."""
    if len(x.shape) == 3:
        return x
    rows = x.reshape((-1, x.shape[-2], x.shape[-1]) if x.shape[0] else (0, x.shape[-2], x.shape[-1]))
    if family_of(x).pointer(rows) != family_of(x).pointer(x):
        refuse(argument, "strided", "must be dense where it is fp8")
    return rows


def round_into(o, out, out_code, scale=1.0):
    """o in f32, multiplied with a scale, as fp8 in `out`, or in a new array."""
    family = family_of(o)
    if out is None:
        out = family.empty(tuple(o.shape), out_code, family.device(o))
    if tuple(out.shape) != tuple(o.shape):
        refuse("out shape", list(out.shape), f"must be {list(o.shape)}")
    code = family_of(out, "out").code(out, "out")
    if code != (out_code or code):
        refuse("out dtype", DTYPE_NAMES[code], f"must be {DTYPE_NAMES[out_code]}")
    quantise(_rows(o, "o"), _rows(out, "out"), scale=1.0 / scale)
    return out


def by_o_dtype(attend):
    """A function that takes o_dtype, for served()."""
    return lambda *arguments, out_code, **names: attend(
        *arguments, o_dtype=None if out_code is None else DTYPE_NAMES[out_code], **names)


def served(of_o, which, query, *arguments, out=None, out_code=None, return_lse=False, **names):
    """A call whose o is multiplied with of_o, an fp8 o in f32, before it is rounded. which: the number of a serving call,
    or a function that stands in for it."""
    family, run = family_of(query, "query"), which if callable(which) else functools.partial(run_serving_call, which)
    of_o = number(of_o)
    if is_fp8(out, out_code):
        result = run(query, *arguments, out=None, out_code=s.F32, return_lse=return_lse, **names)
        out = round_into(result[0] if return_lse else result, out, out_code, of_o)
        return (out, result[1]) if return_lse else out
    result = run(query, *arguments, out=out, out_code=out_code, return_lse=return_lse, **names)
    if of_o != 1.0:
        family.scale(result[0] if return_lse else result, of_o)
    return result
