"""run() of an attention object: its arguments in memory that is written anew only where a call differs from the last one.

A model calls run() once a layer with arrays of the same shapes. So what describes them (fl_tensor, fl_kv_cache,
fl_attention_arguments) stays, and a call writes pointers alone, after it has compared shapes, strides, dtypes and devices:
in C where `_fast_run` has functions for these tensors.
"""
import ctypes
import struct
import sys

from . import _fast_run, _structs as s
from ._arrays import dtype_code, family_of
from ._library import lib, raise_error, refuse
from ._tensors import TENSOR_BYTES, describe, pages_of_rank_3

_WORDS = TENSOR_BYTES // 8
_Q, _K, _V, _O = 0, _WORDS, 2 * _WORDS, 3 * _WORDS           # where the structs begin, in 8-byte words
_KV = 4 * _WORDS
_ARGUMENTS = _KV + ctypes.sizeof(s.KvCache) // 8
_END = _ARGUMENTS + ctypes.sizeof(s.AttentionArguments) // 8
_DATA = 1                                                    # of a tensor's words: the pointer
_SCALES, _K_HEADS, _V_HEADS = _KV + 4, _KV + 5, _KV + 6    # k_scale and v_scale in one word; scales of each head
_LSE2, _IDS, _NUM_IDS, _SINKS, _MASK, _MASK_BYTES, _LSE_E, _BITS, _BITS_BYTES = (_ARGUMENTS + i for i in range(4, 13))


class PackedMask:
    """A custom mask as bits, the lowest of a byte first, each request's from a byte on; run() takes it for a mask."""

    def __init__(self, bits):
        self.bits = bits


def _flat(family, x, argument, count, device):
    """The pointer of a dense f32 array of `count` elements on `device`."""
    owner = family_of(x, argument)
    shape, strides = owner.layout(x)
    elements, dense = 1, True
    for extent, stride in zip(reversed(shape), reversed(strides)):
        dense = dense and (stride == elements or extent == 1)
        elements *= extent
    if owner.code(x, argument) != s.F32:
        refuse(f"{argument} dtype", x.dtype, "must be float32")
    if elements != count or not dense:
        refuse(f"{argument} shape", list(shape), f"must be dense, of {count} elements")
    if owner is not family or family.device(x) != device:
        refuse(argument, f"on {owner.device(x)}", f"must lie where q lies ({device})")
    return owner.pointer(x)


class RunCall:
    """The arguments of one attention object's run()."""

    def __init__(self, attention):
        self.buffer = ctypes.create_string_buffer(8 * _END)
        address = ctypes.addressof(self.buffer)
        self.words = words = memoryview(self.buffer).cast("B").cast("Q")
        self.ragged = attention.kind in s.RAGGED
        self.layout = s.NHD if self.ragged else attention.layout
        kv = s.KvCache(k=address + 8 * _K, v=address + 8 * _V, layout=self.layout)
        ctypes.memmove(address + 8 * _KV, ctypes.addressof(kv), ctypes.sizeof(kv))
        words[_ARGUMENTS:_ARGUMENTS + 4] = memoryview(
            (ctypes.c_uint64 * 4)(8 * (_END - _ARGUMENTS), address + 8 * _Q, address + 8 * _KV, address + 8 * _O)).cast(
                "B").cast("Q")
        self.address, self.arguments = address, address + 8 * _ARGUMENTS
        config = attention.config
        self.heads, self.dim_vo = config.num_qo_heads, config.head_dim_vo or config.head_dim_qk
        self.o_code = dtype_code(config.o_dtype or config.q_dtype or config.kv_dtype)
        self.kv_code, self.kv_heads = dtype_code(config.kv_dtype), config.num_kv_heads
        self.scales = (None, None)
        self.key = self.o_key = self.ids_here = self.ids_shape = self.o_shape = None
        self.like_q, self.padded = None, PaddedRows()
        self.has_lse = self.has_more = False
        self.c_run, self.stream = lib.fl_attention_run, attention.family.stream_of(attention.device)
        self.fast, self.known, self.kind = None, False, None  # known: fast can do the last call again with other tensors
        dlpack = attention.family.dlpack
        if dlpack is not None:
            tensors = [address + 8 * at for at in (_Q, _K, _V, _O)]
            self.fast, self.learn, self.memory = _fast_run.functions(
                dlpack, self.arguments, tensors, attention.device, attention.family.several)

    def __call__(self, a, q, kv, page_ids, out, lse, return_lse, sinks, custom_mask, natural, k_scale=None, v_scale=None):
        family = a.family
        if not a.takes_ids:
            page_ids = None
        pair = type(kv) is tuple or type(kv) is list
        if (self.known and type(q) is self.kind and not return_lse and lse is None and sinks is None and custom_mask is None
                and k_scale is self.scales[0] and v_scale is self.scales[1]):
            k, v = kv if pair else (kv, None)
            o = out
            if out is None:
                o = self.like_q(q) if self.like_q else family.empty(self.o_shape, self.o_code, a.device)
            status = self.fast(a._handle, a.planned_on, q, k, v, page_ids, o)
            if status == 0:
                return o
            if status > 0:
                raise_error(status)
        self.known, words = False, self.words
        k, v = kv if pair else (kv, kv)
        try:
            key = (family.key(q), family.key(k), family.key(v) if pair else None)
        except AttributeError:  # no array, or one of another kind
            self._must_lie_here(a, q, k, v)
            raise
        if key != self.key:
            if a.is_graph and a.limits is not None and self._is_short(a, q):
                return self._on_more_rows(a, q, kv, out, lse, return_lse, sinks, custom_mask, natural, k_scale, v_scale)
            self._describe(a, q, k, v, pair)
            self.key = key
        if k_scale is not self.scales[0] or v_scale is not self.scales[1]:
            self._scale(a, k_scale, v_scale)
        pointer = family.pointer
        words[_Q + _DATA], words[_K + _DATA] = pointer(q), pointer(k)
        if pair:
            words[_V + _DATA] = pointer(v)
        if out is None:
            out = self.like_q(q) if self.like_q else family.empty(self.o_shape, self.o_code, a.device)
            if self.o_key is not None:
                self._describe_o(self.o_shape, None)
        else:
            key = family.key(out) if family_of(out, "out") is family else None  # which is refused
            if key != self.o_key or key is None:
                self._describe_given(a, out, key)
        words[_O + _DATA] = pointer(out)
        if return_lse or lse is not None:
            if lse is None:
                lse = family.empty(self.o_shape[:2], s.F32, a.device)
                words[_LSE_E if natural else _LSE2] = pointer(lse)
            else:
                words[_LSE_E if natural else _LSE2] = _flat(family, lse, "lse", self.o_shape[0] * self.heads, a.device)
            words[_LSE2 if natural else _LSE_E] = 0
            self.has_lse = True
        elif self.has_lse:
            words[_LSE2] = words[_LSE_E] = 0
            self.has_lse = False
        if a.takes_ids:
            if page_ids is None or page_ids is not self.ids_here or page_ids.shape != self.ids_shape:
                self._take_ids(a, page_ids)
            words[_IDS] = pointer(self.ids_here)
        if sinks is not None or custom_mask is not None or self.has_more:
            custom_mask = self._take_more(a, sinks, custom_mask)
        status = self._on_gpu(a, family) if a.on_gpu else self.c_run(a._handle, self.arguments, None)
        if status:
            raise_error(status)
        if self.fast and not (self.has_lse or self.has_more) and page_ids is self.ids_here:
            self.known, self.kind = self.learn(q, k, v if pair else None, page_ids, out), type(q)
        return (out, lse) if return_lse else out

    def _on_gpu(self, a, family):
        """On the current stream."""
        guard = family.guard(a.device) if family.several else None
        if guard is not None:
            with guard:
                return self._on_gpu(a, family)
        stream = self.stream()
        if stream != a.planned_on and family.moved(stream, a.planned_on):
            a.plan_like(a)
        return self.c_run(a._handle, self.arguments, stream)

    # --- What a call does only if it differs from the last one ---------------------------------------------------------
    def _must_lie_here(self, a, q, k, v):
        family = a.family
        if family_of(q) is not family:
            refuse("q", f"an array of {type(q).__module__}", "must be of the kind that the object was made with")
        for x, name in ((q, "q"), (k, "the k cache"), (v, "the v cache")):
            owner = family_of(x, name)
            if owner is not family or family.device(x) != a.device:
                refuse(name, f"on {owner.device(x)}", f"must lie where the object was made ({a.device})")

    def _describe(self, a, q, k, v, pair):
        family = a.family
        self._must_lie_here(a, q, k, v)
        shape, strides = family.layout(q)
        if len(shape) != 3:
            refuse("q shape", list(shape), "must be [rows, num_qo_heads, head_dim]")
        describe(self.buffer, 8 * _Q, 0, family.code(q, "q"), shape, strides)
        self.o_shape = (shape[0], self.heads, self.dim_vo)
        self.like_q = family.like_of(q) if shape == self.o_shape and family.code(q, "q") == self.o_code else None
        self._describe_o(self.o_shape, None)
        ranks = (3,) if self.ragged else (3, 4) if pair else (5,)
        for at, x, name in ((_K, k, "the k cache"), (_V, v, "the v cache")):
            shape, strides = family.layout(x)
            if len(shape) not in ranks:
                refuse(f"{name} rank", len(shape), "must be 5 with K at index 0 and V at 1, or give K and V as a pair: of "
                       "rank 4, or of rank 3 with pages of one token; keys without pages have rank 3")
            if len(shape) == 3 and not self.ragged:
                shape, strides = pages_of_rank_3(self.layout, shape, strides)
            describe(self.buffer, 8 * at, 0, family.cache_code(x, name, self.kv_code), shape, strides)
        self.words[_KV + 2] = self.address + 8 * _V if pair else 0

    def _scale(self, a, k_scale, v_scale):
        """What a stored k and a stored v stand for: a number, or an array with one for each KV head."""
        numbers = []
        for at, name, x in ((_K_HEADS, "k_scale", k_scale), (_V_HEADS, "v_scale", v_scale)):
            of_heads = len(getattr(x, "shape", ())) > 0 and x.shape != (1,)
            self.words[at] = _flat(a.family, x, name, self.kv_heads, a.device) if of_heads else 0
            numbers.append(0.0 if x is None or of_heads else float(x))
            if numbers[-1] == 0.0 and x is not None and not of_heads:
                refuse(name, 0, "must not be 0")
        self.words[_SCALES] = int.from_bytes(struct.pack("=ff", *numbers), sys.byteorder)
        by_array = hasattr(k_scale, "shape") or hasattr(v_scale, "shape")  # whose values may be others the next time
        self.scales = (by_array, by_array) if by_array else (k_scale, v_scale)

    def _describe_o(self, shape, key, strides=None, code=None):
        heads, dim = shape[1], shape[2]
        describe(self.buffer, 8 * _O, 0, code or self.o_code, shape, strides or (heads * dim, dim, 1))
        self.o_key = key

    def _describe_given(self, a, out, key):
        owner = family_of(out, "out")
        if owner is not a.family or owner.device(out) != a.device:
            refuse("out", f"on {owner.device(out)}", f"must lie where q lies ({a.device})")
        shape, strides = owner.layout(out)
        if len(shape) != 3:
            refuse("out shape", list(shape), f"must be {list(self.o_shape)}")
        self._describe_o(shape, key, strides, owner.code(out, "out"))

    def _take_more(self, a, sinks, custom_mask):
        """Sinks and mask, or that there are none any more; the mask's bytes, which must live as long as the call."""
        family, words = a.family, self.words
        words[_SINKS] = 0 if sinks is None else _flat(family, sinks, "sinks", self.heads, a.device)
        self.has_more = sinks is not None or custom_mask is not None
        words[_MASK] = words[_MASK_BYTES] = words[_BITS] = words[_BITS_BYTES] = 0
        if custom_mask is not None:
            packed = isinstance(custom_mask, PackedMask)
            custom_mask = family.mask(custom_mask.bits if packed else custom_mask)
            if family.gpu(custom_mask) != a.on_gpu:
                name = "packed_custom_mask" if packed else "custom_mask"
                refuse(name, "elsewhere", f"must lie where q lies ({a.device})")
            at, size = (_BITS, _BITS_BYTES) if packed else (_MASK, _MASK_BYTES)
            words[at], words[size] = family.pointer(custom_mask), custom_mask.shape[0]
        return custom_mask

    def _take_ids(self, a, page_ids):
        if page_ids is None:
            refuse("page_ids", "None", "must be given: paged_kv_indices, or block_tables")
        owner = family_of(page_ids, "page_ids")
        if owner is not a.family or owner.device(page_ids) != a.device:
            refuse("page_ids", f"on {owner.device(page_ids)}", f"must lie where q lies ({a.device})")
        self.ids_shape, self.ids_here = page_ids.shape, owner.dense(owner.int32(page_ids))
        count = 1
        for extent in page_ids.shape:
            count *= extent
        self.words[_NUM_IDS] = count

    # --- Graphs: q and o have as many rows as the graph was made for ---------------------------------------------------
    def _rows_of_graph(self, a):
        return a.limits.max_batch if a.kind == s.GRAPH_DECODE else a.limits.max_nnz_qo

    def _is_short(self, a, q):
        return len(q.shape) == 3 and q.shape[0] < self._rows_of_graph(a)

    def _on_more_rows(self, a, q, kv, out, lse, return_lse, sinks, custom_mask, natural, k_scale, v_scale):
        """The same with as many rows of q as the graph has."""
        return self.padded(a.family, a.device, self._rows_of_graph(a), q, out, lse, return_lse, lambda padded_q: self(
            a, padded_q, kv, None, None, None, True, sinks, custom_mask, natural, k_scale, v_scale))


class PaddedRows:
    """Memory for the rows of a graph's q, of which a smaller batch has the first ones."""

    def __init__(self):
        self.q = None

    def __call__(self, family, device, rows, q, out, lse, return_lse, run):
        """Copies q into an array of `rows` rows, and gives the first rows of the o and lse that run() makes of it."""
        shape = (rows, *q.shape[1:])
        if self.q is None or tuple(self.q.shape) != shape or self.q.dtype != q.dtype:
            self.q = family.empty(shape, family.code(q, "q"), device)
        family.copy_into(self.q[:q.shape[0]], q)
        all_o, all_lse = run(self.q)
        o, l = all_o[:q.shape[0]], all_lse[:q.shape[0]]
        for there, here, name in ((out, o, "out"), (lse, l, "lse")):
            if there is not None:
                if tuple(there.shape) != tuple(here.shape):
                    refuse(f"{name} shape", list(there.shape), f"must be {list(here.shape)}")
                family.copy_into(there, here)
        o, l = o if out is None else out, l if lse is None else lse
        return (o, l) if return_lse else o
