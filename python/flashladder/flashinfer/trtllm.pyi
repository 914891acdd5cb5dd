# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

def trtllm_batch_context_with_kv_cache(query: Array, kv_cache: Cache, workspace_buffer: Array, block_tables: Array,
    seq_lens: Array, max_q_len: int, max_kv_len: int, bmm1_scale: float, bmm2_scale: float, batch_size: int,
    cum_seq_lens_q: Array, cum_seq_lens_kv: Array, window_left: int = ..., out: Optional[Array] = ...,
    out_dtype: Optional[DType] = ..., o_sf_scale: Optional[float] = ..., o_sf_vec_size: Optional[int] = ...,
    kv_layout: str = ..., enable_pdl: Optional[bool] = ..., sinks: Optional[Array] = ..., kv_cache_sf: Optional[Array] = ...,
    skip_softmax_threshold_scale_factor: Optional[float] = ..., uses_shared_paged_kv_idx: bool = ..., causal: bool = ...,
    lse: Optional[Array] = ..., return_lse: bool = ..., multi_ctas_kv_counter_buffer: Optional[Array] = ...,
    use_fp16_softmax: Optional[bool] = ..., uses_spcompress: Optional[bool] = ..., backend: str = ...) -> Union[Array,
    Tuple[Array, Array]]: ...

def trtllm_batch_decode_with_kv_cache(query: Array, kv_cache: Cache, workspace_buffer: Array, block_tables: Array,
    seq_lens: Array, max_seq_len: int, bmm1_scale: float = ..., bmm2_scale: float = ..., window_left: int = ...,
    out: Optional[Array] = ..., out_dtype: Optional[DType] = ..., o_sf_scale: Optional[float] = ...,
    o_sf_vec_size: Optional[int] = ..., sinks: Optional[Array] = ..., kv_layout: str = ..., enable_pdl: Optional[bool] = ...,
    backend: str = ..., q_len_per_req: int = ..., o_scale: float = ..., mask: Optional[Array] = ...,
    max_q_len: Optional[int] = ..., cum_seq_lens_q: Optional[Array] = ...,
    skip_softmax_threshold_scale_factor: Optional[float] = ..., kv_cache_sf: Optional[Array] = ...,
    uses_shared_paged_kv_idx: bool = ..., lse: Optional[Array] = ..., return_lse: bool = ...,
    bmm1_scale_log2: Optional[Array] = ..., multi_ctas_kv_counter_buffer: Optional[Array] = ...,
    enable_block_sparse_attention: bool = ..., cp_world: int = ..., cp_rank: int = ...,
    causal_seqlens_kv_global: Optional[Array] = ..., bf16q_fp8kv_transform_mode: Any = ..., request_order: Any = ...,
    request_order_plan: Any = ...) -> Union[Array, Tuple[Array, Array]]: ...

def trtllm_ragged_attention_deepseek(query: Array, key: Array, value: Array, workspace_buffer: Array, seq_lens: Array,
    max_q_len: int, max_kv_len: int, bmm1_scale: float, bmm2_scale: float, o_sf_scale: float, batch_size: int,
    window_left: int, cum_seq_lens_q: Array, cum_seq_lens_kv: Array, enable_pdl: bool, is_causal: bool, return_lse: bool,
    attention_sinks: Optional[Array] = ..., skip_softmax_threshold_scale_factor: Optional[float] = ...,
    out: Optional[Array] = ..., lse: Optional[Array] = ..., sage_attn_sfs: Any = ..., num_elts_per_sage_attn_blk: Any = ...,
    backend: str = ..., q_seq_lens_cpu: Optional[Array] = ..., kv_seq_lens_cpu: Optional[Array] = ...,
    use_fp16_softmax: Optional[bool] = ..., uses_spcompress: Optional[bool] = ...,
    skip_all_rows_active_check: bool = ...) -> Union[Array, Tuple[Array, Array]]: ...

def xqa_batch_decode_with_kv_cache(query: Array, kv_cache: Cache, workspace_buffer: Array, block_tables: Array,
    seq_lens: Array, max_seq_len: int, bmm1_scale: float = ..., bmm2_scale: float = ..., window_left: int = ...,
    out: Optional[Array] = ..., sinks: Optional[Array] = ..., kv_layout: str = ..., enable_pdl: Optional[bool] = ...,
    q_len_per_req: int = ..., o_scale: float = ..., mask: Optional[Array] = ..., kv_cache_sf: Optional[Array] = ...,
    q_cu_seq_lens: Optional[Array] = ...) -> Union[Array, Tuple[Array, Array]]: ...
