"""As much of torch as our binding and the documents' snippets use, on numpy: for machines that have no torch.

Where torch can be imported the tests use that. This stands in for it elsewhere, so that the binding's way of taking torch
tensors (data_ptr, stride(), dtypes and devices of its own) is tested everywhere."""
import sys
import types

try:
  import numpy as np
except ImportError:
  print("numpy is not installed, and the tests of the Python package compare with it")
  sys.exit(77)

import small_dlpack


class dtype:
  def __init__(self, name, numpy):
    self.name_, self.numpy = name, np.dtype(numpy)

  def __repr__(self):
    return f"torch.{self.name_}"

  @property
  def is_floating_point(self):
    return self.numpy.kind == "f"


float16, float32, float64 = dtype("float16", "f2"), dtype("float32", "f4"), dtype("float64", "f8")
int32, int64, uint8, uint32 = dtype("int32", "i4"), dtype("int64", "i8"), dtype("uint8", "u1"), dtype("uint32", "u4")
uint16 = dtype("uint16", "u2")
bool_, bfloat16 = dtype("bool", "?"), dtype("bfloat16", "u2")
float8_e4m3fn, float8_e5m2 = dtype("float8_e4m3fn", [("e4m3", "u1")]), dtype("float8_e5m2", [("e5m2", "u1")])
half, long = float16, int64
_OF_NUMPY = {d.numpy: d for d in (float16, float32, float64, int32, int64, uint8, uint16, uint32, bool_, float8_e4m3fn,
                                  float8_e5m2)}


def _numbers_of_fp8(a):
  """What the bits of an fp8 stand for."""
  (name,) = a.dtype.names
  bits, m, bias = a[name].astype(int), 3 if name == "e4m3" else 2, 7 if name == "e4m3" else 15
  exponent, fraction = (bits & 0x7F) >> m, (bits & ((1 << m) - 1)) / (1 << m)
  x = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - float(bias)))
  x[(bits & 0x7F) > (0x7E if m == 3 else 0x7B)] = np.nan
  return np.where(bits & 0x80, -x, x)


class device:
  has_gpu = False  # pretend_gpu_test.py has one, whose memory is the host's

  def __init__(self, name="cpu", index=None):
    name = str(name)
    self.type, _, number = name.partition(":")
    self.index = int(number) if number else index
    if self.type != "cpu" and not device.has_gpu:
      raise RuntimeError(f"this stand-in for torch has no device {name}")
    if self.type == "cuda" and self.index is None:
      self.index = 0

  def __eq__(self, other):
    return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

  def __hash__(self):
    return hash((self.type, self.index))

  def __repr__(self):
    return self.type if self.index is None else f"{self.type}:{self.index}"


CPU = device("cpu")


def _numbers(x):
  return x.a if isinstance(x, Tensor) else x


class Tensor:
  is_cuda, is_cpu, device = False, True, CPU

  def __init__(self, array):
    self.a = array

  shape = property(lambda self: self.a.shape)
  dtype = property(lambda self: _OF_NUMPY[self.a.dtype])

  def stride(self, dim=None):
    strides = tuple(n // self.a.itemsize for n in self.a.strides)
    return strides if dim is None else strides[dim]

  def data_ptr(self):
    return self.a.__array_interface__["data"][0]

  def to(self, *what, **named):
    for x in (*what, *(v for k, v in named.items() if k in ("dtype", "device"))):
      if isinstance(x, dtype):
        wide = _numbers_of_fp8(self.a) if self.a.dtype.names and self.a.dtype != x.numpy else self.a
        return self if wide.dtype == x.numpy else Tensor(wide.astype(x.numpy))
      device(x if not isinstance(x, device) else x.type)
    return self

  def half(self): return self.to(float16)
  def float(self): return self.to(float32)
  def int(self): return self.to(int32)
  def cpu(self): return self
  def detach(self): return self
  def numpy(self): return self.a
  def clone(self): return Tensor(self.a.copy())
  def contiguous(self): return self if self.a.flags.c_contiguous else Tensor(np.ascontiguousarray(self.a))
  def is_contiguous(self): return self.a.flags.c_contiguous
  def numel(self): return self.a.size
  def element_size(self): return self.a.itemsize
  def dim(self): return self.a.ndim
  def item(self): return self.a.item()
  def tolist(self): return self.a.tolist()
  def reshape(self, *shape): return Tensor(self.a.reshape(*shape))
  def swapaxes(self, a, b): return Tensor(self.a.swapaxes(a, b))
  def clip(self, low, high): return Tensor(self.a.clip(low, high))
  def cumsum(self, dim): return Tensor(self.a.cumsum(dim))
  def sum(self, dim=None): return Tensor(np.asarray(self.a.sum(dim)))
  def copy_(self, other, non_blocking=False): self.a[...] = _numbers(other); return self
  def zero_(self): self.a[...] = 0; return self

  transpose = swapaxes

  def view(self, *shape):
    if len(shape) == 1 and isinstance(shape[0], dtype):
      return Tensor(self.a.view(shape[0].numpy))
    out = self.a.view()
    out.shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
    return Tensor(out)

  def unflatten(self, dim, sizes):
    return self.view(*self.shape[:dim], *sizes, *self.shape[dim + 1:])

  def __getitem__(self, i):
    return Tensor(self.a[_numbers(i)])

  def __setitem__(self, i, value):
    self.a[i] = _numbers(value)

  def __imul__(self, other):
    self.a *= _numbers(other)
    return self

  def __len__(self): return len(self.a)

  def __array__(self, dtype=None, copy=None):
    if self.device.type != "cpu":
      raise TypeError("can't convert a tensor of a GPU to numpy's array")
    return np.asarray(self.a, dtype)

  def __iter__(self): return (Tensor(np.asarray(x)) for x in self.a)
  def __int__(self): return int(self.a)
  def __float__(self): return float(self.a)
  def __index__(self): return int(self.a)


for _name in ("add", "sub", "mul", "rshift", "and", "floordiv", "mod", "ge", "le", "lt", "gt", "truediv", "invert", "neg"):
  def _operator(self, *other, name=f"__{_name}__"):
    return Tensor(np.asarray(getattr(self.a, name)(*map(_numbers, other))))
  setattr(Tensor, f"__{_name}__", _operator)
Tensor.__rmul__ = Tensor.__mul__


def _shape(size):
  return size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size


def _made(make):
  def maker(*size, dtype=float32, device=CPU, pin_memory=False):
    globals()["device"](device if isinstance(device, str) else device.type)
    return Tensor(make(tuple(map(int, _shape(size)))).astype(dtype.numpy))
  return maker


random = np.random.default_rng(7)
empty = _made(lambda shape: np.full(shape, 113.0))  # what was never written is seen
zeros, ones = _made(np.zeros), _made(np.ones)
randn = _made(random.standard_normal)
rand = _made(random.random)


contiguous_format = "contiguous"


def empty_like(x, memory_format=None): return Tensor(np.full(x.a.shape, 113, x.a.dtype))
def zeros_like(x): return Tensor(np.zeros_like(x.a))
def from_numpy(x): return Tensor(x)
def cat(parts, dim=0): return Tensor(np.concatenate([p.a for p in parts], dim))


def tensor(values, dtype=None, device=CPU):
  array = np.asarray(values)
  return Tensor(array.astype(dtype.numpy if dtype else np.float32 if array.dtype.kind == "f" else array.dtype))


def arange(*bounds, dtype=int64, device=CPU):
  return Tensor(np.arange(*map(_numbers, bounds)).astype(dtype.numpy))


def randint(low, high, size, dtype=int64, device=CPU):
  return Tensor(random.integers(low, high, tuple(size)).astype(dtype.numpy))


def manual_seed(n):
  pass


cuda = types.SimpleNamespace(is_available=lambda: False, synchronize=lambda: None, device_count=lambda: 0)


def install():
  """The module, as `import torch` then finds it."""
  module = types.ModuleType("torch")
  module.__dict__.update({name: value for name, value in globals().items() if not name.startswith("__")})
  module.bool, module.float, module.int = bool_, float32, int32
  Tensor.__dlpack_c_exchange_api__ = small_dlpack.api_of(module)
  sys.modules["torch"] = module
  return module
