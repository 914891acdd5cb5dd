# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

class BatchPODWithPagedKVCacheWrapper:
    def __init__(self, float_workspace_buffer: Array, kv_layout: str = ...) -> None: ...
    @property
    def is_cuda_graph_enabled(self) -> bool: ...
    def reset_workspace_buffer(self, float_workspace_buffer: Array, int_workspace_buffer: Optional[Array] = ...) -> None: ...
    def plan(self, qo_indptr_p: Array, kv_indptr_p: Array, kv_indices_p: Array, last_page_len_p: Array, qo_indptr_d: Array,
        kv_indptr_d: Array, kv_indices_d: Array, last_page_len_d: Array, num_qo_heads: int, num_kv_heads: int, head_dim: int,
        page_size: int, pos_encoding_mode: str = ..., window_left: int = ..., q_data_type: Optional[DType] = ...,
        kv_data_type: Optional[DType] = ..., data_type: Optional[DType] = ..., sm_scale: Optional[float] = ...,
        rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ..., non_blocking: bool = ...) -> None: ...
    def begin_forward(self, qo_indptr_p: Array, kv_indptr_p: Array, kv_indices_p: Array, last_page_len_p: Array,
        qo_indptr_d: Array, kv_indptr_d: Array, kv_indices_d: Array, last_page_len_d: Array, num_qo_heads: int,
        num_kv_heads: int, head_dim: int, page_size: int, pos_encoding_mode: str = ..., window_left: int = ...,
        q_data_type: Optional[DType] = ..., kv_data_type: Optional[DType] = ..., data_type: Optional[DType] = ...,
        sm_scale: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
        non_blocking: bool = ...) -> None: ...
    def run(self, q_p: Array, paged_kv_cache_p: Cache, q_d: Array, paged_kv_cache_d: Cache,
        custom_mask_p: Optional[Array] = ..., packed_custom_mask_p: Optional[Array] = ..., causal_p: bool = ...,
        q_scale: Optional[Union[float, Array]] = ..., k_scale: Optional[Union[float, Array]] = ...,
        v_scale: Optional[Union[float, Array]] = ..., return_lse: bool = ..., use_fp16_qk_reduction: bool = ...,
        enable_pdl: Optional[bool] = ...) -> Tuple[Union[Array, Tuple[Array, Array]], Union[Array, Tuple[Array, Array]]]: ...
    def forward(self, q_p: Array, paged_kv_cache_p: Cache, q_d: Array, paged_kv_cache_d: Cache,
        custom_mask_p: Optional[Array] = ..., packed_custom_mask_p: Optional[Array] = ..., causal_p: bool = ...,
        q_scale: Optional[Union[float, Array]] = ..., k_scale: Optional[Union[float, Array]] = ...,
        v_scale: Optional[Union[float, Array]] = ..., return_lse: bool = ..., use_fp16_qk_reduction: bool = ...,
        enable_pdl: Optional[bool] = ...) -> Tuple[Union[Array, Tuple[Array, Array]], Union[Array, Tuple[Array, Array]]]: ...
    def end_forward(self) -> None: ...
    def explain(self) -> str: ...

class PODWithPagedKVCacheWrapper:
    def __init__(self, float_workspace_buffer: Array, kv_layout: str = ..., use_cuda_graph: bool = ...,
        paged_kv_indptr_buffer: Optional[Array] = ..., paged_kv_indices_buffer: Optional[Array] = ...,
        paged_kv_last_page_len_buffer: Optional[Array] = ..., jit_args: Any = ...) -> None: ...
    @property
    def is_cuda_graph_enabled(self) -> bool: ...
    def reset_workspace_buffer(self, float_workspace_buffer: Array, int_workspace_buffer: Optional[Array] = ...) -> None: ...
    def plan(self, indptr: Array, indices: Array, last_page_len: Array, num_qo_heads: int, num_kv_heads: int, head_dim: int,
        page_size: int, pos_encoding_mode: str = ..., window_left: int = ..., q_data_type: Optional[DType] = ...,
        kv_data_type: Optional[DType] = ..., data_type: Optional[DType] = ..., sm_scale: Optional[float] = ...,
        rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ..., non_blocking: bool = ...) -> None: ...
    def begin_forward(self, indptr: Array, indices: Array, last_page_len: Array, num_qo_heads: int, num_kv_heads: int,
        head_dim: int, page_size: int, pos_encoding_mode: str = ..., window_left: int = ...,
        q_data_type: Optional[DType] = ..., kv_data_type: Optional[DType] = ..., data_type: Optional[DType] = ...,
        sm_scale: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
        non_blocking: bool = ...) -> None: ...
    def run(self, q_p: Array, k_p: Array, v_p: Array, q_d: Array, paged_kv_cache_d: Cache,
        custom_mask_p: Optional[Array] = ..., packed_custom_mask_p: Optional[Array] = ..., causal_p: bool = ...,
        kv_layout_p: str = ..., pos_encoding_mode_p: str = ..., sm_scale_p: Optional[float] = ..., window_left_p: int = ...,
        rope_scale_p: Optional[float] = ..., rope_theta_p: Optional[float] = ..., return_lse_p: bool = ...,
        custom_mask_d: Optional[Array] = ..., packed_custom_mask_d: Optional[Array] = ..., causal_d: bool = ...,
        kv_layout_d: str = ..., pos_encoding_mode_d: str = ..., sm_scale_d: Optional[float] = ..., window_left_d: int = ...,
        rope_scale_d: Optional[float] = ..., rope_theta_d: Optional[float] = ..., q_scale: Optional[Union[float,
        Array]] = ..., k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float, Array]] = ...,
        return_lse_d: bool = ..., use_fp16_qk_reduction: bool = ..., enable_pdl: Optional[bool] = ...,
        *args: Any) -> Tuple[Array, Array]: ...
    def forward(self, q_p: Array, k_p: Array, v_p: Array, q_d: Array, paged_kv_cache_d: Cache,
        custom_mask_p: Optional[Array] = ..., packed_custom_mask_p: Optional[Array] = ..., causal_p: bool = ...,
        kv_layout_p: str = ..., pos_encoding_mode_p: str = ..., sm_scale_p: Optional[float] = ..., window_left_p: int = ...,
        rope_scale_p: Optional[float] = ..., rope_theta_p: Optional[float] = ..., return_lse_p: bool = ...,
        custom_mask_d: Optional[Array] = ..., packed_custom_mask_d: Optional[Array] = ..., causal_d: bool = ...,
        kv_layout_d: str = ..., pos_encoding_mode_d: str = ..., sm_scale_d: Optional[float] = ..., window_left_d: int = ...,
        rope_scale_d: Optional[float] = ..., rope_theta_d: Optional[float] = ..., q_scale: Optional[Union[float,
        Array]] = ..., k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float, Array]] = ...,
        return_lse_d: bool = ..., use_fp16_qk_reduction: bool = ..., enable_pdl: Optional[bool] = ...,
        *args: Any) -> Tuple[Array, Array]: ...
    def end_forward(self) -> None: ...
    def explain(self) -> str: ...
