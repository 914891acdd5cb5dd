# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

class BatchPrefillWithPagedKVCacheWrapper:
    def __init__(self, float_workspace_buffer: Array, kv_layout: str = ..., use_cuda_graph: bool = ...,
        qo_indptr_buf: Optional[Array] = ..., paged_kv_indptr_buf: Optional[Array] = ...,
        paged_kv_indices_buf: Optional[Array] = ..., paged_kv_last_page_len_buf: Optional[Array] = ...,
        custom_mask_buf: Optional[Array] = ..., mask_indptr_buf: Optional[Array] = ..., backend: str = ...,
        jit_args: Any = ..., jit_kwargs: Any = ..., variant_owns_mask: bool = ...) -> None: ...
    def plan(self, qo_indptr: Optional[Array] = ..., paged_kv_indptr: Optional[Array] = ...,
        paged_kv_indices: Optional[Array] = ..., paged_kv_last_page_len: Optional[Array] = ...,
        num_qo_heads: Optional[int] = ..., num_kv_heads: Optional[int] = ..., head_dim_qk: Optional[int] = ...,
        page_size: Optional[int] = ..., head_dim_vo: Optional[int] = ..., custom_mask: Optional[Array] = ...,
        packed_custom_mask: Optional[Array] = ..., causal: bool = ..., pos_encoding_mode: str = ...,
        use_fp16_qk_reduction: bool = ..., sm_scale: Optional[float] = ..., window_left: int = ...,
        logits_soft_cap: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
        q_data_type: Optional[DType] = ..., kv_data_type: Optional[DType] = ..., o_data_type: Optional[DType] = ...,
        non_blocking: bool = ..., prefix_len_ptr: Optional[Array] = ..., token_pos_in_items_ptr: Optional[Array] = ...,
        token_pos_in_items_len: int = ..., max_item_len_ptr: Optional[Array] = ..., seq_lens: Optional[Array] = ...,
        seq_lens_q: Optional[Array] = ..., block_tables: Optional[Array] = ..., max_token_per_sequence: Optional[int] = ...,
        max_sequence_kv: Optional[int] = ..., fixed_split_size: Optional[int] = ..., disable_split_kv: bool = ...,
        uniform_q_len: Optional[int] = ..., data_type: Optional[DType] = ..., **old_names: Any) -> None: ...
    def begin_forward(self, qo_indptr: Optional[Array] = ..., paged_kv_indptr: Optional[Array] = ...,
        paged_kv_indices: Optional[Array] = ..., paged_kv_last_page_len: Optional[Array] = ...,
        num_qo_heads: Optional[int] = ..., num_kv_heads: Optional[int] = ..., head_dim_qk: Optional[int] = ...,
        page_size: Optional[int] = ..., head_dim_vo: Optional[int] = ..., custom_mask: Optional[Array] = ...,
        packed_custom_mask: Optional[Array] = ..., causal: bool = ..., pos_encoding_mode: str = ...,
        use_fp16_qk_reduction: bool = ..., sm_scale: Optional[float] = ..., window_left: int = ...,
        logits_soft_cap: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
        q_data_type: Optional[DType] = ..., kv_data_type: Optional[DType] = ..., o_data_type: Optional[DType] = ...,
        non_blocking: bool = ..., prefix_len_ptr: Optional[Array] = ..., token_pos_in_items_ptr: Optional[Array] = ...,
        token_pos_in_items_len: int = ..., max_item_len_ptr: Optional[Array] = ..., seq_lens: Optional[Array] = ...,
        seq_lens_q: Optional[Array] = ..., block_tables: Optional[Array] = ..., max_token_per_sequence: Optional[int] = ...,
        max_sequence_kv: Optional[int] = ..., fixed_split_size: Optional[int] = ..., disable_split_kv: bool = ...,
        uniform_q_len: Optional[int] = ..., data_type: Optional[DType] = ..., **old_names: Any) -> None: ...
    def run(self, q: Array, paged_kv_cache: Cache, *args: Any, q_scale: Optional[Union[float, Array]] = ...,
        k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float, Array]] = ...,
        out: Optional[Array] = ..., lse: Optional[Array] = ..., return_lse: bool = ..., lse_base: str = ...,
        lse_layout: str = ..., enable_pdl: Optional[bool] = ..., window_left: Optional[int] = ...,
        sinks: Optional[Array] = ..., kv_cache_sf: Optional[Array] = ...,
        skip_softmax_threshold_scale_factor: Optional[float] = ..., use_fp16_softmax: Optional[bool] = ...,
        uses_spcompress: Optional[bool] = ...) -> Union[Array, Tuple[Array, Array]]: ...
    def run_return_lse(self, q: Array, paged_kv_cache: Cache, *args: Any, q_scale: Optional[Union[float, Array]] = ...,
        k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float, Array]] = ...,
        out: Optional[Array] = ..., lse: Optional[Array] = ..., return_lse: bool = ..., lse_base: str = ...,
        lse_layout: str = ..., enable_pdl: Optional[bool] = ..., window_left: Optional[int] = ...,
        sinks: Optional[Array] = ..., kv_cache_sf: Optional[Array] = ...,
        skip_softmax_threshold_scale_factor: Optional[float] = ..., use_fp16_softmax: Optional[bool] = ...,
        uses_spcompress: Optional[bool] = ...) -> Tuple[Array, Array]: ...
    def forward(self, q: Array, paged_kv_cache: Cache, causal: bool = ..., pos_encoding_mode: str = ...,
        use_fp16_qk_reduction: bool = ..., k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float,
        Array]] = ..., window_left: int = ..., logits_soft_cap: Optional[float] = ..., sm_scale: Optional[float] = ...,
        rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ..., return_lse: bool = ...) -> Array: ...
    def forward_return_lse(self, q: Array, paged_kv_cache: Cache, causal: bool = ..., pos_encoding_mode: str = ...,
        use_fp16_qk_reduction: bool = ..., k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float,
        Array]] = ..., window_left: int = ..., logits_soft_cap: Optional[float] = ..., sm_scale: Optional[float] = ...,
        rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ..., return_lse: bool = ...) -> Tuple[Array,
        Array]: ...
    @property
    def is_cuda_graph_enabled(self) -> bool: ...
    def reset_workspace_buffer(self, float_workspace_buffer: Array, int_workspace_buffer: Optional[Array] = ...) -> None: ...
    def prewarm_paged_kv_stride_variant(self, variant: str = ...) -> None: ...
    def explain(self) -> str: ...
    def end_forward(self) -> None: ...

class BatchPrefillWithRaggedKVCacheWrapper:
    def __init__(self, float_workspace_buffer: Array, kv_layout: str = ..., use_cuda_graph: bool = ...,
        qo_indptr_buf: Optional[Array] = ..., kv_indptr_buf: Optional[Array] = ..., custom_mask_buf: Optional[Array] = ...,
        mask_indptr_buf: Optional[Array] = ..., backend: str = ..., jit_args: Any = ..., jit_kwargs: Any = ...,
        variant_owns_mask: bool = ...) -> None: ...
    def plan(self, qo_indptr: Array, kv_indptr: Array, num_qo_heads: int, num_kv_heads: int,
        head_dim_qk: Optional[int] = ..., head_dim_vo: Optional[int] = ..., custom_mask: Optional[Array] = ...,
        packed_custom_mask: Optional[Array] = ..., causal: bool = ..., pos_encoding_mode: str = ...,
        use_fp16_qk_reduction: bool = ..., window_left: int = ..., logits_soft_cap: Optional[float] = ...,
        sm_scale: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
        q_data_type: Optional[DType] = ..., kv_data_type: Optional[DType] = ..., o_data_type: Optional[DType] = ...,
        non_blocking: bool = ..., prefix_len_ptr: Optional[Array] = ..., token_pos_in_items_ptr: Optional[Array] = ...,
        token_pos_in_items_len: int = ..., max_item_len_ptr: Optional[Array] = ..., fixed_split_size: Optional[int] = ...,
        disable_split_kv: bool = ..., seq_lens: Optional[Array] = ..., seq_lens_q: Optional[Array] = ...,
        max_token_per_sequence: Optional[int] = ..., max_sequence_kv: Optional[int] = ..., v_indptr: Optional[Array] = ...,
        o_indptr: Optional[Array] = ..., uniform_q_len: Optional[int] = ..., data_type: Optional[DType] = ...,
        head_dim: Optional[int] = ...) -> None: ...
    def begin_forward(self, qo_indptr: Array, kv_indptr: Array, num_qo_heads: int, num_kv_heads: int,
        head_dim_qk: Optional[int] = ..., head_dim_vo: Optional[int] = ..., custom_mask: Optional[Array] = ...,
        packed_custom_mask: Optional[Array] = ..., causal: bool = ..., pos_encoding_mode: str = ...,
        use_fp16_qk_reduction: bool = ..., window_left: int = ..., logits_soft_cap: Optional[float] = ...,
        sm_scale: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
        q_data_type: Optional[DType] = ..., kv_data_type: Optional[DType] = ..., o_data_type: Optional[DType] = ...,
        non_blocking: bool = ..., prefix_len_ptr: Optional[Array] = ..., token_pos_in_items_ptr: Optional[Array] = ...,
        token_pos_in_items_len: int = ..., max_item_len_ptr: Optional[Array] = ..., fixed_split_size: Optional[int] = ...,
        disable_split_kv: bool = ..., seq_lens: Optional[Array] = ..., seq_lens_q: Optional[Array] = ...,
        max_token_per_sequence: Optional[int] = ..., max_sequence_kv: Optional[int] = ..., v_indptr: Optional[Array] = ...,
        o_indptr: Optional[Array] = ..., uniform_q_len: Optional[int] = ..., data_type: Optional[DType] = ...,
        head_dim: Optional[int] = ...) -> None: ...
    def run(self, q: Array, k: Array, v: Array, *args: Any, q_scale: Optional[Union[float, Array]] = ...,
        k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float, Array]] = ...,
        o_scale: Optional[float] = ..., out: Optional[Array] = ..., lse: Optional[Array] = ..., return_lse: bool = ...,
        lse_base: str = ..., lse_layout: str = ..., enable_pdl: Optional[bool] = ...,
        kv_cache_sf: Optional[Array] = ...) -> Union[Array, Tuple[Array, Array]]: ...
    def run_return_lse(self, q: Array, k: Array, v: Array, *args: Any, q_scale: Optional[Union[float, Array]] = ...,
        k_scale: Optional[Union[float, Array]] = ..., v_scale: Optional[Union[float, Array]] = ...,
        o_scale: Optional[float] = ..., out: Optional[Array] = ..., lse: Optional[Array] = ..., return_lse: bool = ...,
        lse_base: str = ..., lse_layout: str = ..., enable_pdl: Optional[bool] = ...,
        kv_cache_sf: Optional[Array] = ...) -> Tuple[Array, Array]: ...
    def forward(self, q: Array, k: Array, v: Array, causal: bool = ..., pos_encoding_mode: str = ...,
        use_fp16_qk_reduction: bool = ..., window_left: int = ..., logits_soft_cap: Optional[float] = ...,
        sm_scale: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
        return_lse: bool = ...) -> Array: ...
    def forward_return_lse(self, q: Array, k: Array, v: Array, causal: bool = ..., pos_encoding_mode: str = ...,
        use_fp16_qk_reduction: bool = ..., window_left: int = ..., logits_soft_cap: Optional[float] = ...,
        sm_scale: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
        return_lse: bool = ...) -> Tuple[Array, Array]: ...
    @property
    def is_cuda_graph_enabled(self) -> bool: ...
    def reset_workspace_buffer(self, float_workspace_buffer: Array, int_workspace_buffer: Optional[Array] = ...) -> None: ...
    def prewarm_paged_kv_stride_variant(self, variant: str = ...) -> None: ...
    def explain(self) -> str: ...
    def end_forward(self) -> None: ...

def cudnn_batch_prefill_with_kv_cache(q: Array, k_cache: Array, v_cache: Array, scale: Union[float, Array],
    workspace_buffer: Array, *, max_token_per_sequence: int, max_sequence_kv: int, actual_seq_lens_q: Optional[Array] = ...,
    actual_seq_lens_kv: Optional[Array] = ..., block_tables: Optional[Array] = ..., causal: bool, return_lse: bool,
    q_scale: Optional[Union[float, Array]] = ..., k_scale: Optional[Union[float, Array]] = ...,
    v_scale: Optional[Union[float, Array]] = ..., batch_offsets_q: Optional[Array] = ...,
    batch_offsets_o: Optional[Array] = ..., batch_offsets_k: Optional[Array] = ..., batch_offsets_v: Optional[Array] = ...,
    batch_offsets_stats: Optional[Array] = ..., batch_offsets_units: str = ..., out: Optional[Array] = ...,
    lse: Optional[Array] = ..., is_cuda_graph_compatible: bool = ..., backend: Optional[str] = ...,
    o_data_type: Optional[DType] = ..., lse_base: str = ...) -> Tuple[Array, Optional[Array]]: ...

def single_prefill_with_kv_cache(q: Array, k: Array, v: Array, scale_q: Optional[Array] = ...,
    scale_k: Optional[Array] = ..., scale_v: Optional[Array] = ..., o_dtype: Optional[DType] = ...,
    custom_mask: Optional[Array] = ..., packed_custom_mask: Optional[Array] = ..., causal: bool = ..., kv_layout: str = ...,
    pos_encoding_mode: str = ..., use_fp16_qk_reduction: bool = ..., sm_scale: Optional[float] = ..., window_left: int = ...,
    logits_soft_cap: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
    backend: str = ..., return_lse: bool = ..., kv_cache_sf: Optional[Array] = ..., k_scale: Optional[Union[float,
    Array]] = ..., v_scale: Optional[Union[float, Array]] = ...) -> Union[Array, Tuple[Array, Array]]: ...

def single_prefill_with_kv_cache_return_lse(q: Array, k: Array, v: Array, scale_q: Optional[Array] = ...,
    scale_k: Optional[Array] = ..., scale_v: Optional[Array] = ..., o_dtype: Optional[DType] = ...,
    custom_mask: Optional[Array] = ..., packed_custom_mask: Optional[Array] = ..., causal: bool = ..., kv_layout: str = ...,
    pos_encoding_mode: str = ..., use_fp16_qk_reduction: bool = ..., sm_scale: Optional[float] = ..., window_left: int = ...,
    logits_soft_cap: Optional[float] = ..., rope_scale: Optional[float] = ..., rope_theta: Optional[float] = ...,
    backend: str = ..., *, return_lse: bool = ..., kv_cache_sf: Optional[Array] = ..., k_scale: Optional[Union[float,
    Array]] = ..., v_scale: Optional[Union[float, Array]] = ...) -> Tuple[Array, Array]: ...

def trtllm_batch_context_with_kv_cache(query: Array, kv_cache: Cache, workspace_buffer: Array, block_tables: Array,
    seq_lens: Array, max_q_len: int, max_kv_len: int, bmm1_scale: float, bmm2_scale: float, batch_size: int,
    cum_seq_lens_q: Array, cum_seq_lens_kv: Array, window_left: int = ..., out: Optional[Array] = ...,
    out_dtype: Optional[DType] = ..., o_sf_scale: Optional[float] = ..., o_sf_vec_size: Optional[int] = ...,
    kv_layout: str = ..., enable_pdl: Optional[bool] = ..., sinks: Optional[Array] = ..., kv_cache_sf: Optional[Array] = ...,
    skip_softmax_threshold_scale_factor: Optional[float] = ..., uses_shared_paged_kv_idx: bool = ..., causal: bool = ...,
    lse: Optional[Array] = ..., return_lse: bool = ..., multi_ctas_kv_counter_buffer: Optional[Array] = ...,
    use_fp16_softmax: Optional[bool] = ..., uses_spcompress: Optional[bool] = ..., backend: str = ...) -> Union[Array,
    Tuple[Array, Array]]: ...

def trtllm_ragged_attention_deepseek(query: Array, key: Array, value: Array, workspace_buffer: Array, seq_lens: Array,
    max_q_len: int, max_kv_len: int, bmm1_scale: float, bmm2_scale: float, o_sf_scale: float, batch_size: int,
    window_left: int, cum_seq_lens_q: Array, cum_seq_lens_kv: Array, enable_pdl: bool, is_causal: bool, return_lse: bool,
    attention_sinks: Optional[Array] = ..., skip_softmax_threshold_scale_factor: Optional[float] = ...,
    out: Optional[Array] = ..., lse: Optional[Array] = ..., sage_attn_sfs: Any = ..., num_elts_per_sage_attn_blk: Any = ...,
    backend: str = ..., q_seq_lens_cpu: Optional[Array] = ..., kv_seq_lens_cpu: Optional[Array] = ...,
    use_fp16_softmax: Optional[bool] = ..., uses_spcompress: Optional[bool] = ...,
    skip_all_rows_active_check: bool = ...) -> Union[Array, Tuple[Array, Array]]: ...
