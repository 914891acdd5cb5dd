"""fl_tensor and fl_kv_cache in memory of their own, written once and pointed anew by every call."""
import ctypes
import struct

from . import _structs as s
from ._arrays import family_of
from ._library import refuse

_TENSOR = struct.Struct("=QQii5q5q")
TENSOR_BYTES = _TENSOR.size
DATA = 1  # of a tensor's 8-byte words, the one that points to its data
_ZEROS = (0, 0, 0, 0, 0)


def describe(buffer, offset, pointer, code, shape, strides):
    """Writes an fl_tensor."""
    rank = len(shape)
    if not 1 <= rank <= 5:
        refuse("rank", rank, "must be 1 .. 5")
    rest = _ZEROS[rank:]
    _TENSOR.pack_into(buffer, offset, TENSOR_BYTES, pointer, code, rank, *shape, *rest, *strides, *rest)


class TensorSlot:
    """One fl_tensor, and the array that it shows, which it keeps alive."""

    def __init__(self, x=None, argument="tensor"):
        self.buffer = ctypes.create_string_buffer(TENSOR_BYTES)
        self.address = ctypes.addressof(self.buffer)
        if x is not None:
            self.show(x, argument)

    def show(self, x, argument="tensor", shape=None, strides=None):
        family = family_of(x, argument)
        if shape is None:
            shape, strides = family.layout(x)
        describe(self.buffer, 0, family.pointer(x), family.code(x, argument), shape, strides)
        self.array = x
        return self


def tensors(**arrays):
    """TensorSlots of named arrays, all on the device of the first, and their addresses."""
    slots = [TensorSlot(x, name) for name, x in arrays.items()]
    first = slots[0].array
    for slot, name in zip(slots, arrays):
        must_lie_with(first, slot.array, name)
    return slots, [slot.address for slot in slots]


def must_lie_with(first, x, name):
    """Refuses an array on another device than the first."""
    here, there = family_of(first), family_of(x, name)
    if here.device(first) != there.device(x):
        refuse(name, f"on {there.device(x)}", f"must lie on {here.device(first)}, where the first array of the call lies")


def pages_of_rank_3(layout, shape, strides):
    """A cache [num_pages, num_kv_heads, head_dim] as one of rank 4 whose pages have one token."""
    pages, heads, features = shape
    page, head, one = strides
    if layout == s.HND:
        return (pages, heads, 1, features), (page, head, features, one)
    return (pages, 1, heads, features), (page, page, head, one)


class CacheSlot:
    """One fl_kv_cache: a 5-D array with K at index 0 and V at 1, or K and V of 4-D, or of 3-D with pages of one token."""

    def __init__(self):
        self.k, self.v = TensorSlot(), TensorSlot()
        self.cache = s.KvCache()
        self.address = ctypes.addressof(self.cache)

    def show(self, kv, layout, paged=True, like=None):
        """kv: an array, or a pair of arrays. layout: NHD or HND. paged=False: 3-D arrays [tokens, heads, dim] as they are.
        like: an array on whose device the cache must lie."""
        for x in kv if isinstance(kv, (tuple, list)) and like is not None else (kv,) if like is not None else ():
            must_lie_with(like, x, "the cache")
        self.cache.layout = layout
        if isinstance(kv, (tuple, list)):
            if len(kv) != 2:
                refuse("paged_kv_cache", f"{len(kv)} arrays", "must be one of rank 5, or K and V")
            for slot, x, name in ((self.k, kv[0], "k_cache"), (self.v, kv[1], "v_cache")):
                shape, strides = family_of(x, name).layout(x)
                if paged and len(shape) == 3:
                    shape, strides = pages_of_rank_3(layout, shape, strides)
                slot.show(x, name, shape, strides)
            self.cache.k, self.cache.v = self.k.address, self.v.address
        else:
            shape, _ = family_of(kv, "paged_kv_cache").layout(kv)
            if len(shape) != 5:
                refuse("paged_kv_cache rank", len(shape), "must be 5, with K at index 0 and V at 1, or give K and V as a pair")
            self.k.show(kv, "paged_kv_cache")
            self.cache.k, self.cache.v = self.k.address, None
        return self

    def scale(self, k_scale, v_scale):
        """What a stored k and a stored v are multiplied with; None: 1."""
        for name, x in (("k_scale", k_scale), ("v_scale", v_scale)):
            if x is not None and float(x) == 0.0:
                refuse(name, 0, "must not be 0")
            setattr(self.cache, name, 0.0 if x is None else float(x))
        return self


def page_size_of(kv, layout):
    """Tokens of a page of a cache."""
    shape = (kv[0] if isinstance(kv, (tuple, list)) else kv).shape
    if len(shape) == 3:
        return 1
    return shape[-3] if layout == s.NHD else shape[-2]


def on(x):
    """fl_on of the device that an array lies on, with its current stream."""
    family = family_of(x)
    if not family.gpu(x):
        return s.On()
    return s.On(device=s.GPU, stream=family.stream(family.device(x)))


def one_device(first, named):
    """Refuses arrays that lie elsewhere than the first one; None is no array."""
    for name, x in named:
        if x is not None:
            must_lie_with(first, x, name)


def out_like(family, out, shape, code, device, argument="out"):
    """`out` if it is given and has this shape, else a new array."""
    if out is None:
        return family.empty(shape, code, device)
    if tuple(out.shape) != tuple(shape):
        refuse(f"{argument} shape", list(out.shape), f"must be {list(shape)}")
    return out
