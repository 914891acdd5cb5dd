# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

def append_paged_kv_cache(append_key: Array, append_value: Array, batch_indices: Array, positions: Array,
    paged_kv_cache: Cache, kv_indices: Array, kv_indptr: Array, kv_last_page_len: Array, kv_layout: str = ...,
    k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float, Array]] = ...) -> None: ...

def append_paged_mla_kv_cache(append_ckv: Array, append_kpe: Array, batch_indices: Array, positions: Array, ckv_cache: Array,
    kpe_cache: Array, kv_indices: Array, kv_indptr: Array, kv_last_page_len: Array) -> None: ...

def get_batch_indices_positions(append_indptr: Array, seq_lens: Array, nnz: int, batch_indices: Optional[Array] = ...,
    positions: Optional[Array] = ...) -> Tuple[Array, Array]: ...

def get_seq_lens(kv_indptr: Array, kv_last_page_len: Array, page_size: int) -> Array: ...
