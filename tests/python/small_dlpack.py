"""DLPack's exchange interface for small_torch's tensors, by callbacks into Python: so that the way of run() past ctypes is
tested on machines without torch too, and on the pretended GPU."""
import ctypes

CODES = {"f": 2, "i": 0, "u": 1, "b": 6, "e4m3": 10, "e5m2": 12}
DEVICES = {"cpu": 1, "cuda": 2}
calls = {"tensors": 0}


class _Tensor(ctypes.Structure):
  _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device", ctypes.c_int32),
              ("rank", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
              ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p), ("byte_offset", ctypes.c_uint64)]


class _Api(ctypes.Structure):
  _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("older", ctypes.c_void_p)] + [
    (name, ctypes.c_void_p) for name in ("allocate", "own", "to_object", "tensor_of", "current_stream")]


def _integers(x, numbers):
  """An array of them that lives as long as the tensor."""
  kept = (ctypes.c_int64 * len(numbers))(*numbers)
  x.dlpack = (*getattr(x, "dlpack", ())[-1:], kept)
  return ctypes.addressof(kept)


def api_of(torch, name=b"dlpack_exchange_api", **changes):
  """A capsule with the interface for this module's tensors. changes: what the table has in other ways; of a tensor its
  attribute `says` has what its description has in other ways."""
  @ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_Tensor))
  def tensor_of(x, out):
    calls["tensors"] += 1
    if not isinstance(x, torch.Tensor):
      return -1
    dtype = x.a.dtype
    out[0] = _Tensor(**{
      "data": x.data_ptr(), "device_type": DEVICES[x.device.type], "device": x.device.index or 0, "rank": x.a.ndim,
      "code": CODES[dtype.names[0] if dtype.names else dtype.kind], "bits": 8 * dtype.itemsize, "lanes": 1,
      "shape": _integers(x, x.shape), "strides": _integers(x, x.stride()), **getattr(x, "says", {})})
    return 0

  @ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p))
  def current_stream(kind, device, out):
    out[0] = torch.cuda.current_stream(device).cuda_stream if kind == DEVICES["cuda"] else None
    return 0

  def address(function):
    return ctypes.cast(function, ctypes.c_void_p).value

  api = _Api(**{"major": 1, "minor": 3, "tensor_of": address(tensor_of), "current_stream": address(current_stream),
                **changes})
  torch.kept_for_dlpack = *getattr(torch, "kept_for_dlpack", ()), name, api, tensor_of, current_stream
  make = ctypes.pythonapi.PyCapsule_New
  make.argtypes, make.restype = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p], ctypes.py_object
  return make(ctypes.addressof(api), name, None)
