"""FlashInfer's flashinfer.cascade: merging states, and prefixes that requests share."""
from .. import operations as _operations
from .._arrays import family_of, name_of_dtype, on_host
from .._library import InputError, refuse
from ..cascade import CUDAGraphMultiLevelCascadeAttention, MultiLevelCascadeAttention
from ._hints import layout_of, must_be
from ._wrapper import EarlierObjects, config_of, graph_limits, positive
from .decode import BatchDecodeWithPagedKVCacheWrapper
from .prefill import BatchPrefillWithPagedKVCacheWrapper, single_prefill_with_kv_cache_return_lse

__all__ = ["BatchDecodeWithSharedPrefixPagedKVCacheWrapper", "BatchPrefillWithSharedPrefixPagedKVCacheWrapper",
           "MultiLevelCascadeAttentionWrapper", "merge_state", "merge_state_in_place", "merge_states"]

merge_state = _operations.merge_state
merge_states = _operations.merge_states


def merge_state_in_place(v, s, v_other, s_other, mask=None):
    """Merges (v_other, s_other) into v [n, heads, dim] and s f32 [n, heads]; rows whose mask is false stay as they are."""
    _operations.merge_state_in_place(v, s, v_other, s_other, mask)


class MultiLevelCascadeAttentionWrapper:
    """Prefixes that requests share, level by level, the most shared one first (docs/17_cascades.md).

    use_cuda_graph  with four lists of a buffer for each level, whose sizes are the groups and the most page ids of the graph;
                    the first plan() says how many queries there are at most. Padding is groups without queries
    """

    def __init__(self, num_levels, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, qo_indptr_buf_arr=None,
                 paged_kv_indptr_buf_arr=None, paged_kv_indices_buf_arr=None, paged_kv_last_page_len_buf_arr=None):
        self._num_levels, self._like, self._layout = num_levels, float_workspace_buffer, layout_of(kv_layout)
        self._said = self._cascade = self._graph = self._limits = None
        self._earlier = EarlierObjects(use_cuda_graph)
        if not use_cuda_graph:
            return
        buffers = (qo_indptr_buf_arr, paged_kv_indptr_buf_arr, paged_kv_indices_buf_arr, paged_kv_last_page_len_buf_arr)
        if any(b is None or len(b) != num_levels for b in buffers):
            refuse("use_cuda_graph", True, "needs qo_indptr_buf_arr, paged_kv_indptr_buf_arr, paged_kv_indices_buf_arr and "
                   "paged_kv_last_page_len_buf_arr, a buffer for each level, whose sizes are the graph's")
        self._graph = [(last.shape[0], ids.shape[0]) for last, ids in zip(buffers[3], buffers[2])]

    @property
    def is_cuda_graph_enabled(self):
        return self._graph is not None

    def reset_workspace_buffer(self, float_workspace_buffer, int_workspace_buffers=None):
        """A hint: plans and partial results lie in memory of the wrapper's own."""

    def plan(self, qo_indptr_arr, paged_kv_indptr_arr, paged_kv_indices_arr, paged_kv_last_page_len, num_qo_heads,
             num_kv_heads, head_dim, page_size, causal=False, pos_encoding_mode="NONE", use_fp16_qk_reduction=False,
             sm_scale=None, window_left=-1, logits_soft_cap=None, rope_scale=None, rope_theta=None, q_data_type="float16",
             kv_data_type=None):
        """Plans a batch: lists of num_levels arrays, each level's as a paged prefill has them. causal is of the last level."""
        self._note_graph(qo_indptr_arr, paged_kv_last_page_len)
        said = (num_qo_heads, num_kv_heads, head_dim, page_size, causal, pos_encoding_mode, sm_scale, window_left,
                logits_soft_cap, rope_scale, rope_theta, q_data_type, kv_data_type)
        if said != self._said:
            config = config_of(
                num_qo_heads, num_kv_heads, head_dim, page_size, q_dtype=name_of_dtype(q_data_type),
                kv_dtype=name_of_dtype(kv_data_type if kv_data_type is not None else q_data_type),
                sm_scale=positive(sm_scale), mask="causal" if causal else "none", window_left=window_left,
                logits_soft_cap=logits_soft_cap, pos_encoding_mode=pos_encoding_mode, rope_scale=rope_scale,
                rope_theta=rope_theta)
            self._earlier.keep(self._said, self._cascade)
            self._cascade = self._earlier.take(said, lambda: (
                MultiLevelCascadeAttention(self._num_levels, config, self._like, self._layout) if self._graph is None else
                CUDAGraphMultiLevelCascadeAttention(config, self._limits, self._like, self._layout)))
            self._said = said
        self._cascade.plan(qo_indptr_arr, paged_kv_indptr_arr, paged_kv_last_page_len, paged_kv_indices_arr)

    begin_forward = plan

    def _note_graph(self, qo_indptr_arr, paged_kv_last_page_len):
        """A graph's object is made for the queries of its first plan()."""
        if self._graph is None:
            return
        for level, ((groups, _), last) in enumerate(zip(self._graph, paged_kv_last_page_len)):
            if last.shape[0] != groups:
                refuse(f"level {level}: groups", last.shape[0], f"must be {groups}, what the graph's buffers are for")
        if self._limits is None:
            rows = int(on_host([qo_indptr_arr[-1]])[0][-1])
            self._limits = [graph_limits(groups, pages, rows) for groups, pages in self._graph]

    def run(self, q, paged_kv_cache):
        """o [rows, num_qo_heads, head_dim] of q over the keys of all levels."""
        if self._cascade is None:
            raise InputError("run() must come after plan()")
        return self._cascade.run(q, paged_kv_cache)

    forward = run

    def prewarm_paged_kv_stride_variant(self, variant="independent"):
        """A hint: no code is compiled at run time."""

    def end_forward(self):
        """Nothing to do; FlashInfer's old name."""

    def explain(self):
        """A line for each level."""
        return self._cascade.explain() if self._cascade is not None else "Nothing is planned yet."


class BatchDecodeWithSharedPrefixPagedKVCacheWrapper:
    """Decode in which all requests share k_shared and v_shared, and have pages of their own behind them."""

    def __init__(self, float_workspace_buffer, kv_layout="NHD"):
        self._own, self._layout = BatchDecodeWithPagedKVCacheWrapper(float_workspace_buffer, kv_layout), kv_layout

    def reset_workspace_buffer(self, float_workspace_buffer, int_workspace_buffer=None):
        """A hint."""

    def begin_forward(self, unique_kv_indptr, unique_kv_indices, unique_kv_last_page_len, num_qo_heads, num_kv_heads, head_dim,
                      page_size, data_type="float16"):
        """Plans the requests' own pages."""
        self._own.plan(unique_kv_indptr, unique_kv_indices, unique_kv_last_page_len, num_qo_heads, num_kv_heads, head_dim,
                       page_size, q_data_type=data_type, kv_data_type=data_type)

    def forward(self, q, k_shared, v_shared, unique_kv_cache):
        """o [batch, num_qo_heads, head_dim]; k_shared, v_shared [shared_len, num_kv_heads, head_dim] or heads first (HND)."""
        v_a, s_a = single_prefill_with_kv_cache_return_lse(q, k_shared, v_shared, causal=False, kv_layout=self._layout)
        return _operations.merge_state(v_a, s_a, *self._own.run(q, unique_kv_cache, return_lse=True))[0]

    def end_forward(self):
        """Nothing to do; FlashInfer's old name."""


class BatchPrefillWithSharedPrefixPagedKVCacheWrapper:
    """Prefill in which all requests share k_shared and v_shared, and have pages of their own behind them."""

    def __init__(self, float_workspace_buffer, kv_layout="NHD"):
        self._own, self._layout = BatchPrefillWithPagedKVCacheWrapper(float_workspace_buffer, kv_layout), kv_layout

    def reset_workspace_buffer(self, float_workspace_buffer, int_workspace_buffer=None):
        """A hint."""

    def begin_forward(self, qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, num_qo_heads, num_kv_heads,
                      head_dim, page_size):
        """Plans the requests' own pages."""
        self._own.plan(qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, num_qo_heads, num_kv_heads,
                       head_dim, page_size)

    def forward(self, q, k_shared, v_shared, unique_kv_cache, causal=False, use_fp16_qk_reduction=False, sm_scale=None,
                rope_scale=None, rope_theta=None):
        """o [rows, num_qo_heads, head_dim]; causal among the requests' own keys."""
        for name, value in (("rope_scale", rope_scale), ("rope_theta", rope_theta)):
            must_be(name, value, None, "must be None: a prefix of another request's positions is not rotated here")
        v_a, s_a = single_prefill_with_kv_cache_return_lse(q, k_shared, v_shared, causal=False, kv_layout=self._layout,
                                                           sm_scale=sm_scale)
        own = self._own.forward_return_lse(q, unique_kv_cache, causal=causal, sm_scale=sm_scale)
        return _operations.merge_state(v_a, s_a, *own)[0]

    def end_forward(self):
        """Nothing to do; FlashInfer's old name."""
