"""What the two prefill wrappers have in common: a batch of queries by qo_indptr, over pages or over keys token by token."""
from .. import _structs as s
from .._arrays import family_of, name_of_dtype, on_host
from .._library import refuse
from .._run import PackedMask
from ._hints import must_be, number
from ._items import mask_of_items
from ._masks import bits_of, check_lse_form, custom_mask_of, in_form
from ._wrapper import Wrapper, config_of, dtypes_of, graph_limits, positive


class PrefillBase(Wrapper):
    """plan() and run() of the prefill wrappers, with arguments in groups."""
    _has_sinks = False
    _graph_batch = _graph_pages = _mask_buffer = None

    def _plan_pages(self, lengths, heads, page_size, head_dim_vo, masks, logits, dtypes, fixed_split_size, disable_split_kv):
        """lengths: (qo_indptr, kv_indptr, indices, last_page_len); the last two are None where keys have no pages.
        masks: (custom_mask, packed_custom_mask, items), of which the last one counts that is there."""
        if page_size is None:
            self._pending = lambda size: self._plan_pages(
                lengths, heads, size, head_dim_vo, masks, logits, dtypes, fixed_split_size, disable_split_kv)
            return
        causal, pos_encoding_mode, sm_scale, window_left, logits_soft_cap, rope_scale, rope_theta = logits
        masked = any(mask is not None for mask in masks)
        qo_indptr, kv_indptr, indices, last_page_len = lengths
        host = on_host([x for x in (qo_indptr, kv_indptr, last_page_len) if x is not None])
        self._host_lengths = host if last_page_len is not None else (host[0], host[1], None)

        def config():
            said, self._open_dtypes = dtypes_of(*dtypes, "float16")
            policy, chunk = self._policy(fixed_split_size, disable_split_kv, page_size)
            return config_of(*heads, page_size, head_dim_vo=head_dim_vo, **said, sm_scale=positive(sm_scale),
                             mask="custom" if masked else "causal" if causal else "none", window_left=window_left,
                             logits_soft_cap=logits_soft_cap, pos_encoding_mode=pos_encoding_mode, rope_scale=rope_scale,
                             rope_theta=rope_theta, sinks=self._has_sinks, policy=policy, chunk_size=chunk,
                             backend=self._kernel())

        said = (heads, page_size, head_dim_vo, masked, logits, dtypes, fixed_split_size, disable_split_kv)
        attention = self._set_config(said, config, *self._kind_and_limits())
        self._window_left = window_left
        qo, kv, last = self._host_lengths
        if indices is not None:
            self._page_ids = self._on_device(indices)
            attention.plan(kv, last, qo, page_ids=self._page_ids)
        else:
            attention.plan(kv, None, qo)
        self._plan_captured()
        self._mask = self._mask_of(*masks, page_size) if masked else None
        if self._use_cuda_graph and masked:
            self._keep_mask(page_size)

    def _kind_and_limits(self):
        """A graph's object is made for the queries of its first plan()."""
        if not self._use_cuda_graph:
            return self._kind, None
        qo, kv, _ = self._host_lengths
        if kv.shape[0] - 1 != self._graph_batch:
            refuse("batch", kv.shape[0] - 1, f"must be {self._graph_batch}, what the graph's buffers are for")
        if self._limits is None:
            self._limits = graph_limits(self._graph_batch, self._graph_pages, int(qo[-1]))
        elif int(qo[-1]) > self._limits.max_nnz_qo:
            refuse("qo_indptr[-1]", int(qo[-1]), f"must be at most {self._limits.max_nnz_qo}, as many queries as the first "
                   "plan() of this graph had")
        return self._graph_kind, self._limits

    def _mask_of(self, custom_mask, packed_custom_mask, items, page_size):
        if items is not None:
            return mask_of_items(items, self._lens_of_each(page_size), self._like)
        return custom_mask_of(custom_mask, packed_custom_mask, lambda: self._bits_of_each(page_size))

    def _lens_of_each(self, page_size):
        """(qo_len, kv_len) of each request."""
        qo, kv, last = ([int(n) for n in x] if x is not None else None for x in self._host_lengths)
        lens = [kv[i + 1] - kv[i] for i in range(len(kv) - 1)]
        if last is not None:
            lens = [(n - 1) * page_size + last[i] if n > 0 else 0 for i, n in enumerate(lens)]
        return [(qo[i + 1] - qo[i], n) for i, n in enumerate(lens)]

    def _bits_of_each(self, page_size):
        return [qo_len * kv_len for qo_len, kv_len in self._lens_of_each(page_size)]

    def _keep_mask(self, page_size):
        """A graph reads the mask where it lay when it was captured, in the form that it had: bits in custom_mask_buf."""
        room = self._mask_buffer
        if room is None:
            refuse("custom_mask", "given", "needs custom_mask_buf in a graph, where its bits lie, replay after replay")
        bits = bits_of(self._mask, self._bits_of_each(page_size))
        if bits.shape[0] > room.shape[0]:
            refuse("custom_mask", f"{bits.shape[0]} bytes of bits", f"must fit custom_mask_buf ({room.shape[0]} bytes)")
        self._family.copy_into(room[:bits.shape[0]], bits)
        self._mask = PackedMask(room[:bits.shape[0]])

    def _take_mask_buffer(self, custom_mask_buf):
        if custom_mask_buf is None:
            return
        family = family_of(custom_mask_buf, "custom_mask_buf")
        if family is not self._family or family.device(custom_mask_buf) != self._device:
            refuse("custom_mask_buf", f"on {family.device(custom_mask_buf)}", f"must lie on {self._device}")
        if name_of_dtype(custom_mask_buf.dtype) != "uint8" or len(custom_mask_buf.shape) != 1:
            refuse("custom_mask_buf dtype", name_of_dtype(custom_mask_buf.dtype), "must be uint8, of rank 1")
        self._mask_buffer = custom_mask_buf

    def _attend(self, q, kv, args, q_scale, k_scale, v_scale, out, lse, return_lse, lse_base, lse_layout, window_left, sinks):
        attention = self._planned(kv)
        if q.dtype is not self._q_dtype_seen:
            attention, q = self._with_dtypes(attention, q, kv)
        if args:
            q, q_scale, k_scale, v_scale = self._by_heads(q, args, (q_scale, k_scale, v_scale))
        if (sinks is not None) is not attention.config.sinks:
            attention = self._rebase(sinks=sinks is not None)
        if q_scale is not None:
            attention = self._scaled(attention, number(q_scale))
        if window_left is not None:
            must_be("window_left", window_left, self._window_left, f"must be what was planned ({self._window_left})")
        if lse_base == "log2" and lse_layout == "NH":
            return self._run(attention, q, kv, out, lse, return_lse, sinks, self._mask, False, k_scale, v_scale)
        check_lse_form(lse_base, lse_layout)
        direct = lse if lse_layout == "NH" else None
        result = self._run(attention, q, kv, out, direct, return_lse, sinks, self._mask, lse_base == "ln", k_scale, v_scale)
        return in_form(self._family, result, lse_layout, lse) if return_lse else result

    def _say_again(self, kv, causal, pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta):
        """forward()'s arguments in the place of plan()'s."""
        self._planned(kv)
        mask = self._current.config.mask
        self._current = self._variant(
            mask=mask if mask == "custom" else "causal" if causal else "none", pos_encoding_mode=pos_encoding_mode,
            window_left=window_left, logits_soft_cap=logits_soft_cap or 0.0, sm_scale=positive(sm_scale),
            rope_scale=rope_scale or 1.0, rope_theta=rope_theta or 1e4)
        self._window_left, self._q_dtype_seen = window_left, None
