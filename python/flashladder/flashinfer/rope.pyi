# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

def apply_llama31_rope(q: Array, k: Array, indptr: Array, offsets: Array, rotary_dim: Optional[int] = ...,
    interleave: bool = ..., rope_scale: float = ..., rope_theta: float = ..., low_freq_factor: float = ...,
    high_freq_factor: float = ..., old_context_len: int = ...) -> Tuple[Array, Array]: ...

def apply_llama31_rope_inplace(q: Array, k: Array, indptr: Array, offsets: Array, rotary_dim: Optional[int] = ...,
    interleave: bool = ..., rope_scale: float = ..., rope_theta: float = ..., low_freq_factor: float = ...,
    high_freq_factor: float = ..., old_context_len: int = ...) -> None: ...

def apply_llama31_rope_pos_ids(q: Array, k: Array, pos_ids: Array, rotary_dim: Optional[int] = ..., interleave: bool = ...,
    rope_scale: float = ..., rope_theta: float = ..., low_freq_factor: float = ..., high_freq_factor: float = ...,
    old_context_len: int = ...) -> Tuple[Array, Array]: ...

def apply_llama31_rope_pos_ids_inplace(q: Array, k: Array, pos_ids: Array, rotary_dim: Optional[int] = ...,
    interleave: bool = ..., rope_scale: float = ..., rope_theta: float = ..., low_freq_factor: float = ...,
    high_freq_factor: float = ..., old_context_len: int = ...) -> None: ...

def apply_rope(q: Array, k: Array, indptr: Array, offsets: Array, rotary_dim: Optional[int] = ..., interleave: bool = ...,
    rope_scale: float = ..., rope_theta: float = ...) -> Tuple[Array, Array]: ...

def apply_rope_inplace(q: Array, k: Array, indptr: Array, offsets: Array, rotary_dim: Optional[int] = ...,
    interleave: bool = ..., rope_scale: float = ..., rope_theta: float = ...) -> None: ...

def apply_rope_pos_ids(q: Array, k: Array, pos_ids: Array, rotary_dim: Optional[int] = ..., interleave: bool = ...,
    rope_scale: float = ..., rope_theta: float = ...) -> Tuple[Array, Array]: ...

def apply_rope_pos_ids_inplace(q: Array, k: Array, pos_ids: Array, rotary_dim: Optional[int] = ..., interleave: bool = ...,
    rope_scale: float = ..., rope_theta: float = ...) -> None: ...

def apply_rope_with_cos_sin_cache(positions: Array, query: Array, key: Array, head_size: int, cos_sin_cache: Array,
    is_neox: bool = ...) -> Tuple[Array, Array]: ...

def apply_rope_with_cos_sin_cache_inplace(positions: Array, query: Array, key: Array, head_size: int, cos_sin_cache: Array,
    is_neox: bool = ...) -> None: ...

def precompute_freqs_cis(head_dim: int, max_seq_len: int, rope_theta: float = ..., rope_scale: float = ..., like: Any = ...,
    device: Any = ...) -> Array: ...
