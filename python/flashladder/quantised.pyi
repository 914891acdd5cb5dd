# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

def fused_add_rmsnorm_quant(out: Array, input: Array, residual: Array, weight: Array, scale: Union[float, Array],
    eps: float = ..., out_dtype: Optional[DType] = ...) -> None: ...

def layernorm_quant(out: Array, input: Array, gamma: Array, beta: Array, scale: Union[float, Array], eps: float = ...,
    out_dtype: Optional[DType] = ...) -> None: ...

def rmsnorm_quant(out: Array, input: Array, weight: Array, scale: Union[float, Array], eps: float = ...,
    out_dtype: Optional[DType] = ...) -> None: ...
