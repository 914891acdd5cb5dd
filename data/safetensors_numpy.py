"""safetensors in thirty lines of numpy: 8 bytes of header length, a JSON header, the data."""
import json
import os
import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "U8": "u1", "BOOL": "?"}


def read_safetensors(path):
    """-> {name: array}, {name: dtype}, metadata. BF16, which numpy lacks, comes as F32 (whose upper half it is)."""
    with open(path, "rb") as f:
        raw = f.read()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    metadata, arrays = header.pop("__metadata__", {}), {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        a = np.frombuffer(raw[start + begin:start + end], DTYPES[t["dtype"]]).reshape(t["shape"])
        arrays[name] = (a.astype("<u4") << 16).view("<f4") if t["dtype"] == "BF16" else a
    return arrays, {name: t["dtype"] for name, t in header.items()}, metadata


def write_safetensors(path, arrays, metadata):
    """Widest elements first, so that every tensor is aligned; written aside and renamed, so whole or not at all."""
    names = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    header, offset = {"__metadata__": metadata}, 0
    for name, a in arrays.items():
        header[name] = {"dtype": names[a.dtype], "shape": a.shape, "data_offsets": [offset, offset + a.nbytes]}
        offset += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{path}.part", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in arrays.values()))
    os.replace(f"{path}.part", path)
