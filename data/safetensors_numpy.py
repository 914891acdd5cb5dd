"""safetensors in forty lines of numpy: 8 bytes of header length, a JSON header, the data."""
import json
import os
import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "U8": "u1", "BOOL": "?", "F8_E4M3": "u1"}


def e4m3_values():
    """What the 256 patterns of F8_E4M3 stand for: 3 bits of fraction, exponents from -6 on, no infinities, NaN = 0x7f, 0xff."""
    bits = np.arange(256)
    exponent, fraction = bits >> 3 & 15, bits & 7
    size = np.where(exponent > 0, (8 + fraction) * 2.0 ** (exponent - 10), fraction * 2.0**-9)
    return np.where(bits & 127 == 127, np.nan, np.where(bits >> 7, -size, size)).astype("<f4")


def read_safetensors(path):
    """-> {name: array}, {name: dtype}, metadata. What numpy lacks comes as F32: BF16, whose upper half it is, F8_E4M3."""
    with open(path, "rb") as f:
        raw = f.read()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    metadata, arrays = header.pop("__metadata__", {}), {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        a = np.frombuffer(raw[start + begin:start + end], DTYPES[t["dtype"]]).reshape(t["shape"])
        if t["dtype"] == "BF16":
            a = (a.astype("<u4") << 16).view("<f4")
        arrays[name] = e4m3_values()[a] if t["dtype"] == "F8_E4M3" else a
    return arrays, {name: t["dtype"] for name, t in header.items()}, metadata


def write_safetensors(path, arrays, metadata, fp8=()):
    """Widest elements first, so that every tensor is aligned; written aside and renamed, so whole or not at all.
    fp8: names of arrays of bytes that are F8_E4M3."""
    names = {np.dtype(code): name for name, code in DTYPES.items() if name not in ("BF16", "F8_E4M3")}
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    header, offset = {"__metadata__": metadata}, 0
    for name, a in arrays.items():
        dtype = "F8_E4M3" if name in fp8 else names[a.dtype]
        header[name] = {"dtype": dtype, "shape": a.shape, "data_offsets": [offset, offset + a.nbytes]}
        offset += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{path}.part", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in arrays.values()))
    os.replace(f"{path}.part", path)
