# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

class BatchDecodeWithPagedKVCacheWrapper:
    def __init__(self, float_workspace_buffer: Array, kv_layout: str = ..., use_cuda_graph: bool = ...,
        use_tensor_cores: bool = ..., paged_kv_indptr_buffer: Optional[Array] = ...,
        paged_kv_indices_buffer: Optional[Array] = ..., paged_kv_last_page_len_buffer: Optional[Array] = ...,
        backend: str = ..., jit_args: Any = ...) -> None: ...
    def plan(self, indptr: Optional[Array] = ..., indices: Optional[Array] = ..., last_page_len: Optional[Array] = ...,
        num_qo_heads: Optional[int] = ..., num_kv_heads: Optional[int] = ..., head_dim: Optional[int] = ...,
        page_size: Optional[int] = ..., *positional: Any, **names: Any) -> None: ...
    def begin_forward(self, indptr: Optional[Array] = ..., indices: Optional[Array] = ...,
        last_page_len: Optional[Array] = ..., num_qo_heads: Optional[int] = ..., num_kv_heads: Optional[int] = ...,
        head_dim: Optional[int] = ..., page_size: Optional[int] = ..., *positional: Any, **names: Any) -> None: ...
    def run(self, q: Array, paged_kv_cache: Cache, *args: Any, q_scale: Optional[Union[float, Array]] = ...,
        k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float, Array]] = ...,
        out: Optional[Array] = ..., lse: Optional[Array] = ..., return_lse: bool = ..., enable_pdl: Optional[bool] = ...,
        window_left: Optional[int] = ..., sinks: Optional[Array] = ..., q_len_per_req: Optional[int] = ...,
        skip_softmax_threshold_scale_factor: Optional[float] = ..., kv_cache_sf: Optional[Array] = ...) -> Union[Array,
        Tuple[Array, Array]]: ...
    def run_return_lse(self, q: Array, paged_kv_cache: Cache, *args: Any, q_scale: Optional[Union[float, Array]] = ...,
        k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float, Array]] = ...,
        out: Optional[Array] = ..., lse: Optional[Array] = ..., return_lse: bool = ..., enable_pdl: Optional[bool] = ...,
        window_left: Optional[int] = ..., sinks: Optional[Array] = ..., q_len_per_req: Optional[int] = ...,
        skip_softmax_threshold_scale_factor: Optional[float] = ..., kv_cache_sf: Optional[Array] = ...) -> Tuple[Array,
        Array]: ...
    def forward(self, q: Array, paged_kv_cache: Cache, pos_encoding_mode: str = ..., q_scale: Optional[Union[float,
        Array]] = ..., k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float, Array]] = ...,
        window_left: int = ..., logits_soft_cap: Optional[float] = ..., sm_scale: Optional[float] = ...,
        rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ..., return_lse: bool = ...) -> Array: ...
    def forward_return_lse(self, q: Array, paged_kv_cache: Cache, pos_encoding_mode: str = ...,
        q_scale: Optional[Union[float, Array]] = ..., k_scale: Optional[Union[float, Array]] = ...,
        v_scale: Optional[Union[float, Array]] = ..., window_left: int = ..., logits_soft_cap: Optional[float] = ...,
        sm_scale: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
        return_lse: bool = ...) -> Tuple[Array, Array]: ...
    @property
    def is_cuda_graph_enabled(self) -> bool: ...
    def reset_workspace_buffer(self, float_workspace_buffer: Array, int_workspace_buffer: Optional[Array] = ...) -> None: ...
    def prewarm_paged_kv_stride_variant(self, variant: str = ...) -> None: ...
    def explain(self) -> str: ...
    def end_forward(self) -> None: ...

class CUDAGraphBatchDecodeWithPagedKVCacheWrapper(BatchDecodeWithPagedKVCacheWrapper):
    def __init__(self, workspace_buffer: Array, indptr_buffer: Optional[Array] = ..., indices_buffer: Optional[Array] = ...,
        last_page_len_buffer: Optional[Array] = ..., kv_layout: str = ..., use_tensor_cores: bool = ..., *,
        max_batch_size: Optional[int] = ..., max_num_pages: Optional[int] = ...) -> None: ...

def cudnn_batch_decode_with_kv_cache(q: Array, k_cache: Array, v_cache: Array, scale: Union[float, Array],
    workspace_buffer: Array, *, max_sequence_kv: int, actual_seq_lens_kv: Optional[Array] = ...,
    block_tables: Optional[Array] = ..., is_cuda_graph_compatible: bool = ..., batch_offsets_q: Optional[Array] = ...,
    batch_offsets_o: Optional[Array] = ..., batch_offsets_k: Optional[Array] = ..., batch_offsets_v: Optional[Array] = ...,
    out: Optional[Array] = ..., return_lse: bool = ..., lse: Optional[Array] = ..., q_len_per_req: int = ...,
    window_left: int = ..., sinks: Optional[Array] = ...) -> Union[Array, Tuple[Array, Array]]: ...

def fast_decode_plan(self, indptr: Array, indices: Array, last_page_len: Array, num_qo_heads: int, num_kv_heads: int,
    head_dim: int, page_size: int, pos_encoding_mode: str = ..., window_left: int = ...,
    logits_soft_cap: Optional[float] = ..., q_data_type: Optional[DType] = ..., kv_data_type: Optional[DType] = ...,
    data_type: Optional[DType] = ..., sm_scale: Optional[float] = ..., rope_scale: Optional[float] = ...,
    rope_theta: Optional[float] = ..., non_blocking: bool = ..., fixed_split_size: Optional[int] = ...,
    disable_split_kv: bool = ..., q_len_per_req: int = ..., global_override_indptr_cpu: Optional[Array] = ...) -> None: ...

def single_decode_with_kv_cache(q: Array, k: Array, v: Array, kv_layout: str = ..., pos_encoding_mode: str = ...,
    use_tensor_cores: bool = ..., q_scale: Optional[Union[float, Array]] = ..., k_scale: Optional[Union[float, Array]] = ...,
    v_scale: Optional[Union[float, Array]] = ..., window_left: int = ..., logits_soft_cap: Optional[float] = ...,
    sm_scale: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
    return_lse: bool = ...) -> Union[Array, Tuple[Array, Array]]: ...

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

def xqa_batch_decode_with_kv_cache(query: Array, kv_cache: Cache, workspace_buffer: Array, block_tables: Array,
    seq_lens: Array, max_seq_len: int, bmm1_scale: float = ..., bmm2_scale: float = ..., window_left: int = ...,
    out: Optional[Array] = ..., sinks: Optional[Array] = ..., kv_layout: str = ..., enable_pdl: Optional[bool] = ...,
    q_len_per_req: int = ..., o_scale: float = ..., mask: Optional[Array] = ..., kv_cache_sf: Optional[Array] = ...,
    q_cu_seq_lens: Optional[Array] = ...) -> Union[Array, Tuple[Array, Array]]: ...
