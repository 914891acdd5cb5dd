"""torch tensors, as `_arrays` has them."""
import functools

from . import _fast_run, torch_ops
from . import _structs as s
from ._arrays import DTYPE_NAMES, Family, dtype_code

_made: dict = {}


def torch_family(torch):
    """The one family of this torch module."""
    if id(torch) not in _made:
        _made[id(torch)] = Torch(torch)
        torch_ops.register(torch)
    return _made[id(torch)]


class Torch(Family):
    """torch tensors: the CPU device, or the GPU that they lie on and its current stream."""

    def __init__(self, torch):
        self.torch = torch
        self.codes = {getattr(torch, name): code for code, name in DTYPE_NAMES.items() if hasattr(torch, name)}
        self.names = {code: dtype for dtype, code in self.codes.items()}
        self.int_dtypes, self.long_dtypes = {torch.int32, getattr(torch, "uint32", torch.int32)}, {torch.int64}
        self.several = torch.cuda.is_available() and torch.cuda.device_count() > 1
        self.dlpack = _fast_run.dlpack_of(torch.Tensor)
        self.free_arrays = [] if self.dlpack is not None else None
        raw = getattr(getattr(torch, "_C", None), "_cuda_getCurrentRawStream", None)
        self.raw_stream = raw or (lambda index: torch.cuda.current_stream(index).cuda_stream)

    def gpu(self, x):
        return x.is_cuda

    def device(self, x):
        return x.device

    def pointer(self, x):
        return x.data_ptr()

    def key(self, x):
        return x.shape, x.is_contiguous() or x.stride(), x.dtype, x.device

    def layout(self, x):
        return x.shape, x.stride()

    def code(self, x, argument):
        code = self.codes.get(x.dtype)
        return code if code is not None else dtype_code(x.dtype, argument)

    def dtype(self, code):
        return self.names[code]

    def stream(self, device):
        return self.raw_stream(device.index)

    def stream_of(self, device):
        return functools.partial(self.raw_stream, device.index)

    def capturing(self):
        return self.torch.cuda.is_current_stream_capturing()

    def guard(self, device):
        if not self.several or device.type != "cuda" or device.index == self.torch.cuda.current_device():
            return None
        return self.torch.cuda.device(device)

    def like_of(self, x):
        if x.is_contiguous():
            return self.torch.empty_like
        return functools.partial(self.torch.empty_like, memory_format=self.torch.contiguous_format)

    def empty(self, shape, code, device):
        return self.torch.empty(shape, dtype=self.names[code], device=device)

    def empty_int32(self, n, device):
        return self.torch.empty(n, dtype=self.torch.int32, device=device)

    def bytes(self, n, device):
        return self.torch.empty(n + 16, dtype=self.torch.uint8, device=device)

    def pinned(self, size):
        return self.torch.empty(size + 16, dtype=self.torch.uint8, device="cpu", pin_memory=True)

    def to(self, x, code):
        return x.to(self.names[code])

    def widened(self, x, fp8_code, code):
        return self.to(x.view(self.names[fp8_code]), code)

    def host(self, arrays):
        """int32 host tensors, dense. Those on a GPU are copied together: one wait for all of them."""
        waits, out = None, []
        for a in arrays:
            if a.is_cuda:
                waits = a.device
                there = self.torch.empty(a.shape, dtype=a.dtype, device="cpu", pin_memory=True)
                there.copy_(a, non_blocking=True)
                a = there
            out.append(a)
        if waits is not None:
            self.torch.cuda.current_stream(waits).synchronize()
        return [self.int32(a) for a in out]

    def int32(self, x):
        return (x if self.is_int32(x) else x.to(self.torch.int32)).contiguous()

    def host_bytes(self, x):
        return x.contiguous().view(self.torch.uint8).reshape(-1).cpu().numpy()

    def int64(self, x):
        return x.to(self.torch.int64)

    def mask(self, x):
        return x.reshape(-1).contiguous().view(self.torch.uint8)

    def copy(self, x):
        return x.clone()

    def split_heads(self, x, heads, dim):
        return x.unflatten(1, (heads, dim)) if x.stride(1) == 1 else x.view(x.shape[0], heads, dim)

    def pack(self, x, bitorder):
        torch, n = self.torch, -(-x.shape[0] // 8)
        bits = torch.zeros(8 * n, dtype=torch.uint8, device=x.device)
        bits[:x.shape[0]] = x.to(torch.uint8)
        weights = [1 << (i if bitorder == "little" else 7 - i) for i in range(8)]
        weights = torch.tensor(weights, dtype=torch.int32, device=x.device)
        return (bits.view(n, 8).to(torch.int32) * weights).sum(1).to(torch.uint8)

    def concatenate(self, parts):
        return self.torch.cat(parts)

    def from_numpy(self, x, device):
        return self.torch.from_numpy(x).to(device)

    def copy_to(self, x, device):
        return x.to(device)

    def dense(self, x):
        return x.contiguous()

    def copy_into(self, out, x):
        out.copy_(x)
