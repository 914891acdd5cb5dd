"""FlashInfer's flashinfer.prefill: many queries a request."""
import functools

from .. import _structs as s
from .. import single as _single
from .. import torch_ops
from .._arrays import dtype_code, family_of, on_host
from .._library import refuse
from ._fp8 import by_o_dtype, scaled_by_heads, served, wide_query
from ._hints import layout_of, must_be, number, refuse_foreign
from ._items import items_of
from ._lengths import must_say_the_same
from ._masks import packed_mask_of
from ._prefill_base import PrefillBase
from ._wrapper import positive
from .cudnn import cudnn_batch_prefill_with_kv_cache
from .trtllm import trtllm_batch_context_with_kv_cache, trtllm_ragged_attention_deepseek

__all__ = ["BatchPrefillWithPagedKVCacheWrapper", "BatchPrefillWithRaggedKVCacheWrapper",
           "cudnn_batch_prefill_with_kv_cache", "single_prefill_with_kv_cache", "single_prefill_with_kv_cache_return_lse",
           "trtllm_batch_context_with_kv_cache", "trtllm_ragged_attention_deepseek"]


def single_prefill_with_kv_cache(q, k, v, scale_q=None, scale_k=None, scale_v=None, o_dtype=None, custom_mask=None,
                                 packed_custom_mask=None, causal=False, kv_layout="NHD", pos_encoding_mode="NONE",
                                 use_fp16_qk_reduction=False, sm_scale=None, window_left=-1, logits_soft_cap=None,
                                 rope_scale=None, rope_theta=None, backend="auto", return_lse=False, kv_cache_sf=None,
                                 k_scale=None, v_scale=None):
    """The last tokens of one request: o [qo_len, num_qo_heads, head_dim], or (o, lse), lse f32 [qo_len, heads] to base 2.

    q [qo_len, num_qo_heads, head_dim]; k, v [kv_len, num_kv_heads, head_dim], or with heads first (HND).
    custom_mask bool [qo_len, kv_len], or its bits in packed_custom_mask, little-endian; causal does not count then.
    q may be fp8; then so is o, unless o_dtype says another, and scale_q [num_qo_heads], scale_k and scale_v [num_kv_heads] are
    scales of heads, or numbers.
    """
    refuse_foreign(kv_cache_sf)
    code = None if o_dtype is None else dtype_code(o_dtype, "o_dtype")
    query, code = wide_query(q, k, None, code)
    if query is q:
        refuse_foreign(scale_q=scale_q, scale_k=scale_k, scale_v=scale_v)
    else:
        for name, x, beside, y in (("k_scale", k_scale, "scale_k", scale_k), ("v_scale", v_scale, "scale_v", scale_v)):
            if x is not None and y is not None:
                refuse(name, x, f"must be None beside {beside}")
        if scale_q is not None or scale_k is not None:
            query = scaled_by_heads(query, scale_q, scale_k, k.shape[1 if kv_layout == "NHD" else 0])
    if packed_custom_mask is not None:
        kv_len = k.shape[0] if kv_layout == "NHD" else k.shape[1]
        custom_mask = packed_mask_of(packed_custom_mask, [q.shape[0] * kv_len])
    return served(
        1.0, by_o_dtype(_single.single_prefill_with_kv_cache), query, k, v, causal, layout_of(kv_layout), custom_mask,
        positive(sm_scale), window_left, logits_soft_cap, pos_encoding_mode, rope_scale, rope_theta, out_code=code,
        return_lse=return_lse, k_scale=k_scale, v_scale=v_scale if scale_v is None else scale_v)


single_prefill_with_kv_cache_return_lse = functools.partial(single_prefill_with_kv_cache, return_lse=True)


class BatchPrefillWithPagedKVCacheWrapper(PrefillBase):
    """Prefill and append over page lists: plan() once a step, run() once a layer.

    float_workspace_buffer  says the device and the kind of array (a hint otherwise)
    use_cuda_graph          with the four buffers, whose sizes are the batch and the most page ids of the graph; the first
                            plan() says how many queries there are at most
    custom_mask_buf         of a graph with masks: uint8, where plan() writes their bits, and replays read them
    backend                 fa2 or fa3: that kernel on the GPU; others are auto
    """
    _kind, _graph_kind = s.PREFILL, s.GRAPH_PREFILL

    def __init__(self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, qo_indptr_buf=None,
                 paged_kv_indptr_buf=None, paged_kv_indices_buf=None, paged_kv_last_page_len_buf=None, custom_mask_buf=None,
                 mask_indptr_buf=None, backend="auto", jit_args=None, jit_kwargs=None, variant_owns_mask=False):
        refuse_foreign(jit_args=jit_args, jit_kwargs=jit_kwargs)
        must_be("variant_owns_mask", variant_owns_mask, False, "must be False: no code is compiled at run time")
        self._start(float_workspace_buffer, kv_layout, use_cuda_graph, backend)
        if use_cuda_graph:
            buffers = (qo_indptr_buf, paged_kv_indptr_buf, paged_kv_indices_buf, paged_kv_last_page_len_buf)
            if any(b is None for b in buffers):
                refuse("use_cuda_graph", True, "needs qo_indptr_buf, paged_kv_indptr_buf, paged_kv_indices_buf and "
                       "paged_kv_last_page_len_buf, whose sizes are the graph's")
            self._graph_batch, self._graph_pages = buffers[3].shape[0], buffers[2].shape[0]
            self._take_mask_buffer(custom_mask_buf)

    def plan(self, qo_indptr=None, paged_kv_indptr=None, paged_kv_indices=None, paged_kv_last_page_len=None,
             num_qo_heads=None, num_kv_heads=None, head_dim_qk=None, page_size=None, head_dim_vo=None, custom_mask=None,
             packed_custom_mask=None, causal=False, pos_encoding_mode="NONE", use_fp16_qk_reduction=False, sm_scale=None,
             window_left=-1, logits_soft_cap=None, rope_scale=None, rope_theta=None, q_data_type=None, kv_data_type=None,
             o_data_type=None, non_blocking=True, prefix_len_ptr=None, token_pos_in_items_ptr=None, token_pos_in_items_len=0,
             max_item_len_ptr=None, seq_lens=None, seq_lens_q=None, block_tables=None, max_token_per_sequence=None,
             max_sequence_kv=None, fixed_split_size=None, disable_split_kv=False, uniform_q_len=None, data_type=None,
             **old_names):
        """Plans a batch.

        qo_indptr               int32 [batch + 1], queries of each request, cumulative. Lengths may lie on the host, or on
        paged_kv_indptr         int32 [batch + 1], pages, cumulative                     the device: that is one wait
        paged_kv_indices        int32 [paged_kv_indptr[-1]], page ids
        paged_kv_last_page_len  int32 [batch], tokens in each request's last page
        page_size               left out: that of the cache of the first run()
        custom_mask             bool, [qo_len, kv_len] of each request one after the other; packed_custom_mask: its bits,
                                each request's padded to a byte. causal does not count then
        prefix_len_ptr          int32 [batch]: each sequence is a prefix and items behind it, which do not see each other.
                                token_pos_in_items_ptr [batch * token_pos_in_items_len]: of each token behind the prefix, its
                                position in its item (0: a delimiter, which sees the prefix alone). No other mask counts then
        fixed_split_size        pages of a piece; disable_split_kv: requests stay whole
        head_dim=, kv_indptr=, kv_indices=, kv_last_page_len=: the old names. Dtypes that nobody says are those of run()'s.
        """
        names = {"qo_indptr": qo_indptr, "paged_kv_indptr": paged_kv_indptr, "paged_kv_indices": paged_kv_indices,
                 "paged_kv_last_page_len": paged_kv_last_page_len, "num_qo_heads": num_qo_heads,
                 "num_kv_heads": num_kv_heads, "head_dim_qk": head_dim_qk}
        for old, name in (("kv_indptr", "paged_kv_indptr"), ("kv_indices", "paged_kv_indices"),
                          ("kv_last_page_len", "paged_kv_last_page_len"), ("head_dim", "head_dim_qk")):
            if old in old_names:
                if names[name] is not None:
                    raise TypeError(f"plan() got two values for {name}: it is also called {old}")
                names[name] = old_names.pop(old)
        if old_names:
            raise TypeError(f"plan() knows no argument {next(iter(old_names))}")
        for name, value in names.items():
            if value is None:
                raise TypeError(f"plan() misses {name}")
        items = items_of(prefix_len_ptr, token_pos_in_items_ptr, token_pos_in_items_len, max_item_len_ptr)
        self._note(seq_lens=seq_lens, seq_lens_q=seq_lens_q, block_tables=block_tables, max_item_len_ptr=max_item_len_ptr,
                   max_token_per_sequence=max_token_per_sequence, max_sequence_kv=max_sequence_kv,
                   use_fp16_qk_reduction=use_fp16_qk_reduction, uniform_q_len=uniform_q_len)
        self._plan_pages(tuple(names[n] for n in ("qo_indptr", "paged_kv_indptr", "paged_kv_indices",
                                                  "paged_kv_last_page_len")),
                         (names["num_qo_heads"], names["num_kv_heads"], names["head_dim_qk"]), page_size, head_dim_vo,
                         (custom_mask, packed_custom_mask, items),
                         (causal, pos_encoding_mode, sm_scale, window_left, logits_soft_cap, rope_scale, rope_theta),
                         (q_data_type, kv_data_type, o_data_type, data_type), fixed_split_size, disable_split_kv)

    begin_forward = plan

    def run(self, q, paged_kv_cache, *args, q_scale=None, k_scale=None, v_scale=None, out=None, lse=None, return_lse=False,
            lse_base="log2", lse_layout="NH", enable_pdl=None, window_left=None, sinks=None, kv_cache_sf=None,
            skip_softmax_threshold_scale_factor=None, use_fp16_softmax=None, uses_spcompress=None):
        """o [qo_indptr[-1], num_qo_heads, head_dim_vo] of the planned batch, or (o, lse), lse f32 [rows, heads] to base 2.

        q               [qo_indptr[-1], num_qo_heads, head_dim_qk]
        paged_kv_cache  [pages, 2, page_size, num_kv_heads, head_dim] or (K, V) of rank 4, heads before page_size with HND; of
                        rank 3 where pages have one token
        lse_base        "log2" or "ln"; lse_layout "NH", or "HN" for [heads, rows]
        sinks           f32 [num_qo_heads]
        """
        if torch_ops.is_tracing() and not args and lse_base == "log2" and lse_layout == "NH":
            return self._traced(q, paged_kv_cache, q_scale, k_scale, v_scale, sinks, out, lse, return_lse)
        if (enable_pdl or use_fp16_softmax or uses_spcompress or kv_cache_sf is not None
                or skip_softmax_threshold_scale_factor is not None):
            self._note(enable_pdl=enable_pdl, use_fp16_softmax=use_fp16_softmax)
            refuse_foreign(kv_cache_sf, skip_softmax_threshold_scale_factor, uses_spcompress)
        return self._attend(q, paged_kv_cache, args, q_scale, k_scale, v_scale, out, lse, return_lse, lse_base, lse_layout,
                            window_left, sinks)

    run_return_lse = functools.partialmethod(run, return_lse=True)

    def forward(self, q, paged_kv_cache, causal=False, pos_encoding_mode="NONE", use_fp16_qk_reduction=False, k_scale=None,
                v_scale=None, window_left=-1, logits_soft_cap=None, sm_scale=None, rope_scale=None, rope_theta=None,
                return_lse=False):
        """The old name of run(); what it says of logits counts in the place of what plan() said."""
        self._say_again(paged_kv_cache, causal, pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale,
                        rope_theta)
        return self.run(q, paged_kv_cache, k_scale=k_scale, v_scale=v_scale, return_lse=return_lse)

    forward_return_lse = functools.partialmethod(forward, return_lse=True)


class BatchPrefillWithRaggedKVCacheWrapper(PrefillBase):
    """The same over keys and values that lie token by token, without pages.

    use_cuda_graph  with qo_indptr_buf and kv_indptr_buf, whose size is the batch of the graph. The first plan() says how many
                    queries there are at most, and the k of the first run(), which must not be captured, how many keys: k and v
                    of later ones have as many rows or more
    """
    _kind, _graph_kind = s.RAGGED_PREFILL, s.GRAPH_RAGGED_PREFILL

    def __init__(self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, qo_indptr_buf=None, kv_indptr_buf=None,
                 custom_mask_buf=None, mask_indptr_buf=None, backend="auto", jit_args=None, jit_kwargs=None,
                 variant_owns_mask=False):
        refuse_foreign(jit_args=jit_args, jit_kwargs=jit_kwargs)
        must_be("variant_owns_mask", variant_owns_mask, False, "must be False: no code is compiled at run time")
        self._start(float_workspace_buffer, kv_layout, use_cuda_graph, backend)
        if use_cuda_graph:
            if qo_indptr_buf is None or kv_indptr_buf is None or qo_indptr_buf.shape[0] != kv_indptr_buf.shape[0]:
                refuse("use_cuda_graph", True, "needs qo_indptr_buf and kv_indptr_buf, both of the graph's batch + 1 entries")
            self._graph_batch = kv_indptr_buf.shape[0] - 1
            self._take_mask_buffer(custom_mask_buf)

    def plan(self, qo_indptr, kv_indptr, num_qo_heads, num_kv_heads, head_dim_qk=None, head_dim_vo=None, custom_mask=None,
             packed_custom_mask=None, causal=False, pos_encoding_mode="NONE", use_fp16_qk_reduction=False, window_left=-1,
             logits_soft_cap=None, sm_scale=None, rope_scale=None, rope_theta=None, q_data_type=None, kv_data_type=None,
             o_data_type=None, non_blocking=True, prefix_len_ptr=None, token_pos_in_items_ptr=None, token_pos_in_items_len=0,
             max_item_len_ptr=None, fixed_split_size=None, disable_split_kv=False, seq_lens=None, seq_lens_q=None,
             max_token_per_sequence=None, max_sequence_kv=None, v_indptr=None, o_indptr=None, uniform_q_len=None,
             data_type=None, head_dim=None):
        """Plans a batch: qo_indptr and kv_indptr int32 [batch + 1] count queries and keys, cumulative."""
        head_dim_qk = head_dim if head_dim_qk is None else head_dim_qk
        if head_dim_qk is None:
            raise TypeError("plan() misses head_dim_qk")
        for name, value, of, twin in (("v_indptr", v_indptr, "kv_indptr", kv_indptr),
                                      ("o_indptr", o_indptr, "qo_indptr", qo_indptr)):
            if value is not None:
                must_say_the_same(name, value, of, twin)
        items = items_of(prefix_len_ptr, token_pos_in_items_ptr, token_pos_in_items_len, max_item_len_ptr)
        self._note(seq_lens=seq_lens, seq_lens_q=seq_lens_q, max_token_per_sequence=max_token_per_sequence,
                   max_sequence_kv=max_sequence_kv, use_fp16_qk_reduction=use_fp16_qk_reduction,
                   max_item_len_ptr=max_item_len_ptr, uniform_q_len=uniform_q_len)
        arguments = [(qo_indptr, kv_indptr, None, None), (num_qo_heads, num_kv_heads, head_dim_qk), 1, head_dim_vo,
                     (custom_mask, packed_custom_mask, items),
                     (causal, pos_encoding_mode, sm_scale, window_left, logits_soft_cap, rope_scale, rope_theta),
                     (q_data_type, kv_data_type, o_data_type, data_type), fixed_split_size, disable_split_kv]
        if self._use_cuda_graph and self._graph_pages is None:
            self._plan_later(arguments)
        else:
            self._plan_pages(*arguments)

    begin_forward = plan

    def _plan_later(self, arguments):
        """By the first run(), whose k says how many keys the graph has room for; of copies, since the caller may go on."""
        (qo_indptr, kv_indptr, *_), (*masks, items) = arguments[0], arguments[4]
        lengths = [family_of(x).copy(x) for x in on_host([qo_indptr, kv_indptr])]
        arguments[0] = (*lengths, None, None)
        arguments[4] = (*(None if x is None else family_of(x).copy(x) for x in masks), items)
        self._pending = lambda size: self._plan_pages(*arguments)

    def _planned(self, kv):
        if self._pending is not None:
            if self._on_gpu and self._family.capturing():
                refuse("run()", "captured", "must run once before: the first k says how many keys the graph has room for")
            self._graph_pages = kv[0].shape[0]
        return super()._planned(kv)

    def run(self, q, k, v, *args, q_scale=None, k_scale=None, v_scale=None, o_scale=None, out=None, lse=None,
            return_lse=False, lse_base="log2", lse_layout="NH", enable_pdl=None, kv_cache_sf=None):
        """o [qo_indptr[-1], num_qo_heads, head_dim_vo], or (o, lse); q [rows, num_qo_heads, head_dim_qk], k and v
        [kv_indptr[-1], num_kv_heads, head_dim], or with heads first (HND)."""
        if torch_ops.is_tracing() and not args and lse_base == "log2" and lse_layout == "NH":
            return self._traced(q, (k, v), q_scale, k_scale, v_scale, None, out, lse, return_lse)
        self._note(enable_pdl=enable_pdl)
        refuse_foreign(kv_cache_sf)
        if o_scale is not None and len(args) == 3:  # what a stored o is multiplied with
            args = (*args[:2], (1.0 if args[2] is None else args[2]) / number(o_scale))
        elif o_scale is not None:
            v_scale = (1.0 if v_scale is None else v_scale) / number(o_scale)
        if self._kv_layout == "HND":
            k, v = self._family.swapped(k), self._family.swapped(v)
        return self._attend(q, (k, v), args, q_scale, k_scale, v_scale, out, lse, return_lse, lse_base, lse_layout, None, None)

    run_return_lse = functools.partialmethod(run, return_lse=True)

    def forward(self, q, k, v, causal=False, pos_encoding_mode="NONE", use_fp16_qk_reduction=False, window_left=-1,
                logits_soft_cap=None, sm_scale=None, rope_scale=None, rope_theta=None, return_lse=False):
        """The old name of run(); what it says of logits counts in the place of what plan() said."""
        self._say_again((k, v), causal, pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        return self.run(q, k, v, return_lse=return_lse)

    forward_return_lse = functools.partialmethod(forward, return_lse=True)
