"""FlashInfer's flashinfer.mla: latent attention over pages."""
import functools

from .._arrays import dtype_code, family_of
from .._library import InputError, refuse
from ..mla import BatchMLAPagedAttention, MlaConfig
from ..serving import run_latent_decode
from ._fp8 import round_into, served, wide_dtypes, wide_latents, widened
from ._hints import HINTS, layout_of, must_be, number, refuse_foreign
from ._lengths import filled_pages
from ._wrapper import EarlierObjects, graph_limits

__all__ = ["BatchMLAPagedAttentionWrapper", "trtllm_batch_decode_with_kv_cache_mla", "xqa_batch_decode_with_kv_cache_mla"]

RAGGED = "must be None: give query [batch, q_len, num_heads, features]; BatchMLAPagedAttentionWrapper takes ragged queries"


class BatchMLAPagedAttentionWrapper:
    """Latent attention: plan() once a step, run() once a layer.

    use_cuda_graph  with kv_indices and kv_len_arr, whose sizes are the most page ids and the largest batch of the graph; it is
                    made for as many queries as the first plan() has
    """

    def __init__(self, float_workspace_buffer, use_cuda_graph=False, qo_indptr=None, kv_indptr=None, kv_indices=None,
                 kv_len_arr=None, backend="auto", *, kv_layout="NHD"):
        layout_of(kv_layout)  # of an old example: latent rows have no heads, so both layouts are the same
        if use_cuda_graph and (kv_indices is None or kv_len_arr is None):
            refuse("use_cuda_graph", True, "needs kv_indices and kv_len_arr, whose sizes are the graph's")
        self._graph = (kv_len_arr.shape[0], kv_indices.shape[0]) if use_cuda_graph else None
        self._like, self._said, self._attention, self._backend = float_workspace_buffer, None, None, backend
        self._earlier = EarlierObjects(use_cuda_graph)
        self._family = family_of(float_workspace_buffer, "float_workspace_buffer")

    def plan(self, qo_indptr=None, kv_indptr=None, kv_indices=None, kv_len_arr=None, num_heads=None, head_dim_ckv=None,
             head_dim_kpe=None, page_size=None, causal=None, sm_scale=None, q_data_type=None, kv_data_type=None,
             use_profiler=False, *, metadata=None, cum_seq_lens_q=None, block_tables=None, seq_lens=None, max_q_len=None,
             query_layout=None, kv_cache_layout=None, lse_mode="none", output_dtype=None, output_scale="none",
             scale_mode="default", skip_softmax=False, enable_pdl=None, use_sinks=False):
        """Plans a batch: qo_indptr and kv_indptr int32 [batch + 1] count queries and pages, kv_indices are page ids,
        kv_len_arr int32 [batch] tokens; on the host, or on the device: that is one wait."""
        for name, value, default in (
                ("metadata", metadata, None), ("cum_seq_lens_q", cum_seq_lens_q, None), ("block_tables", block_tables, None),
                ("seq_lens", seq_lens, None), ("max_q_len", max_q_len, None)):
            must_be(name, value, default, "must be None: give qo_indptr, kv_indptr, kv_indices and kv_len_arr")
        if output_scale not in ("none", "per-tensor"):
            refuse("output_scale", output_scale, "must be none or per-tensor")
        if scale_mode not in ("default", "kv-per-tensor"):
            refuse("scale_mode", scale_mode, "must be default or kv-per-tensor: run() takes ckv_scale and kpe_scale in both")
        must_be("skip_softmax", skip_softmax, False, "must be False: no softmax is skipped here")
        must_be("use_sinks", use_sinks, False, "must be False: latent attention has no sinks")
        for name, value in (("qo_indptr", qo_indptr), ("kv_indptr", kv_indptr), ("kv_indices", kv_indices),
                            ("kv_len_arr", kv_len_arr), ("num_heads", num_heads), ("head_dim_ckv", head_dim_ckv),
                            ("head_dim_kpe", head_dim_kpe), ("page_size", page_size), ("causal", causal),
                            ("sm_scale", sm_scale), ("q_data_type", q_data_type), ("kv_data_type", kv_data_type)):
            if value is None:
                raise TypeError(f"plan() misses {name}")
        dtypes, fp8_q, fp8_out = wide_dtypes(
            dtype_code(q_data_type, "q_data_type"), dtype_code(kv_data_type, "kv_data_type"),
            dtype_code(output_dtype, "output_dtype") if output_dtype is not None else None)
        if output_scale != "none" and fp8_out is None:
            refuse("output_scale", output_scale, "must be none unless o is fp8")
        config = MlaConfig(int(num_heads), float(sm_scale), int(page_size), int(head_dim_ckv), int(head_dim_kpe), bool(causal),
                           **dtypes)
        lengths = filled_pages(qo_indptr, kv_indptr, kv_indices, kv_len_arr, page_size)
        if config != self._said:
            limits = graph_limits(*self._graph, lengths[0][-1]) if self._graph is not None else None
            self._earlier.keep(self._said, self._attention)
            self._attention = self._earlier.take(config, lambda: BatchMLAPagedAttention(config, self._like, limits))
            self._said = config
        self._attention.plan(*lengths)
        self._fp8_q, self._fp8_out, self._scaled_out = fp8_q, fp8_out, output_scale != "none"

    def run(self, q_nope=None, q_pe=None, ckv_cache=None, kpe_cache=None, out=None, lse=None, return_lse=False,
            profiler_buffer=None, kv_len=None, page_table=None, return_lse_base_on_e=False, o_scale=None, *, query=None,
            kv_cache=None, ckv_scale=None, ckv_scale_arr=None, kpe_scale=None, sinks=None,
            skip_softmax_threshold_scale_factor=None, bmm1_scale=None, bmm2_scale=None):
        """o [rows, num_heads, head_dim_ckv], or (o, lse), lse f32 [rows, num_heads] to base 2 unless return_lse_base_on_e.

        q_nope [rows, num_heads, head_dim_ckv], q_pe [rows, num_heads, head_dim_kpe]; ckv_cache [pages, page_size,
        head_dim_ckv], kpe_cache [pages, page_size, head_dim_kpe]. query and kv_cache: pairs of these, or one array each with
        kpe behind ckv. Queries may be fp8. ckv_scale, kpe_scale: what a number of an fp8 cache stands for; o_scale: that of
        an fp8 o.
        """
        for name, value in (("kv_len", kv_len), ("page_table", page_table),
                            ("ckv_scale_arr", ckv_scale_arr), ("sinks", sinks),
                            ("skip_softmax_threshold_scale_factor", skip_softmax_threshold_scale_factor),
                            ("bmm1_scale", bmm1_scale), ("bmm2_scale", bmm2_scale)):
            must_be(name, value, None, "must be None: latent attention has no such argument here")
        if self._attention is None:
            raise InputError("run() must come after plan()")
        if (o_scale is not None) is not self._scaled_out:
            refuse("o_scale", o_scale, "must be given where plan() said output_scale=\"per-tensor\", and None elsewhere")
        cut = self._said.head_dim_ckv
        if query is not None:
            q_nope, q_pe = query if isinstance(query, (tuple, list)) else (query[..., :cut], query[..., cut:])
        if kv_cache is not None:
            ckv_cache, kpe_cache = kv_cache if isinstance(kv_cache, (tuple, list)) else (kv_cache, None)
        for name, value in (("q_nope", q_nope), ("ckv_cache", ckv_cache)):
            if value is None:
                raise TypeError(f"run() misses {name}")
        if self._fp8_q is not None:
            wide = dtype_code(self._said.q_dtype)
            q_nope, q_pe = (None if q is None else widened(q, self._fp8_q, wide) for q in (q_nope, q_pe))
        latents, scales = (q_nope, q_pe, ckv_cache, kpe_cache), (return_lse_base_on_e, ckv_scale, kpe_scale)
        if self._fp8_out is None:
            return self._attention.run(*latents, out, lse, return_lse, *scales)
        result = self._attention.run(*latents, None, lse, return_lse, *scales)
        out = round_into(result[0] if return_lse else result, out, self._fp8_out, 1.0 / number(o_scale))
        return (out, result[1]) if return_lse else out

    run_return_lse = functools.partialmethod(run, return_lse=True)

    def forward(self, *arguments, **names):
        """Of an old example, which gives a cache, a page table and lengths to a call that was never planned: refused."""
        refuse("forward", "", "does not say whose the queries are, nor sm_scale: take plan() and run()")

    def explain(self):
        """Who computes, and what became of a backend that was asked for."""
        lines = [self._attention.explain() if self._attention is not None else "Nothing is planned yet."]
        return "\n".join(lines + ([f"backend = {self._backend}: {HINTS['backend']}."] if self._backend != "auto" else []))


def _rows(kv_cache):
    """[pages, page_size, features] of a cache that may have one head."""
    return kv_cache[:, 0] if len(kv_cache.shape) == 4 and kv_cache.shape[1] == 1 else kv_cache


def _refuse_sparse(sparse_mla_top_k, sparse_mla_top_k_lens):
    must_be("sparse_mla_top_k", sparse_mla_top_k, 0, "must be 0: all latent rows of a request are read")
    must_be("sparse_mla_top_k_lens", sparse_mla_top_k_lens, None, "must be None: all latent rows of a request are read")


def trtllm_batch_decode_with_kv_cache_mla(
        query, kv_cache, workspace_buffer, qk_nope_head_dim, kv_lora_rank, qk_rope_head_dim, block_tables, seq_lens,
        max_seq_len, sparse_mla_top_k=0, out=None, bmm1_scale=1.0, bmm2_scale=1.0, sinks=None,
        skip_softmax_threshold_scale_factor=None, enable_pdl=None, backend="auto", is_var_seq=True,
        uses_shared_paged_kv_idx=True, lse=None, return_lse=False, cute_dsl_impl="auto", kv_scale_format="auto",
        cum_seq_lens_q=None, max_q_len=None, multi_ctas_kv_counter_buffer=None, sparse_mla_top_k_lens=None, enable_dcp=False,
        cp_world=1, cp_rank=0, causal_seqlens_kv_global=None, use_fp16_softmax=None, return_lse_base=None):
    """Latent attention over a block table: o [batch, q_len, num_heads, kv_lora_rank], or (o, lse), lse to base 2.

    query         [batch, q_len, num_heads, kv_lora_rank + qk_rope_head_dim]; several queries are causal among themselves
    kv_cache      [pages, page_size, kv_lora_rank + qk_rope_head_dim], or with one head [pages, 1, page_size, ...]
    block_tables  int32 [batch, max_pages]; seq_lens int32 [batch], on query's device; with several queries that is one wait
    bmm1_scale    1 / sqrt(qk_nope_head_dim + qk_rope_head_dim), with the scales of fp8 in it; bmm2_scale multiplies o
    """
    refuse_foreign(None, skip_softmax_threshold_scale_factor, causal_seqlens_kv_global=causal_seqlens_kv_global)
    _refuse_sparse(sparse_mla_top_k, sparse_mla_top_k_lens)
    must_be("sinks", sinks, None, "must be None: latent attention has no sinks here")
    must_be("uses_shared_paged_kv_idx", uses_shared_paged_kv_idx, True, "must be True: a latent row is key and value")
    must_be("cum_seq_lens_q", cum_seq_lens_q, None, RAGGED)
    must_be("max_q_len", max_q_len, None, RAGGED)
    must_be("enable_dcp", enable_dcp, False, "must be False: several GPUs merge with merge_state here")
    must_be("cp_world", cp_world, 1, "must be 1: several GPUs merge with merge_state here")
    must_be("cp_rank", cp_rank, 0, "must be 0")
    if return_lse_base not in (None, "base2", "basee"):
        refuse("return_lse_base", return_lse_base, "must be base2 or basee, or None for base2")
    if seq_lens is None:
        refuse("seq_lens", None, "must be given")
    width = int(kv_lora_rank) + int(qk_rope_head_dim)
    must_be("query features", query.shape[-1], width, f"must be kv_lora_rank + qk_rope_head_dim ({width})")
    rows = _rows(kv_cache)
    return served(1.0, run_latent_decode, wide_latents(query, rows, out), rows, block_tables, seq_lens, number(bmm1_scale),
                  workspace_buffer, int(kv_lora_rank), int(max_seq_len), number(bmm2_scale), out=out, lse=lse,
                  return_lse=return_lse, natural=return_lse_base == "basee")


def xqa_batch_decode_with_kv_cache_mla(query, kv_cache, workspace_buffer, qk_nope_head_dim, kv_lora_rank, qk_rope_head_dim,
                                       block_tables, seq_lens, max_seq_len, out=None, bmm1_scale=1.0, bmm2_scale=1.0,
                                       sinks=None, enable_pdl=None):
    """trtllm_batch_decode_with_kv_cache_mla under another name."""
    return trtllm_batch_decode_with_kv_cache_mla(
        query, kv_cache, workspace_buffer, qk_nope_head_dim, kv_lora_rank, qk_rope_head_dim, block_tables, seq_lens,
        max_seq_len, 0, out, bmm1_scale, bmm2_scale, sinks)
