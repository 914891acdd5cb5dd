"""Arrays of torch, numpy, cupy and others, seen as the library sees them: a pointer, a shape, strides, a dtype, a device.

A family is what a library of arrays can do here. torch and numpy have classes of their own; everything else comes by
`__cuda_array_interface__` (cupy, numba, jax on a GPU) or DLPack (jax on the CPU).
"""
import ctypes
import functools
import sys

from . import _structs as s
from ._library import lib, refuse

DTYPE_NAMES = {s.F32: "float32", s.F16: "float16", s.BF16: "bfloat16", s.F8_E4M3: "float8_e4m3fn", s.F8_E5M2: "float8_e5m2"}
FP8_CODES = (s.F8_E4M3, s.F8_E5M2)
DTYPE_CODES = {name: code for code, name in DTYPE_NAMES.items()}
DTYPE_CODES.update({"half": s.F16, "float": s.F32})


def name_of_dtype(dtype):
    """"float16" of torch.float16, numpy.float16, numpy.dtype("float16"), "half" or "torch.float16"."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    return {"half": "float16", "float": "float32"}.get(name.rpartition(".")[2], name.rpartition(".")[2])


def dtype_code(dtype, argument="dtype"):
    """FL_F16 and its kin of whatever names a dtype; others are refused."""
    name = name_of_dtype(dtype)
    code = DTYPE_CODES.get(name)
    if code is None:
        refuse(argument, name, "must be float16, bfloat16 or float32; of keys and values also float8_e4m3fn or float8_e5m2")
    return code


@functools.lru_cache(maxsize=None)
def numbers_of_fp8(code):
    """float32 [256]: what each byte of an fp8 stands for."""
    import numpy
    bits = numpy.arange(256, dtype=numpy.uint16)
    if code == s.F8_E5M2:  # the upper byte of a float16
        return (bits << 8).view(numpy.float16).astype(numpy.float32)
    numbers = ((bits & 0x80) << 8 | (bits & 0x7F) << 7).view(numpy.float16).astype(numpy.float32) * 256  # biases 15 and 7
    return numpy.where((bits & 0x7F) == 0x7F, numpy.float32("nan"), numbers)


class Family:
    """What every family has. `device` of its methods is the family's own word for one; `gpu(x)` says where x lies."""
    int_dtypes, long_dtypes = (), ()
    several = False  # GPUs, so that `guard` must be asked for
    dlpack = None    # DLPack's functions for its arrays, as `_fast_run` takes them
    free_arrays = None  # _fast_run.Arrays that no call has, where there are such functions

    def is_int32(self, x):
        """Whether x holds int32. uint32 counts: lengths are below 2^31."""
        return x.dtype in self.int_dtypes

    def is_int64(self, x):
        return x.dtype in self.long_dtypes

    def stream(self, device):
        return None

    def stream_of(self, device):
        """A function that gives the device's current stream."""
        return lambda: self.stream(device)

    def capturing(self):
        """Whether the current stream is captured into a graph."""
        return False

    def guard(self, device):
        """What makes this device the current one while it is entered; None: it is, or there is but one."""
        return None

    def moved(self, stream, planned_on):
        """Whether run() is on another stream than plan() was: then the same batch is planned again there. Not in a capture,
        since what a graph does comes after plan() anyway."""
        return stream != planned_on and not self.capturing()

    def like_of(self, x):
        """A function that makes dense arrays of x's shape, dtype and device faster than `empty`; None: there is none."""
        return None

    def cache_code(self, x, argument, kv_code):
        """The dtype of keys or values; bytes are the bits of fp8 where the config says fp8."""
        if kv_code in FP8_CODES and name_of_dtype(x.dtype) == "uint8":
            return kv_code
        return self.code(x, argument)

    def widened(self, x, fp8_code, code):
        """Numbers of an fp8, or their bits, in a dtype that holds each of them."""
        refuse("q", name_of_dtype(x.dtype), "must be an array of torch, numpy or cupy where it is fp8")

    def swapped(self, x):
        """The first two dimensions in each other's place; the same memory."""
        return x.swapaxes(0, 1)

    def scale(self, x, factor):
        """x *= factor, in place."""
        x *= factor

    def pinned(self, size):
        refuse("staging", size, "this kind of array has no page-locked memory; give torch or cupy arrays on a GPU")


class Numpy(Family):
    """numpy arrays: always the CPU device."""

    def __init__(self):
        import numpy
        self.np = numpy
        self.codes = {numpy.dtype(numpy.float32): s.F32, numpy.dtype(numpy.float16): s.F16}
        self.names = {s.F32: numpy.dtype(numpy.float32), s.F16: numpy.dtype(numpy.float16)}
        self.int_dtypes = {numpy.dtype(numpy.int32), numpy.dtype(numpy.uint32)}
        self.long_dtypes = {numpy.dtype(numpy.int64)}

    def gpu(self, x):
        return False

    def device(self, x):
        return "cpu"

    def pointer(self, x):
        return x.__array_interface__["data"][0]

    def key(self, x):
        return x.shape, x.strides, x.dtype

    def layout(self, x):
        size = x.itemsize
        return x.shape, tuple([stride // size for stride in x.strides])

    def code(self, x, argument):
        code = self.codes.get(x.dtype)
        return code if code is not None else dtype_code(x.dtype, argument)

    def dtype(self, code):
        if code not in self.names:
            name = DTYPE_NAMES[code]
            try:
                import ml_dtypes
            except ImportError:
                refuse("dtype", name, f"numpy has no {name} of its own; with the package ml_dtypes it has")
            self.names[code] = self.np.dtype(getattr(ml_dtypes, name))
        return self.names[code]

    def empty(self, shape, code, device):
        return self.np.empty(shape, self.names.get(code) or self.dtype(code))

    def empty_int32(self, n, device):
        return self.np.empty(n, self.np.int32)

    def bytes(self, n, device):
        return self.np.empty(n + 16, self.np.uint8)

    def to(self, x, code):
        return x.astype(self.dtype(code))

    def widened(self, x, fp8_code, code):
        import numpy
        with numpy.errstate(invalid="ignore"):  # ml_dtypes warns of a NaN that it casts
            table = numbers_of_fp8(fp8_code).astype(self.dtype(code))
        return self.np.asarray(table)[self.np.asarray(x).view(self.np.uint8)]

    def host(self, arrays):
        """int32 host arrays of `arrays`, dense."""
        return [self.np.ascontiguousarray(a, dtype=None if self.is_int32(a) else self.np.int32) for a in arrays]

    def int32(self, x):
        return self.host([x])[0]

    def host_bytes(self, x):
        """The bytes of x, on the host."""
        return self.np.ascontiguousarray(x).view(self.np.uint8).reshape(-1)

    def int64(self, x):
        return x.astype(self.np.int64)

    def mask(self, x):
        return self.np.ascontiguousarray(x.reshape(-1)).view(self.np.uint8)

    def split_heads(self, x, heads, dim):
        """[n, heads, dim] of [n, heads * dim]; the same memory, whatever the stride of the rows."""
        row, one = x.strides
        return self.np.lib.stride_tricks.as_strided(x, (x.shape[0], heads, dim), (row, dim * one, one))

    def copy(self, x):
        return x.copy()

    def pack(self, x, bitorder):
        return self.np.packbits(x, bitorder=bitorder)

    def concatenate(self, parts):
        return self.np.concatenate(parts)

    def from_numpy(self, x, device):
        return self.np.asarray(x)

    def dense(self, x):
        return self.np.ascontiguousarray(x)

    def copy_into(self, out, x):
        out[...] = x


_families: dict = {}


def _torch_of(kind):
    torch = sys.modules.get("torch")
    return torch if torch is not None and issubclass(kind, getattr(torch, "Tensor", ())) else None


def family_of(x, argument="q"):
    """The family of an array; what is no array is refused."""
    kind = type(x)
    family = _families.get(kind)
    if family is not None:
        return family
    torch = _torch_of(kind)
    if torch is not None:
        from ._torch_arrays import torch_family
        family = torch_family(torch)
    elif kind.__module__ == "numpy":
        family = Numpy()
    else:
        from ._foreign import foreign_family
        family = foreign_family(x, argument)
    _families[kind] = family
    return family


def on_host(arrays):
    """int32 host arrays of lengths, dense; those of one kind that lie on a GPU are copied together."""
    if len({type(x) for x in arrays}) == 1:
        return family_of(arrays[0]).host(arrays)
    return [family_of(x).host([x])[0] for x in arrays]


def family_of_device(device):
    """The family that has `device`, for objects that are made before any array is there: torch where it is imported."""
    torch = sys.modules.get("torch")
    if torch is not None:
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        return family_of(torch.empty(0)), device
    if str(device).startswith("cuda"):
        refuse("device", device, "needs torch, which is not imported; other arrays on a GPU bring their device with them")
    import numpy
    return family_of(numpy.empty(0)), "cpu"


def aligned(memory):
    """The first address that is a multiple of 16 in an array that has 16 bytes more than it was asked for. Its family need not
    be that of the tensors of a call: page-locked memory is numpy's for cupy, and torch's for jax."""
    return (family_of(memory).pointer(memory) + 15) & ~15


class HostLengths:
    """Copies of a plan's int32 host arrays at an address of their own, so that a plan can be made again later."""

    def __init__(self):
        self.room, self.memory, self.address = 0, None, 0

    def keep(self, pointers_and_counts):
        """The addresses of the copies, in the order of [(pointer, count)]."""
        total = 0
        for _, count in pointers_and_counts:
            total += count
        if total > self.room:
            self.room = max(2 * total, 256)
            self.memory = (ctypes.c_int32 * self.room)()
            self.address = ctypes.addressof(self.memory)
        address, out = self.address, []
        for pointer, count in pointers_and_counts:
            ctypes.memmove(address, pointer, 4 * count)
            out.append(address)
            address += 4 * count
        return out

    def at(self, address, index):
        return self.memory[(address - self.address) // 4 + index]


best_device = lib.fl_best_device
