# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

class BatchMLAPagedAttentionWrapper:
    def __init__(self, float_workspace_buffer: Array, use_cuda_graph: bool = ..., qo_indptr: Optional[Array] = ...,
        kv_indptr: Optional[Array] = ..., kv_indices: Optional[Array] = ..., kv_len_arr: Optional[Array] = ...,
        backend: str = ..., *, kv_layout: str = ...) -> None: ...
    def plan(self, qo_indptr: Optional[Array] = ..., kv_indptr: Optional[Array] = ..., kv_indices: Optional[Array] = ...,
        kv_len_arr: Optional[Array] = ..., num_heads: Optional[int] = ..., head_dim_ckv: Optional[int] = ...,
        head_dim_kpe: Optional[int] = ..., page_size: Optional[int] = ..., causal: Optional[bool] = ...,
        sm_scale: Optional[float] = ..., q_data_type: Optional[DType] = ..., kv_data_type: Optional[DType] = ...,
        use_profiler: bool = ..., *, metadata: Any = ..., cum_seq_lens_q: Optional[Array] = ...,
        block_tables: Optional[Array] = ..., seq_lens: Optional[Array] = ..., max_q_len: Optional[int] = ...,
        query_layout: Optional[str] = ..., kv_cache_layout: Optional[str] = ..., lse_mode: str = ...,
        output_dtype: Optional[DType] = ..., output_scale: str = ..., scale_mode: str = ..., skip_softmax: bool = ...,
        enable_pdl: Optional[bool] = ..., use_sinks: bool = ...) -> None: ...
    def run(self, q_nope: Optional[Array] = ..., q_pe: Optional[Array] = ..., ckv_cache: Optional[Array] = ...,
        kpe_cache: Optional[Array] = ..., out: Optional[Array] = ..., lse: Optional[Array] = ..., return_lse: bool = ...,
        profiler_buffer: Optional[Array] = ..., kv_len: Optional[Array] = ..., page_table: Optional[Array] = ...,
        return_lse_base_on_e: bool = ..., o_scale: Optional[float] = ..., *, query: Optional[Array] = ...,
        kv_cache: Optional[Cache] = ..., ckv_scale: Optional[float] = ..., ckv_scale_arr: Optional[Array] = ...,
        kpe_scale: Optional[float] = ..., sinks: Optional[Array] = ...,
        skip_softmax_threshold_scale_factor: Optional[float] = ..., bmm1_scale: Optional[float] = ...,
        bmm2_scale: Optional[float] = ...) -> Union[Array, Tuple[Array, Array]]: ...
    def run_return_lse(self, q_nope: Optional[Array] = ..., q_pe: Optional[Array] = ..., ckv_cache: Optional[Array] = ...,
        kpe_cache: Optional[Array] = ..., out: Optional[Array] = ..., lse: Optional[Array] = ..., return_lse: bool = ...,
        profiler_buffer: Optional[Array] = ..., kv_len: Optional[Array] = ..., page_table: Optional[Array] = ...,
        return_lse_base_on_e: bool = ..., o_scale: Optional[float] = ..., *, query: Optional[Array] = ...,
        kv_cache: Optional[Cache] = ..., ckv_scale: Optional[float] = ..., ckv_scale_arr: Optional[Array] = ...,
        kpe_scale: Optional[float] = ..., sinks: Optional[Array] = ...,
        skip_softmax_threshold_scale_factor: Optional[float] = ..., bmm1_scale: Optional[float] = ...,
        bmm2_scale: Optional[float] = ...) -> Tuple[Array, Array]: ...
    def forward(self, *arguments: Any, **names: Any) -> Array: ...
    def explain(self) -> str: ...

def trtllm_batch_decode_with_kv_cache_mla(query: Array, kv_cache: Cache, workspace_buffer: Array, qk_nope_head_dim: int,
    kv_lora_rank: int, qk_rope_head_dim: int, block_tables: Array, seq_lens: Array, max_seq_len: int,
    sparse_mla_top_k: int = ..., out: Optional[Array] = ..., bmm1_scale: float = ..., bmm2_scale: float = ...,
    sinks: Optional[Array] = ..., skip_softmax_threshold_scale_factor: Optional[float] = ...,
    enable_pdl: Optional[bool] = ..., backend: str = ..., is_var_seq: bool = ..., uses_shared_paged_kv_idx: bool = ...,
    lse: Optional[Array] = ..., return_lse: bool = ..., cute_dsl_impl: str = ..., kv_scale_format: str = ...,
    cum_seq_lens_q: Optional[Array] = ..., max_q_len: Optional[int] = ...,
    multi_ctas_kv_counter_buffer: Optional[Array] = ..., sparse_mla_top_k_lens: Optional[Array] = ...,
    enable_dcp: bool = ..., cp_world: int = ..., cp_rank: int = ..., causal_seqlens_kv_global: Optional[Array] = ...,
    use_fp16_softmax: Optional[bool] = ..., return_lse_base: Optional[str] = ...) -> Union[Array, Tuple[Array, Array]]: ...

def xqa_batch_decode_with_kv_cache_mla(query: Array, kv_cache: Cache, workspace_buffer: Array, qk_nope_head_dim: int,
    kv_lora_rank: int, qk_rope_head_dim: int, block_tables: Array, seq_lens: Array, max_seq_len: int,
    out: Optional[Array] = ..., bmm1_scale: float = ..., bmm2_scale: float = ..., sinks: Optional[Array] = ...,
    enable_pdl: Optional[bool] = ...) -> Array: ...
