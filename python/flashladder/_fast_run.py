"""run(), and the arrays of operations, without ctypes, for tensors whose library has DLPack's exchange interface (torch 2.10
and newer).

capi/python_run.h says how. Without it, and on other Pythons than CPython, calls are the same and take longer.
"""
import ctypes
import sys

from . import _structs as s
from ._library import lib

_FASTCALL = 0x80                                             # METH_FASTCALL
_SLOTS = {"tensor_of": 40, "current_stream": 48}             # of DLPackExchangeAPI, in bytes
_MAJOR, _CAPSULE = 1, b"dlpack_exchange_api"                 # of DLPack
DEVICES = {"cpu": 1, "cuda": 2}


class _Method(ctypes.Structure):
    """PyMethodDef."""
    _fields_ = [("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


def _address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


def _declared():
    """Python's own functions; of pythonapi's another package may have declared other types."""
    python = ctypes.PyDLL(None)
    python.PyCFunction_NewEx.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    python.PyCFunction_NewEx.restype = ctypes.py_object
    for name, result in (("PyCapsule_IsValid", ctypes.c_int), ("PyCapsule_GetPointer", ctypes.c_void_p)):
        getattr(python, name).argtypes = [ctypes.py_object, ctypes.c_char_p]
        getattr(python, name).restype = result
    return python


def _start(python):
    """The three methods."""
    names = ("PyLong_AsVoidPtr", "PyLong_FromLong", "PyErr_Clear", "PyEval_SaveThread", "PyEval_RestoreThread")
    functions = (ctypes.c_void_p * 6)(*(_address(getattr(python, name)) for name in names), id(None))
    lib.fl_python_start(functions)
    lib.fl_python_run_bytes.restype = ctypes.c_size_t
    lib.fl_python_begin.argtypes, lib.fl_python_begin.restype = [ctypes.c_void_p] * 7 + [ctypes.c_int32] * 3, None
    return [_Method(name, _address(getattr(lib, name.decode())), _FASTCALL, None) for name in (
        b"fl_python_run", b"fl_python_learn", b"fl_python_describe")]


_is_here = sys.implementation.name == "cpython" and hasattr(lib, "fl_python_start")
_python = _declared() if _is_here else None
_methods = _start(_python) if _is_here else None


class _Arrays(ctypes.Structure):
    """fl_python_arrays, and an fl_kv_cache of some of them."""
    _fields_ = [("dlpack", ctypes.c_void_p * 2), ("several", ctypes.c_int32), ("reserved", ctypes.c_int32), ("on", s.On),
                ("tensors", s.Tensor * 6), ("cache", s.KvCache)]  # cache: Python's own


def _make(method, address):
    """A Python function of a method, with an address as its self."""
    return _python.PyCFunction_NewEx(ctypes.addressof(method), address, None)


def dlpack_of(kind):
    """The functions by which DLPack describes tensors of a type; None: it has none."""
    capsule = getattr(kind, "__dlpack_c_exchange_api__", None)
    if not _is_here or capsule is None or not _python.PyCapsule_IsValid(capsule, _CAPSULE):
        return None
    api = _python.PyCapsule_GetPointer(capsule, _CAPSULE)
    if ctypes.c_uint32.from_address(api).value != _MAJOR:
        return None
    functions = [ctypes.c_void_p.from_address(api + slot).value for slot in _SLOTS.values()]
    return (ctypes.c_void_p * 2)(*functions) if all(functions) else None


def functions(dlpack, arguments, tensors, device, several):
    """(run, learn) of one object's arguments, with what keeps them alive."""
    memory = ctypes.create_string_buffer(lib.fl_python_run_bytes())
    address = ctypes.addressof(memory)
    lib.fl_python_begin(address, ctypes.addressof(dlpack), arguments, *tensors, DEVICES.get(device.type, 0), device.index or 0,
                        int(several))
    return (*(_make(method, address) for method in _methods[:2]), memory)


class Arrays:
    """Memory for the arrays of one call at a time, which are described by a call with them."""

    def __init__(self, dlpack, several):
        self.memory = _Arrays(dlpack=dlpack, several=int(several), cache=s.KvCache())
        address = ctypes.addressof(self.memory)
        self.describe = _make(_methods[2], address)
        self.on, self.cache = address + _Arrays.on.offset, address + _Arrays.cache.offset
        self.addresses = [address + _Arrays.tensors.offset + i * ctypes.sizeof(s.Tensor) for i in range(6)]
