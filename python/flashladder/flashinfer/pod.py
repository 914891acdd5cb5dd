"""FlashInfer's flashinfer.pod: prefill and decode in one call."""
import numpy

from .._arrays import family_of, on_host
from .._library import InputError, refuse
from ._hints import must_be
from .decode import BatchDecodeWithPagedKVCacheWrapper
from .prefill import BatchPrefillWithPagedKVCacheWrapper, single_prefill_with_kv_cache

__all__ = ["BatchPODWithPagedKVCacheWrapper", "PODWithPagedKVCacheWrapper"]


def _of_plan(name, value, planned, default):
    """Refuses an argument of the decode's in run() that is neither its default nor what plan() said."""
    if value != default:
        must_be(name, value, planned, f"must be what was planned ({planned})")


class PODWithPagedKVCacheWrapper:
    """One request's prefill over k_p and v_p, and a batch's decode over pages: two launches, one behind the other."""

    def __init__(self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, paged_kv_indptr_buffer=None,
                 paged_kv_indices_buffer=None, paged_kv_last_page_len_buffer=None, jit_args=None):
        self._decode = BatchDecodeWithPagedKVCacheWrapper(
            float_workspace_buffer, kv_layout, use_cuda_graph, False, paged_kv_indptr_buffer, paged_kv_indices_buffer,
            paged_kv_last_page_len_buffer, jit_args=jit_args)
        self._kv_layout, self._said = kv_layout, {}

    @property
    def is_cuda_graph_enabled(self):
        return self._decode.is_cuda_graph_enabled

    def reset_workspace_buffer(self, float_workspace_buffer, int_workspace_buffer=None):
        """A hint: plans and partial results lie in memory of the wrapper's own."""
        self._decode.reset_workspace_buffer(float_workspace_buffer, int_workspace_buffer)

    def plan(self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, pos_encoding_mode="NONE",
             window_left=-1, q_data_type=None, kv_data_type=None, data_type=None, sm_scale=None, rope_scale=None,
             rope_theta=None, non_blocking=True):
        """Plans the decode, as BatchDecodeWithPagedKVCacheWrapper.plan() does."""
        logits = {"pos_encoding_mode": pos_encoding_mode, "window_left": window_left, "sm_scale": sm_scale,
                  "rope_scale": rope_scale, "rope_theta": rope_theta}
        self._decode.plan(indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size,
                          q_data_type=q_data_type, kv_data_type=kv_data_type, data_type=data_type, **logits)
        self._said = logits

    begin_forward = plan

    def run(self, q_p, k_p, v_p, q_d, paged_kv_cache_d, custom_mask_p=None, packed_custom_mask_p=None, causal_p=False,
            kv_layout_p="NHD", pos_encoding_mode_p="NONE", sm_scale_p=None, window_left_p=-1, rope_scale_p=None,
            rope_theta_p=None, return_lse_p=False, custom_mask_d=None, packed_custom_mask_d=None, causal_d=False,
            kv_layout_d="NHD", pos_encoding_mode_d="NONE", sm_scale_d=None, window_left_d=-1, rope_scale_d=None,
            rope_theta_d=None, q_scale=None, k_scale=None, v_scale=None, return_lse_d=False, use_fp16_qk_reduction=False,
            enable_pdl=None, *args):
        """(o_p [qo_len, num_qo_heads, head_dim], o_d [batch, num_qo_heads, head_dim]).

        q_p, k_p, v_p and what ends in _p: as single_prefill_with_kv_cache has them. q_d and paged_kv_cache_d: as run() of the
        decode has them, and so q_scale, k_scale and v_scale, which are the decode's alone.
        """
        for name, value in (("return_lse_p", return_lse_p), ("return_lse_d", return_lse_d)):
            must_be(name, bool(value), False, "must be False: this call gives back no lse; call prefill and decode for it")
        must_be("args", args or None, None, "must be none")
        for name, value in (("custom_mask_d", custom_mask_d), ("packed_custom_mask_d", packed_custom_mask_d)):
            must_be(name, value, None, "must be None: a decode's query sees all keys")
        must_be("causal_d", bool(causal_d), False, "must be False: a decode's query is the last token")
        _of_plan("kv_layout_d", kv_layout_d, self._kv_layout, "NHD")
        for name, value, default in (("pos_encoding_mode", pos_encoding_mode_d, "NONE"), ("sm_scale", sm_scale_d, None),
                                     ("window_left", window_left_d, -1), ("rope_scale", rope_scale_d, None),
                                     ("rope_theta", rope_theta_d, None)):
            _of_plan(f"{name}_d", value, self._said.get(name), default)
        self._decode._note(use_fp16_qk_reduction=use_fp16_qk_reduction, enable_pdl=enable_pdl)
        o_p = single_prefill_with_kv_cache(
            q_p, k_p, v_p, custom_mask=custom_mask_p, packed_custom_mask=packed_custom_mask_p, causal=causal_p,
            kv_layout=kv_layout_p, pos_encoding_mode=pos_encoding_mode_p, sm_scale=sm_scale_p, window_left=window_left_p,
            rope_scale=rope_scale_p, rope_theta=rope_theta_p)
        return o_p, self._decode.run(q_d, paged_kv_cache_d, q_scale=q_scale, k_scale=k_scale, v_scale=v_scale)

    forward = run

    def end_forward(self):
        """Nothing to do; FlashInfer's old name."""

    def explain(self):
        """Who computes the decode, and what became of each hint."""
        return self._decode.explain()


class BatchPODWithPagedKVCacheWrapper:
    """A batch's prefill and another's decode over pages: in one launch where both read the same cache and nothing but their
    lengths tells them apart (docs/18_mixed.md), else one behind the other."""

    def __init__(self, float_workspace_buffer, kv_layout="NHD"):
        self._like, self._kv_layout = float_workspace_buffer, kv_layout
        self._family = family_of(float_workspace_buffer, "float_workspace_buffer")
        self._wrappers = {name: BatchPrefillWithPagedKVCacheWrapper(float_workspace_buffer, kv_layout)
                          for name in ("prefill", "decode", "both")}
        self._lengths, self._planned, self._last = None, {}, ("both",)

    @property
    def is_cuda_graph_enabled(self):
        return False

    def reset_workspace_buffer(self, float_workspace_buffer, int_workspace_buffer=None):
        """A hint: plans and partial results lie in memory of the wrapper's own."""

    def plan(self, qo_indptr_p, kv_indptr_p, kv_indices_p, last_page_len_p, qo_indptr_d, kv_indptr_d, kv_indices_d,
             last_page_len_d, num_qo_heads, num_kv_heads, head_dim, page_size, pos_encoding_mode="NONE", window_left=-1,
             q_data_type=None, kv_data_type=None, data_type=None, sm_scale=None, rope_scale=None, rope_theta=None,
             non_blocking=True):
        """Plans both: of each what BatchPrefillWithPagedKVCacheWrapper.plan() has. What is planned is known in run(), which
        says whether the prefill is causal; so the first run() plans, of lengths that plan() has copied."""
        host = [numpy.array(x.numpy() if hasattr(x, "numpy") else x, numpy.int32) for x in on_host([
            qo_indptr_p, kv_indptr_p, last_page_len_p, qo_indptr_d, kv_indptr_d, last_page_len_d])]
        parts = {}
        for name, lengths, indices in (("prefill", host[:3], kv_indices_p), ("decode", host[3:], kv_indices_d)):
            qo, kv, last = lengths
            if qo.shape[0] < 1 or qo.shape[0] != kv.shape[0] or last.shape[0] + 1 != qo.shape[0]:
                refuse(f"lengths of the {name}", [x.shape[0] for x in lengths], "must be of batch + 1, batch + 1 and batch")
            if indices.shape[0] < kv[-1]:
                refuse(f"kv_indices of the {name}", indices.shape[0], f"must be at least {kv[-1]}, the last of kv_indptr")
            parts[name] = qo, kv, self._wrappers[name]._on_device(indices)[:int(kv[-1])], last
        (qo, kv, indices, last), (qo_d, kv_d, indices_d, last_d) = parts["prefill"], parts["decode"]
        parts["both"] = (numpy.concatenate([qo, qo[-1] + qo_d[1:]]), numpy.concatenate([kv, kv[-1] + kv_d[1:]]),
                         self._family.concatenate([indices, indices_d]), numpy.concatenate([last, last_d]))
        self._lengths, self._rows = parts, int(qo[-1])
        self._one_query = bool((numpy.diff(qo_d) <= 1).all())
        self._heads = num_qo_heads, num_kv_heads, head_dim, page_size
        self._more = {"pos_encoding_mode": pos_encoding_mode, "window_left": window_left, "sm_scale": sm_scale,
                      "rope_scale": rope_scale, "rope_theta": rope_theta, "q_data_type": q_data_type,
                      "kv_data_type": kv_data_type, "data_type": data_type}
        self._planned = {}

    begin_forward = plan

    def _ready(self, name, **mask):
        """The wrapper of a part, planned for this mask; one with a custom mask is planned by each run()."""
        wrapper, causal = self._wrappers[name], mask.get("causal", False)
        if len(mask) > 1 or self._planned.get(name) != causal:
            wrapper.plan(*self._lengths[name], *self._heads, **mask, **self._more)
            self._planned[name] = None if len(mask) > 1 else causal
        return wrapper

    def run(self, q_p, paged_kv_cache_p, q_d, paged_kv_cache_d, custom_mask_p=None, packed_custom_mask_p=None, causal_p=False,
            q_scale=None, k_scale=None, v_scale=None, return_lse=False, use_fp16_qk_reduction=False, enable_pdl=None):
        """(o_p, o_d), or ((o_p, lse_p), (o_d, lse_d)): q_p [qo_indptr_p[-1], num_qo_heads, head_dim], q_d
        [qo_indptr_d[-1], num_qo_heads, head_dim]; no query of the decode is masked. q_scale, k_scale and v_scale are the
        decode's alone, as in FlashInfer."""
        if self._lengths is None:
            raise InputError("run() must come after plan()")
        masks = {name: mask for name, mask in (("custom_mask", custom_mask_p), ("packed_custom_mask", packed_custom_mask_p))
                 if mask is not None}
        scaled = q_scale is not None or k_scale is not None or v_scale is not None
        together = not masks and not scaled and (self._one_query or not causal_p) and _same(paged_kv_cache_p, paged_kv_cache_d)
        self._last = ("both",) if together else ("prefill", "decode")
        for name in self._last:
            self._wrappers[name]._note(use_fp16_qk_reduction=use_fp16_qk_reduction, enable_pdl=enable_pdl)
        if not together:
            prefill, decode = self._ready("prefill", causal=bool(causal_p), **masks), self._ready("decode")
            scales = {"q_scale": q_scale, "k_scale": k_scale, "v_scale": v_scale}
            return (prefill.run(q_p, paged_kv_cache_p, return_lse=return_lse),
                    decode.run(q_d, paged_kv_cache_d, return_lse=return_lse, **scales))
        if q_p.shape[0] != self._rows:
            refuse("q_p shape[0]", q_p.shape[0], f"must be the last entry of qo_indptr_p ({self._rows})")
        result = self._ready("both", causal=bool(causal_p)).run(
            self._family.concatenate([q_p, q_d]), paged_kv_cache_p, return_lse=return_lse)
        if not return_lse:
            return result[:self._rows], result[self._rows:]
        return tuple(x[:self._rows] for x in result), tuple(x[self._rows:] for x in result)

    forward = run

    def end_forward(self):
        """Nothing to do; FlashInfer's old name."""

    def explain(self):
        """Who computed the last run(), part by part."""
        return "\n".join(f"{name}: {self._wrappers[name].explain()}" for name in self._last)


def _same(a, b):
    """Whether two caches are the same memory."""
    if isinstance(a, (tuple, list)) != isinstance(b, (tuple, list)):
        return False
    pairs = zip(a, b) if isinstance(a, (tuple, list)) else ((a, b),)
    return all(x is y for x, y in pairs)
