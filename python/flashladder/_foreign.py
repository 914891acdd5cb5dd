"""Arrays that are neither torch's nor numpy's: cupy, and whatever says `__cuda_array_interface__` or `__dlpack__`.

What such a library cannot write (jax's arrays never change) can be an input; what is made anew for it is an array of cupy or
torch on the GPU, and of numpy on the CPU, which it takes back by DLPack without a copy.
"""
import sys

from . import _structs as s
from ._arrays import DTYPE_NAMES, Family, Numpy, dtype_code, name_of_dtype
from ._library import refuse

_TYPESTRINGS = {"f4": s.F32, "f2": s.F16}


class Cupy(Numpy):
    """cupy arrays: numpy's calls, on the GPU and cupy's current stream."""

    def __init__(self, cupy):
        super().__init__()
        self.host_np, self.np = self.np, cupy

    def gpu(self, x):
        return True

    def device(self, x):
        return f"cuda:{x.device.id}"

    def key(self, x):
        return x.shape, x.strides, x.dtype, x.device.id

    def pointer(self, x):
        return x.data.ptr

    def stream(self, device):
        return self.np.cuda.get_current_stream().ptr

    def capturing(self):
        return self.np.cuda.get_current_stream().is_capturing()

    def guard(self, device):
        wanted = self.np.cuda.Device(int(device.partition(":")[2]))
        return None if wanted.id == self.np.cuda.Device().id else wanted

    def pinned(self, size):
        return self.host_np.frombuffer(self.np.cuda.alloc_pinned_memory(size + 16), self.host_np.uint8)

    def host(self, arrays):
        """int32 copies on the host: one wait for each array."""
        return [self.np.asnumpy(a.astype(self.np.int32, copy=False)) for a in arrays]

    def host_bytes(self, x):
        return self.np.asnumpy(super().host_bytes(x))

    def int32(self, x):
        return self.np.ascontiguousarray(x if self.is_int32(x) else x.astype(self.np.int32))


class OnCpuByDlpack(Numpy):
    """Arrays on the CPU that numpy takes by DLPack, jax's for one: inputs alone."""

    def view(self, x):
        return self.np.from_dlpack(x)

    def key(self, x):
        return x.shape, x.dtype

    def pointer(self, x):
        return super().pointer(self.view(x))

    def layout(self, x):
        return super().layout(self.view(x))

    def code(self, x, argument):
        return dtype_code(x.dtype, argument)

    def host(self, arrays):
        return super().host([self.view(a) for a in arrays])

    def dense(self, x):
        return self.np.ascontiguousarray(self.view(x))

    def mask(self, x):
        return super().mask(self.view(x))


class OnGpuByInterface(Family):
    """Arrays on the GPU that say __cuda_array_interface__: inputs, and outputs where they are given. What is made anew is
    torch's or cupy's."""

    def __init__(self):
        self.maker = None

    def _made_by(self):
        if self.maker is None:
            from ._arrays import family_of
            if "torch" in sys.modules:
                self.maker = family_of(sys.modules["torch"].empty(0))
            elif "cupy" in sys.modules:
                self.maker = family_of(sys.modules["cupy"].empty(0))
            else:
                refuse("out", "None", "must be given, or import torch or cupy, which then make it")
        return self.maker

    def is_int32(self, x):
        return x.__cuda_array_interface__["typestr"][1:] in ("i4", "u4")

    def is_int64(self, x):
        return x.__cuda_array_interface__["typestr"][1:] == "i8"

    def gpu(self, x):
        return True

    def device(self, x):
        return "cuda:0"

    def pointer(self, x):
        return x.__cuda_array_interface__["data"][0]

    def layout(self, x):
        said = x.__cuda_array_interface__
        shape, size = said["shape"], int(said["typestr"][2:])
        strides, step = [], 1
        for extent in reversed(shape):
            strides.insert(0, step)
            step *= extent
        given = said.get("strides")
        return shape, tuple(stride // size for stride in given) if given else tuple(strides)

    def key(self, x):
        return self.layout(x), name_of_dtype(x.dtype)

    def code(self, x, argument):
        return _TYPESTRINGS.get(x.__cuda_array_interface__["typestr"][1:]) or dtype_code(x.dtype, argument)

    def stream(self, device):
        """The default stream: such an array does not say which stream is current."""
        return None

    def pinned(self, size):
        return self._made_by().pinned(size)

    def empty(self, shape, code, device):
        return self._made_by().empty(shape, code, device)

    def empty_int32(self, n, device):
        return self._made_by().empty_int32(n, device)

    def bytes(self, n, device):
        return self._made_by().bytes(n, device)

    def host(self, arrays):
        refuse("lengths", "on the GPU", "must be on the host, or be arrays of torch or cupy")

    def int32(self, x):
        if not self.is_int32(x):
            refuse("dtype", name_of_dtype(x.dtype), "must be int32")
        return x

    def dense(self, x):
        return x


def foreign_family(x, argument):
    """The family of an array that is neither torch's nor numpy's."""
    module = type(x).__module__.partition(".")[0]
    if module == "cupy":
        return Cupy(sys.modules["cupy"])
    if hasattr(x, "__cuda_array_interface__"):
        return OnGpuByInterface()
    if hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__"):
        kind = x.__dlpack_device__()[0]
        if int(kind) != 1:
            refuse(argument, f"an array on DLPack device {int(kind)}", "must be on the CPU, or say __cuda_array_interface__")
        return OnCpuByDlpack()
    if isinstance(x, (list, tuple)):
        return OfNumbers()
    refuse(argument, type(x).__name__, f"must be an array of torch, numpy, cupy or jax ({', '.join(DTYPE_NAMES.values())})")
    return None


class OfNumbers(Numpy):
    """Lists of int: lengths alone, which are copied."""

    def is_int64(self, x):
        return False

    def host(self, arrays):
        return [self.np.asarray(a, self.np.int32) for a in arrays]

    def int32(self, x):
        return self.np.asarray(x, self.np.int32)
