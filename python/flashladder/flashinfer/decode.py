"""FlashInfer's flashinfer.decode: one query a request."""
import functools

from .. import _structs as s
from .. import single as _single
from .. import torch_ops
from .._arrays import on_host
from .._library import refuse
from ._fp8 import by_o_dtype, served, wide_query
from ._hints import layout_of, must_be, number, refuse_foreign
from ._wrapper import Wrapper, config_of, dtypes_of, graph_limits, positive
from .cudnn import cudnn_batch_decode_with_kv_cache
from .trtllm import trtllm_batch_decode_with_kv_cache, xqa_batch_decode_with_kv_cache

__all__ = ["BatchDecodeWithPagedKVCacheWrapper", "CUDAGraphBatchDecodeWithPagedKVCacheWrapper",
           "cudnn_batch_decode_with_kv_cache", "fast_decode_plan", "single_decode_with_kv_cache",
           "trtllm_batch_decode_with_kv_cache", "xqa_batch_decode_with_kv_cache"]


def single_decode_with_kv_cache(q, k, v, kv_layout="NHD", pos_encoding_mode="NONE", use_tensor_cores=False, q_scale=None,
                                k_scale=None, v_scale=None, window_left=-1, logits_soft_cap=None, sm_scale=None,
                                rope_scale=None, rope_theta=None, return_lse=False):
    """One query of one request: o [num_qo_heads, head_dim], or (o, lse), lse f32 [num_qo_heads] to base 2.

    q [num_qo_heads, head_dim], which may be fp8, and o then too; k, v [kv_len, num_kv_heads, head_dim], or with heads first
    (HND). use_tensor_cores is a hint.
    """
    if number(q_scale) != 1.0:
        sm_scale = number(q_scale) * (q.shape[-1] ** -0.5 if sm_scale is None else sm_scale)
    query, code = wide_query(q, k)
    return served(
        1.0, by_o_dtype(_single.single_decode_with_kv_cache), query, k, v, layout_of(kv_layout), positive(sm_scale),
        window_left, logits_soft_cap, pos_encoding_mode, rope_scale, rope_theta, out_code=code, return_lse=return_lse,
        k_scale=k_scale, v_scale=v_scale)


_AFTER_PAGE_SIZE = ("pos_encoding_mode", "window_left", "logits_soft_cap", "q_data_type", "kv_data_type", "o_data_type",
                    "data_type", "sm_scale", "rope_scale", "rope_theta", "non_blocking", "block_tables", "seq_lens",
                    "fixed_split_size", "disable_split_kv", "q_len_per_req")
_OLD_NAMES = {"kv_indptr": "indptr", "kv_indices": "indices", "kv_last_page_len": "last_page_len",
              "paged_kv_indptr": "indptr", "paged_kv_indices": "indices", "paged_kv_last_page_len": "last_page_len",
              "head_dim_qk": "head_dim"}
_DTYPES = ("q_data_type", "kv_data_type", "o_data_type")


def _is_dtype(x):
    return not isinstance(x, (int, float, bool)) and x is not None


def named(positional, names):
    """Positional arguments behind page_size by name. A dtype where window_left stands can only mean dtypes: of q, of K and V,
    of o, in this order."""
    if len(positional) > len(_AFTER_PAGE_SIZE):
        raise TypeError(f"plan() takes at most {7 + len(_AFTER_PAGE_SIZE)} positional arguments")
    order = _AFTER_PAGE_SIZE
    if len(positional) > 1 and _is_dtype(positional[1]):
        order = ("pos_encoding_mode", *_DTYPES)
        if len(positional) > 4 or not all(map(_is_dtype, positional[1:])):
            refuse("window_left", positional[1], "must be an integer")
    for name, value in zip(order, positional):
        if name in names:
            raise TypeError(f"plan() got two values for {name}")
        names[name] = value
    return names


class BatchDecodeWithPagedKVCacheWrapper(Wrapper):
    """Decode over page lists: plan() once a step, run() once a layer.

    float_workspace_buffer  says the device and the kind of array (a hint otherwise)
    use_cuda_graph          with the three buffers, whose sizes are the batch and the most page ids of the graph
    """
    _kind, _graph_kind = s.DECODE, s.GRAPH_DECODE

    def __init__(self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, use_tensor_cores=False,
                 paged_kv_indptr_buffer=None, paged_kv_indices_buffer=None, paged_kv_last_page_len_buffer=None,
                 backend="auto", jit_args=None):
        refuse_foreign(jit_args=jit_args)
        self._start(float_workspace_buffer, kv_layout, use_cuda_graph, backend, use_tensor_cores=use_tensor_cores)
        self.use_tensor_cores = use_tensor_cores
        if use_cuda_graph:
            buffers = (paged_kv_indptr_buffer, paged_kv_indices_buffer, paged_kv_last_page_len_buffer)
            if any(b is None for b in buffers):
                refuse("use_cuda_graph", True, "needs paged_kv_indptr_buffer, paged_kv_indices_buffer and "
                       "paged_kv_last_page_len_buffer, whose sizes are the graph's")
            batch = buffers[2].shape[0]
            if buffers[0].shape[0] != batch + 1:
                refuse("paged_kv_indptr_buffer size", buffers[0].shape[0], f"must be batch + 1 ({batch + 1})")
            self._limits, self._fixed_batch = graph_limits(batch, buffers[1].shape[0]), batch

    def plan(self, indptr=None, indices=None, last_page_len=None, num_qo_heads=None, num_kv_heads=None, head_dim=None,
             page_size=None, *positional, **names):
        """Plans a batch.

        indptr         int32 [batch + 1], pages of each request, cumulative. On the host, or on the device: that is one wait
        indices        int32 [indptr[-1]], page ids
        last_page_len  int32 [batch], tokens in each request's last page
        page_size      left out: that of the cache of the first run()
        pos_encoding_mode, window_left, logits_soft_cap, q_data_type, kv_data_type, o_data_type, data_type, sm_scale,
        rope_scale, rope_theta, fixed_split_size (in pages), disable_split_kv, q_len_per_req (several queries a request,
        causal): as FlashInfer has them. Dtypes that nobody says are those of the arrays of run().
        """
        names = named(positional, names)
        given = {"indptr": indptr, "indices": indices, "last_page_len": last_page_len, "head_dim": head_dim}
        for old in [name for name in names if name in _OLD_NAMES]:
            if given[_OLD_NAMES[old]] is not None:
                raise TypeError(f"plan() got two values for {_OLD_NAMES[old]}: it is also called {old}")
            given[_OLD_NAMES[old]] = names.pop(old)
        for name, value in (*given.items(), ("num_qo_heads", num_qo_heads), ("num_kv_heads", num_kv_heads)):
            if value is None:
                raise TypeError(f"plan() misses {name}")
        self._plan(given["indptr"], given["indices"], given["last_page_len"], num_qo_heads, num_kv_heads,
                   given["head_dim"], page_size, **names)

    begin_forward = plan

    def _plan(self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size,
              pos_encoding_mode="NONE", window_left=-1, window_right=0, logits_soft_cap=None, q_data_type=None,
              kv_data_type=None, o_data_type=None, data_type=None, sm_scale=None, rope_scale=None, rope_theta=None,
              non_blocking=True, block_tables=None, seq_lens=None, fixed_split_size=None, disable_split_kv=False,
              q_len_per_req=1, is_causal=None):
        if page_size is None:
            arguments = {name: value for name, value in locals().items() if name not in ("self", "page_size")}
            self._pending = lambda size: self._plan(page_size=size, **arguments)
            return
        must_be("window_right", window_right, 0, "must be 0: a decode's query is the last token")
        must_be("is_causal", is_causal, None, "must be None: one query sees all keys, several are causal")
        self._note(seq_lens=seq_lens, block_tables=block_tables)
        said = (num_qo_heads, num_kv_heads, head_dim, page_size, pos_encoding_mode, window_left, logits_soft_cap, q_data_type,
                kv_data_type, o_data_type, data_type, sm_scale, rope_scale, rope_theta, fixed_split_size, disable_split_kv,
                q_len_per_req > 1)
        batch = last_page_len.shape[0]
        if self._use_cuda_graph and q_len_per_req != 1:
            refuse("q_len_per_req", q_len_per_req, "must be 1 in a graph: several queries a request are a prefill's "
                   "(BatchPrefillWithPagedKVCacheWrapper)")
        if self._use_cuda_graph and self._fixed_batch is not None and batch != self._fixed_batch:
            refuse("batch", batch, f"must be {self._fixed_batch}, what the graph's buffers are for")

        def config():
            dtypes, self._open_dtypes = dtypes_of(q_data_type, kv_data_type, o_data_type, data_type, "float16")
            policy, chunk = self._policy(fixed_split_size, disable_split_kv, page_size)
            return config_of(num_qo_heads, num_kv_heads, head_dim, page_size, **dtypes, sm_scale=positive(sm_scale),
                             mask="causal" if q_len_per_req > 1 else "none", window_left=window_left,
                             logits_soft_cap=logits_soft_cap, pos_encoding_mode=pos_encoding_mode, rope_scale=rope_scale,
                             rope_theta=rope_theta, policy=policy, chunk_size=chunk)

        kind = self._graph_kind if self._use_cuda_graph else s.PREFILL if q_len_per_req > 1 else self._kind
        attention = self._set_config(said, config, kind, self._limits if self._use_cuda_graph else None)
        self._q_len, self._window_left = q_len_per_req, window_left
        self._page_ids = self._on_device(indices)
        if q_len_per_req > 1:
            attention.plan(*on_host([indptr, last_page_len]), [q_len_per_req * i for i in range(batch + 1)])
        else:
            attention.plan(indptr, last_page_len, page_ids=self._page_ids)
        self._plan_captured()

    def run(self, q, paged_kv_cache, *args, q_scale=None, k_scale=None, v_scale=None, out=None, lse=None, return_lse=False,
            enable_pdl=None, window_left=None, sinks=None, q_len_per_req=None, skip_softmax_threshold_scale_factor=None,
            kv_cache_sf=None):
        """o [batch * q_len_per_req, num_qo_heads, head_dim] of the planned batch, or (o, lse), lse to base 2.

        q               [batch * q_len_per_req, num_qo_heads, head_dim]
        paged_kv_cache  [pages, 2, page_size, num_kv_heads, head_dim] or (K, V) of rank 4, heads before page_size with HND; of
                        rank 3 where pages have one token
        sinks           f32 [num_qo_heads]
        """
        if torch_ops.is_tracing() and not args:
            return self._traced(q, paged_kv_cache, q_scale, k_scale, v_scale, sinks, out, lse, return_lse)
        attention = self._planned(paged_kv_cache)
        if q.dtype is not self._q_dtype_seen:
            attention, q = self._with_dtypes(attention, q, paged_kv_cache)
        if args:
            q, q_scale, k_scale, v_scale = self._by_heads(q, args, (q_scale, k_scale, v_scale))
        if (sinks is not None) is not attention.config.sinks:
            attention = self._rebase(sinks=sinks is not None)
        if q_scale is not None:
            attention = self._scaled(attention, number(q_scale))
        if (enable_pdl or window_left is not None or q_len_per_req is not None
                or skip_softmax_threshold_scale_factor is not None or kv_cache_sf is not None):
            refuse_foreign(kv_cache_sf, skip_softmax_threshold_scale_factor)
            must_be("window_left", window_left, self._window_left, f"must be what was planned ({self._window_left})")
            must_be("q_len_per_req", q_len_per_req, self._q_len, f"must be what was planned ({self._q_len})")
            self._note(enable_pdl=enable_pdl)
        return self._run(attention, q, paged_kv_cache, out, lse, return_lse, sinks, None, False, k_scale, v_scale)

    run_return_lse = functools.partialmethod(run, return_lse=True)

    def forward(self, q, paged_kv_cache, pos_encoding_mode="NONE", q_scale=None, k_scale=None, v_scale=None, window_left=-1,
                logits_soft_cap=None, sm_scale=None, rope_scale=None, rope_theta=None, return_lse=False):
        """The old name of run(); what it says of logits counts in the place of what plan() said."""
        self._planned(paged_kv_cache)
        self._current = self._variant(
            pos_encoding_mode=pos_encoding_mode, window_left=window_left, logits_soft_cap=logits_soft_cap or 0.0,
            sm_scale=positive(sm_scale), rope_scale=rope_scale or 1.0, rope_theta=rope_theta or 1e4)
        self._window_left, self._q_dtype_seen = window_left, None
        return self.run(q, paged_kv_cache, q_scale=q_scale, k_scale=k_scale, v_scale=v_scale, return_lse=return_lse)

    forward_return_lse = functools.partialmethod(forward, return_lse=True)


class CUDAGraphBatchDecodeWithPagedKVCacheWrapper(BatchDecodeWithPagedKVCacheWrapper):
    """The same for CUDA graphs: FlashInfer's three buffers, or max_batch_size= and max_num_pages=, with which batches may
    also be smaller."""

    def __init__(self, workspace_buffer, indptr_buffer=None, indices_buffer=None, last_page_len_buffer=None, kv_layout="NHD",
                 use_tensor_cores=False, *, max_batch_size=None, max_num_pages=None):
        if (max_batch_size is None) != (max_num_pages is None):
            refuse("max_batch_size", max_batch_size, "must be given together with max_num_pages")
        by_number = max_batch_size is not None
        if by_number and any(b is not None for b in (indptr_buffer, indices_buffer, last_page_len_buffer)):
            refuse("max_batch_size", max_batch_size, "stands in the place of the three buffers, not beside them")
        super().__init__(workspace_buffer, kv_layout, not by_number, use_tensor_cores, indptr_buffer, indices_buffer,
                         last_page_len_buffer)
        if by_number:
            self._use_cuda_graph, self._fixed_batch = True, None
            self._limits = graph_limits(max_batch_size, max_num_pages)


def fast_decode_plan(self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size,
                     pos_encoding_mode="NONE", window_left=-1, logits_soft_cap=None, q_data_type=None, kv_data_type=None,
                     data_type=None, sm_scale=None, rope_scale=None, rope_theta=None, non_blocking=True,
                     fixed_split_size=None, disable_split_kv=False, q_len_per_req=1, global_override_indptr_cpu=None):
    """wrapper.plan(), which is fast; global_override_indptr_cpu is indptr on the host."""
    BatchDecodeWithPagedKVCacheWrapper.plan(  # servers put this function in the place of their wrapper's own plan
        self, indptr if global_override_indptr_cpu is None else global_override_indptr_cpu, indices, last_page_len,
        num_qo_heads, num_kv_heads, head_dim, page_size, pos_encoding_mode=pos_encoding_mode, window_left=window_left,
        logits_soft_cap=logits_soft_cap, q_data_type=q_data_type, kv_data_type=kv_data_type, data_type=data_type,
        sm_scale=sm_scale, rope_scale=rope_scale, rope_theta=rope_theta, fixed_split_size=fixed_split_size,
        disable_split_kv=disable_split_kv, q_len_per_req=q_len_per_req)
