# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

def xqa(q: Array, k_cache: Array, v_cache: Array, page_table: Array, seq_lens: Array, output: Optional[Array] = ...,
    workspace_buffer: Optional[Array] = ..., semaphores: Optional[Array] = ..., num_kv_heads: Optional[int] = ...,
    page_size: Optional[int] = ..., sinks: Optional[Array] = ..., q_scale: Union[float, Array] = ..., kv_scale: float = ...,
    sliding_win_size: int = ..., kv_layout: str = ..., sm_count: Optional[int] = ..., enable_pdl: Optional[bool] = ...,
    rcp_out_scale: float = ..., q_seq_len: int = ..., mask: Optional[Array] = ..., *, q_cu_seq_lens: Optional[Array] = ...,
    k_sf_cache: Optional[Array] = ..., v_sf_cache: Optional[Array] = ..., head_dim: Optional[int] = ...) -> Array: ...

def xqa_mla(q: Array, k_cache: Array, v_cache: Array, page_table: Array, seq_lens: Array, output: Optional[Array] = ...,
    workspace_buffer: Optional[Array] = ..., semaphores: Optional[Array] = ..., page_size: Optional[int] = ...,
    q_scale: Union[float, Array] = ..., kv_scale: float = ..., sm_count: Optional[int] = ...,
    enable_pdl: Optional[bool] = ...) -> Array: ...
