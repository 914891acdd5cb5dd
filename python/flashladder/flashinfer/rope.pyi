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

def mla_rope_quantize_fp8(q_rope: Array, k_rope: Array, q_nope: Array, k_nope: Array, cos_sin_cache: Array, pos_ids: Array,
    is_neox: bool = ..., quantize_dtype: Optional[DType] = ..., quant_scale_q: float = ..., quant_scale_kv: float = ...,
    q_rope_out: Optional[Array] = ..., k_rope_out: Optional[Array] = ..., q_nope_out: Optional[Array] = ...,
    k_nope_out: Optional[Array] = ..., enable_pdl: bool = ...) -> Tuple[Array, Array, Array, Array]: ...

def precompute_freqs_cis(head_dim: int, max_seq_len: int, rope_theta: float = ..., rope_scale: float = ..., like: Any = ...,
    device: Any = ...) -> Array: ...

def rope_quantize_fp8(q_rope: Array, k_rope: Array, q_nope: Array, k_nope: Array, cos_sin_cache: Array, pos_ids: Array,
    is_neox: bool = ..., quantize_dtype: Optional[DType] = ..., quant_scale_q: float = ..., quant_scale_kv: float = ...,
    q_rope_out: Optional[Array] = ..., k_rope_out: Optional[Array] = ..., q_nope_out: Optional[Array] = ...,
    k_nope_out: Optional[Array] = ..., enable_pdl: bool = ..., backend: str = ...) -> Tuple[Array, Array, Array, Array]: ...

def rope_quantize_fp8_append_paged_kv_cache(q_rope: Array, k_rope: Array, q_nope: Array, k_nope: Array, v: Array,
    cos_sin_cache: Array, pos_ids: Array, paged_kv_cache: Cache, kv_indices: Array, kv_indptr: Array, batch_indices: Array,
    positions: Array, is_neox: bool = ..., quantize_dtype: Optional[DType] = ..., quant_scale_q: float = ...,
    quant_scale_kv: float = ..., page_size: int = ..., kv_layout: str = ..., q_rope_out: Optional[Array] = ...,
    q_nope_out: Optional[Array] = ..., enable_pdl: bool = ...) -> Tuple[Array, Array]: ...
