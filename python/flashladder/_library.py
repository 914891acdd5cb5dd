"""Finds libflashladder.so, declares its functions, and turns what they refuse into exceptions."""
import ctypes
import os
import pathlib

from . import _structs as s


class InputError(ValueError):
    """An argument that the library refuses: `argument`, `value`, `rule` and `request` (-1: none) say which and why.

    The message is the library's own sentence: `paged_kv_last_page_len[1] = 0 (request 1): must be 1 .. page_size (4)`.
    """

    def __init__(self, message, argument="", value="", rule="", request=-1):
        super().__init__(message)
        self.argument, self.value, self.rule, self.request = argument, value, rule, request


class LibraryError(RuntimeError):
    """What went wrong and is no argument's fault: CUDA errors, memory, defects."""


def refuse(argument, value, rule):
    """Raises an InputError in the library's own form."""
    said = f"{argument} = {value}" if value != "" else argument
    raise InputError(f"{said}: {rule}", argument, str(value), rule)


def _places():
    """Where the library may lie: where the environment says, in a wheel's folder, in lib of `meson install`, or where the
    system looks."""
    if os.environ.get("FLASHLADDER_LIBRARY"):
        yield os.environ["FLASHLADDER_LIBRARY"]
        return
    package = pathlib.Path(__file__).resolve().parent
    for folder in (package.parent / ".flashladder.mesonpy.libs", package.parent.parent.parent):
        yield from map(str, sorted(folder.glob("libflashladder.so*")))
    yield "libflashladder.so"


def _load():
    failures = []
    for place in _places():
        try:
            return ctypes.CDLL(place), place
        except OSError as error:
            failures.append(f"{place}: {error}")
    raise ImportError("flashladder found no library that it can load. FLASHLADDER_LIBRARY may say where libflashladder.so "
                      "lies. Tried: " + "; ".join(failures))


lib, path = _load()


_declared: dict = {}


def _declare():
    for name, takes in s.FUNCTIONS.items():
        function = _declared[name] = getattr(lib, name)
        function.argtypes = [s.C_TYPES[letter] for letter in takes]
        function.restype = ctypes.c_int32
    for name in ("fl_version", "fl_last_error", "fl_why_no_gpu"):
        getattr(lib, name).argtypes = []
        getattr(lib, name).restype = ctypes.c_char_p
    lib.fl_best_device.argtypes, lib.fl_best_device.restype = [], ctypes.c_int32
    for name in ("fl_attention_destroy", "fl_cascade_destroy", "fl_page_pool_destroy", "fl_mla_destroy"):
        getattr(lib, name).argtypes, getattr(lib, name).restype = [ctypes.c_void_p], None


_declare()


def raise_error(status):
    """Raises what the last call of this thread says."""
    error = s.Error()
    lib.fl_last_error_parts(ctypes.byref(error))
    message = (error.message or b"").decode() or f"status {status}"
    if status == s.INVALID_ARGUMENT:
        raise InputError(message, *((part or b"").decode() for part in (error.argument, error.value, error.rule)),
                         error.request)
    raise LibraryError(message)


def call(name, *arguments):
    """Calls a function of the library, and raises what it refuses."""
    status = _declared[name](*arguments)  # what is not declared would get pointers cut to 32 bits
    if status:
        raise_error(status)


def text_of(name, handle):
    """The string that fl_..._explain or fl_..._plan_json gives."""
    out = ctypes.c_char_p()
    call(name, handle, ctypes.byref(out))
    return out.value.decode()


def version():
    """The version of the library that is loaded."""
    return lib.fl_version().decode()


def why_no_gpu():
    """"" if this machine has a GPU that the library runs on, else one sentence that says what is missing."""
    return lib.fl_why_no_gpu().decode()
