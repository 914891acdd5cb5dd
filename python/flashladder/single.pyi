# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

def single_decode_with_kv_cache(q: Array, k: Array, v: Array, kv_layout: str = ..., sm_scale: Optional[float] = ...,
    window_left: int = ..., logits_soft_cap: float = ..., pos_encoding_mode: str = ..., rope_scale: float = ...,
    rope_theta: float = ..., sinks: Optional[Array] = ..., out: Optional[Array] = ..., o_dtype: Optional[DType] = ...,
    lse: Optional[Array] = ..., return_lse: bool = ..., natural: bool = ..., k_scale: Optional[Union[float, Array]] = ...,
    v_scale: Optional[Union[float, Array]] = ...) -> Union[Array, Tuple[Array, Array]]: ...

def single_prefill_with_kv_cache(q: Array, k: Array, v: Array, causal: bool = ..., kv_layout: str = ...,
    custom_mask: Optional[Array] = ..., sm_scale: Optional[float] = ..., window_left: int = ...,
    logits_soft_cap: float = ..., pos_encoding_mode: str = ..., rope_scale: float = ..., rope_theta: float = ...,
    sinks: Optional[Array] = ..., out: Optional[Array] = ..., o_dtype: Optional[DType] = ..., lse: Optional[Array] = ...,
    return_lse: bool = ..., natural: bool = ..., k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float,
    Array]] = ...) -> Union[Array, Tuple[Array, Array]]: ...
