# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

def packbits(x: Array, bitorder: str = ...) -> Array: ...

def segment_packbits(x: Array, indptr: Array, bitorder: str = ...) -> Tuple[Array, Array]: ...
