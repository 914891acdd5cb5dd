# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

def fused_add_rmsnorm(input: Array, residual: Array, weight: Array, eps: float = ...,
    enable_pdl: Optional[bool] = ...) -> None: ...

def fused_add_rmsnorm_quant(out: Array, input: Array, residual: Array, weight: Array, scale: Union[float, Array],
    eps: float = ..., enable_pdl: Optional[bool] = ..., out_dtype: Optional[DType] = ...) -> None: ...

def gemma_fused_add_rmsnorm(input: Array, residual: Array, weight: Array, eps: float = ...,
    enable_pdl: Optional[bool] = ...) -> None: ...

def gemma_rmsnorm(input: Array, weight: Array, eps: float = ..., out: Optional[Array] = ...,
    enable_pdl: Optional[bool] = ...) -> Array: ...

def layernorm(input: Array, gemma: Array, beta: Array, eps: float = ...) -> Array: ...

def layernorm_quant(out: Array, input: Array, gemma: Array, beta: Array, scale: Union[float, Array], eps: float = ...,
    out_dtype: Optional[DType] = ...) -> None: ...

def rmsnorm(input: Array, weight: Array, eps: float = ..., out: Optional[Array] = ...,
    enable_pdl: Optional[bool] = ...) -> Array: ...

def rmsnorm_quant(out: Array, input: Array, weight: Array, scale: Union[float, Array], eps: float = ...,
    enable_pdl: Optional[bool] = ..., out_dtype: Optional[DType] = ...) -> None: ...
