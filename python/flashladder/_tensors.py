"""fl_tensor and fl_kv_cache in memory of their own, written once and pointed anew by every call."""
import ctypes
import struct

from . import _fast_run, _structs as s
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

    def show(self, x, argument="tensor", shape=None, strides=None, code=None):
        """code: the dtype of an array of bytes."""
        family = family_of(x, argument)
        if shape is None:
            shape, strides = family.layout(x)
        describe(self.buffer, 0, family.pointer(x), code or family.code(x, argument), shape, strides)
        self.array = x
        return self


class Described:
    """The arrays of a call, described in memory that the next call takes when this one is over."""
    __slots__ = ("memory", "free", "arrays", "cache")

    def __init__(self, memory, free, arrays):
        self.memory, self.free, self.arrays, self.cache = memory, free, arrays, None

    def __del__(self):
        self.free.append(self.memory)

    def on(self):
        """The address of the fl_on of their device."""
        return self.memory.on


class Slots:
    """The same, a TensorSlot each."""

    def __init__(self, slots):
        self.slots, self.first, self.cache = slots, slots[0].array, None

    def on(self):
        self.where = on(self.first)
        return ctypes.addressof(self.where)


def tensors(**arrays):
    """Named arrays, all on the device of the first, described as long as what is given first lives; and their addresses."""
    family = family_of(next(iter(arrays.values())), next(iter(arrays)))
    free = family.free_arrays
    if free is not None:
        try:
            memory = free.pop()
        except IndexError:
            memory = _fast_run.Arrays(family.dlpack, family.several)
        described, given = Described(memory, free, arrays), arrays.values()
        if memory.describe(*given):
            return described, memory.addresses[:len(given)]
    slots = [TensorSlot(x, name) for name, x in arrays.items()]
    for slot, name in zip(slots, arrays):
        must_lie_with(slots[0].array, slot.array, name)
    return Slots(slots), [slot.address for slot in slots]


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


def scale(cache, k_scale, v_scale):
    """Writes into an fl_kv_cache what a stored k and a stored v are multiplied with; None: 1."""
    for name, x in (("k_scale", k_scale), ("v_scale", v_scale)):
        if x is not None and float(x) == 0.0:
            refuse(name, 0, "must not be 0")
        setattr(cache, name, 0.0 if x is None else float(x))


def tensors_and_cache(kv, layout, k_scale=None, v_scale=None, **arrays):
    """tensors() of arrays, and the address of an fl_kv_cache of pages beside them."""
    first = next(iter(arrays.values()))
    pair = isinstance(kv, (tuple, list))
    parts = dict(zip(("k_cache", "v_cache"), kv)) if pair else {"paged_kv_cache": kv}
    if family_of(first).free_arrays is not None and [len(getattr(x, "shape", ())) for x in parts.values()] == (
            [4, 4] if pair else [5]):
        described, at = tensors(**arrays, **parts)
        if type(described) is Described:
            n, cache = len(arrays), described.memory.memory.cache
            cache.k, cache.v, cache.layout = at[n], at[n + 1] if pair else None, layout
            scale(cache, k_scale, v_scale)
            return described, at[:n], described.memory.cache
    described, at = tensors(**arrays)
    described.cache = CacheSlot().show(kv, layout, first).scale(k_scale, v_scale)
    return described, at, described.cache.address


class CacheSlot:
    """One fl_kv_cache: a 5-D array with K at index 0 and V at 1, or K and V of 4-D, or of 3-D with pages of one token."""

    def __init__(self):
        self.k, self.v = TensorSlot(), TensorSlot()
        self.cache = s.KvCache()
        self.address = ctypes.addressof(self.cache)

    def show(self, kv, layout, like):
        """kv: an array, or a pair of arrays. layout: NHD or HND. like: an array on whose device the cache must lie."""
        for x in kv if isinstance(kv, (tuple, list)) else (kv,):
            must_lie_with(like, x, "the cache")
        self.cache.layout = layout
        if isinstance(kv, (tuple, list)):
            if len(kv) != 2:
                refuse("paged_kv_cache", f"{len(kv)} arrays", "must be one of rank 5, or K and V")
            for slot, x, name in ((self.k, kv[0], "k_cache"), (self.v, kv[1], "v_cache")):
                shape, strides = family_of(x, name).layout(x)
                if len(shape) == 3:
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
        scale(self.cache, k_scale, v_scale)
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
