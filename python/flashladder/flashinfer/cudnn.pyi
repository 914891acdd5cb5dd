# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

def cudnn_batch_decode_with_kv_cache(q: Array, k_cache: Array, v_cache: Array, scale: Union[float, Array],
    workspace_buffer: Array, *, max_sequence_kv: int, actual_seq_lens_kv: Optional[Array] = ...,
    block_tables: Optional[Array] = ..., is_cuda_graph_compatible: bool = ..., batch_offsets_q: Optional[Array] = ...,
    batch_offsets_o: Optional[Array] = ..., batch_offsets_k: Optional[Array] = ..., batch_offsets_v: Optional[Array] = ...,
    out: Optional[Array] = ..., return_lse: bool = ..., lse: Optional[Array] = ..., q_len_per_req: int = ...,
    window_left: int = ..., sinks: Optional[Array] = ...) -> Union[Array, Tuple[Array, Array]]: ...

def cudnn_batch_prefill_with_kv_cache(q: Array, k_cache: Array, v_cache: Array, scale: Union[float, Array],
    workspace_buffer: Array, *, max_token_per_sequence: int, max_sequence_kv: int, actual_seq_lens_q: Optional[Array] = ...,
    actual_seq_lens_kv: Optional[Array] = ..., block_tables: Optional[Array] = ..., causal: bool, return_lse: bool,
    q_scale: Optional[Union[float, Array]] = ..., k_scale: Optional[Union[float, Array]] = ...,
    v_scale: Optional[Union[float, Array]] = ..., batch_offsets_q: Optional[Array] = ...,
    batch_offsets_o: Optional[Array] = ..., batch_offsets_k: Optional[Array] = ..., batch_offsets_v: Optional[Array] = ...,
    batch_offsets_stats: Optional[Array] = ..., batch_offsets_units: str = ..., out: Optional[Array] = ...,
    lse: Optional[Array] = ..., is_cuda_graph_compatible: bool = ..., backend: Optional[str] = ...,
    o_data_type: Optional[DType] = ..., lse_base: str = ...) -> Tuple[Array, Optional[Array]]: ...
