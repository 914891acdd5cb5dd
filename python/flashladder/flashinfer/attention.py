"""FlashInfer's flashinfer.attention: batches of prefill and decode together, and attention sinks."""
from .. import _structs as s
from .._arrays import family_of_device
from .._library import refuse
from ._lengths import filled_pages
from ._hints import must_be, refuse_foreign
from ._wrapper import Wrapper, config_of, dtypes_of, positive
from .prefill import BatchPrefillWithPagedKVCacheWrapper

__all__ = ["BatchAttention", "BatchAttentionWithAttentionSinkWrapper"]


class BatchAttention(Wrapper):
    """Requests with one query and with many in one batch; run() gives (o, lse) always."""
    _kind = s.PREFILL

    def __init__(self, kv_layout="NHD", device="cuda"):
        family, device = family_of_device(device)
        self._start(family.bytes(0, device), kv_layout, False)
        self._spare = 384 << 20

    def plan(self, qo_indptr, kv_indptr, kv_indices, kv_len_arr, num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo,
             page_size, causal=False, sm_scale=None, logits_soft_cap=None, q_data_type=None, kv_data_type=None,
             use_profiler=False):
        """Plans a batch: qo_indptr and kv_indptr int32 [batch + 1] count queries and pages, kv_indices are page ids,
        kv_len_arr int32 [batch] tokens. A request may have more pages than its tokens fill. Lengths may lie on the host, or
        on the device: that is one wait. Dtypes that nobody says are those of run()'s arrays (FlashInfer's are bfloat16)."""
        self._note(use_profiler=use_profiler)
        qo, pages, last, ids = filled_pages(qo_indptr, kv_indptr, kv_indices, kv_len_arr, page_size)
        self._page_ids = self._on_device(ids)
        said = (num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo, page_size, causal, sm_scale, logits_soft_cap,
                q_data_type, kv_data_type)

        def config():
            dtypes, self._open_dtypes = dtypes_of(q_data_type, kv_data_type, None, None, "bfloat16")
            return config_of(num_qo_heads, num_kv_heads, head_dim_qk, page_size, head_dim_vo=head_dim_vo, **dtypes,
                             sm_scale=positive(sm_scale), mask="causal" if causal else "none",
                             logits_soft_cap=logits_soft_cap)

        self._soft_cap = logits_soft_cap or 0.0
        self._set_config(said, config, self._kind).plan(pages, last, qo)

    def run(self, q, kv_cache, out=None, lse=None, k_scale=None, v_scale=None, logits_soft_cap=0.0, profiler_buffer=None,
            kv_cache_sf=None):
        """(o [rows, num_qo_heads, head_dim_vo], lse f32 [rows, num_qo_heads], base 2) of the planned batch."""
        refuse_foreign(kv_cache_sf)
        attention = self._planned(kv_cache)
        attention, q = self._with_dtypes(attention, q, kv_cache)
        if logits_soft_cap:
            must_be("logits_soft_cap", logits_soft_cap, self._soft_cap, f"must be what was planned ({self._soft_cap})")
        return self._run(attention, q, kv_cache, out, lse, True, None, None, False, k_scale, v_scale)

    def forward(self, q, *kv, **names):
        """run() without the lse; K and V may also be two arguments."""
        if len(kv) not in (1, 2):
            raise TypeError("forward() takes q and the cache, or q, K and V")
        return self.run(q, kv[0] if len(kv) == 1 else kv, **names)[0]


class BatchAttentionWithAttentionSinkWrapper(BatchPrefillWithPagedKVCacheWrapper):
    """The paged prefill wrapper whose run() takes sinks, and sm_scale, behind the cache."""
    _has_sinks = True

    def __init__(self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, qo_indptr_buf=None,
                 paged_kv_indptr_buf=None, paged_kv_indices_buf=None, paged_kv_last_page_len_buf=None, custom_mask_buf=None,
                 mask_indptr_buf=None, backend="auto", pos_encoding_mode="NONE", use_fp16_qk_reduction=False,
                 q_data_type=None, kv_data_type=None, head_dim_qk=128, head_dim_vo=128, window_left=-1):
        super().__init__(float_workspace_buffer, kv_layout, use_cuda_graph, qo_indptr_buf, paged_kv_indptr_buf,
                         paged_kv_indices_buf, paged_kv_last_page_len_buf, custom_mask_buf, mask_indptr_buf, backend)
        self._made_for = {"pos_encoding_mode": pos_encoding_mode, "window_left": window_left, "q_data_type": q_data_type,
                          "kv_data_type": kv_data_type}

    def plan(self, *arguments, **names):
        """As of the paged prefill wrapper; what the constructor said of dtypes, window and positions is the default."""
        for name, value in self._made_for.items():
            if value is not None:
                names.setdefault(name, value)
        super().plan(*arguments, **names)

    begin_forward = plan

    def run(self, q, paged_kv_cache, *args, sinks=None, sm_scale=None, **names):
        """o, or (o, lse): run(q, cache, sinks, sm_scale), sinks f32 [num_qo_heads], or both by name."""
        if len(args) > 2:
            raise TypeError("run() takes sinks and sm_scale behind the cache")
        sinks = args[0] if args else sinks
        sm_scale = args[1] if len(args) > 1 else sm_scale
        if sinks is None:
            refuse("sinks", "None", "must be given, one for each query head")
        attention = self._planned(paged_kv_cache)
        if sm_scale is not None and sm_scale != attention.config.sm_scale:
            self._rebase(sm_scale=float(sm_scale))
        return super().run(q, paged_kv_cache, sinks=sinks, **names)
