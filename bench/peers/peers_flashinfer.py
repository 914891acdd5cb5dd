"""FlashInfer through its wrappers: plan() is done once, run() is what is timed. Its kernels are compiled at the first call,
which needs nvcc."""
from peer import Peer

WORKSPACE = 512 << 20
FA2_TAKES = ("a custom mask", "an fp8 cache", "position encoding ALIBI", "position encoding ROPE_LLAMA")


class FlashInfer(Peer):
    get = "pip install flashinfer-python, and nvcc, which compiles its kernels"
    module = "flashinfer"

    def workspace(self, work):
        import torch
        return torch.zeros(WORKSPACE, dtype=torch.uint8, device=work.device)

    def options(self, work):
        case = work.case
        return dict(sm_scale=case.sm_scale, window_left=case.window_left, logits_soft_cap=case.logits_soft_cap or None,
                    q_data_type=work.dtype, kv_data_type=work.kv_dtype, pos_encoding_mode=case.pos_encoding_mode)

    def pages(self, work):
        return work.page_indptr, work.page_ids, work.last_page_len

    def heads(self, case):
        return case.num_qo_heads, case.num_kv_heads, case.head_dim_qk


class Prefill(FlashInfer):
    def __init__(self, backend):
        self.name, self.backend = f"FlashInfer {backend}", backend
        self.takes = FA2_TAKES if backend == "fa2" else ()

    def refuses(self, case):
        return "its decode has wrappers of its own" if case.family == "decode" else None

    def prepare(self, work):
        import flashinfer, torch
        case = work.case
        options = dict(self.options(work), causal=case.causal, head_dim_vo=case.head_dim_vo)
        kind = "Ragged" if case.contiguous else "Paged"
        make = getattr(flashinfer, f"BatchPrefillWith{kind}KVCacheWrapper")
        wrapper = make(self.workspace(work), "NHD", backend=self.backend)
        if case.contiguous:
            wrapper.plan(work.cu_q, work.cu_k, *self.heads(case), **options)
            return lambda: wrapper.run(work.q, work.k, work.v)
        if work.masks:
            options["custom_mask"] = torch.cat([mask.flatten() for mask in work.masks])
        wrapper.plan(work.qo_indptr, *self.pages(work), *self.heads(case), case.page_size, **options)
        return lambda: wrapper.run(work.q, work.kv)


class WithSinks(FlashInfer):
    """Its wrapper for sinks, with which it takes one query a request as well as many."""
    takes = ("sinks",)

    def __init__(self, backend):
        self.name, self.backend = f"FlashInfer sinks {backend}", backend

    def refuses(self, case):
        usual = case.sinks and not case.contiguous and case.head_dim_qk == case.head_dim_vo and not case.logits_soft_cap
        return None if usual else "it takes sinks, pages, one head dim and no soft cap"

    def prepare(self, work):
        import flashinfer
        case, dtypes = work.case, dict(q_data_type=work.dtype, kv_data_type=work.dtype)
        wrapper = flashinfer.BatchAttentionWithAttentionSinkWrapper(
            self.workspace(work), "NHD", backend=self.backend, head_dim_qk=case.head_dim_qk, head_dim_vo=case.head_dim_vo,
            window_left=case.window_left, **dtypes)
        wrapper.plan(work.qo_indptr, *self.pages(work), *self.heads(case), case.page_size, sm_scale=case.sm_scale,
                     causal=case.causal or case.decode, window_left=case.window_left, **dtypes)
        sinks = work.sinks.float()
        return lambda: wrapper.run(work.q, work.kv, sinks, case.sm_scale)


class Decode(FlashInfer):
    def __init__(self, tensor_cores):
        self.name, self.tensor_cores = "FlashInfer tensor-core" if tensor_cores else "FlashInfer cuda-core", tensor_cores
        self.takes = tuple(feature for feature in FA2_TAKES if feature != "a custom mask")

    def refuses(self, case):
        if not case.decode:
            return "it takes one query a request"
        one_dim = case.head_dim_qk == case.head_dim_vo
        return None if one_dim and not case.contiguous else "it takes pages with K and V of one head dim"

    def prepare(self, work):
        import flashinfer
        make = flashinfer.BatchDecodeWithPagedKVCacheWrapper
        wrapper = make(self.workspace(work), "NHD", use_tensor_cores=self.tensor_cores)
        wrapper.plan(*self.pages(work), *self.heads(work.case), work.case.page_size, **self.options(work))
        return lambda: wrapper.run(work.q, work.kv)


class BatchAttention(FlashInfer):
    """Decode and prefill in one persistent kernel."""
    name = "FlashInfer BatchAttention"

    def refuses(self, case):
        if case.contiguous or case.head_dim_qk != case.head_dim_vo:
            return "it takes pages with K and V of one head dim"
        return "it is called without a window and a soft cap" if case.window_left >= 0 or case.logits_soft_cap > 0 else None

    def prepare(self, work):
        import flashinfer
        case, wrapper = work.case, flashinfer.BatchAttention(kv_layout="NHD")
        wrapper.plan(work.cu_q, work.page_indptr.to(work.device), work.page_ids, work.kv_lens, *self.heads(case),
                     case.head_dim_vo, case.page_size, causal=case.causal or case.decode, sm_scale=case.sm_scale,
                     q_data_type=work.dtype, kv_data_type=work.dtype)
        return lambda: wrapper.run(work.q, work.kv, logits_soft_cap=0.0)  # without it some versions compare None


class Xqa(FlashInfer):
    name, takes, multiplies_fp8 = "FlashInfer xqa", ("an fp8 cache", "sinks"), True

    def refuses(self, case):
        if not case.decode or case.page_size not in (16, 32, 64, 128) or case.head_dim_qk != case.head_dim_vo:
            return "it takes one query a request, pages of 16 to 128 and one head dim"
        return "it takes no soft cap" if case.logits_soft_cap > 0 else None

    def prepare(self, work):
        from flashinfer.decode import xqa_batch_decode_with_kv_cache as attend
        workspace, table = self.workspace(work), work.block_table
        options = dict(bmm1_scale=work.case.sm_scale, window_left=work.case.window_left, kv_layout="NHD")
        if work.sinks is not None:
            options["sinks"] = work.sinks.float()
        return lambda: attend(work.q, work.kv, workspace, table, work.kv_lens, work.max_k, **options)


class CudnnPaged(FlashInfer):
    """cuDNN's attention over block tables, as a graph that FlashInfer builds once for each shape. torch's cuDNN takes no
    pages (peers_torch.py)."""
    name, module = "cuDNN paged", "cudnn"
    get = "pip install nvidia-cudnn-frontend flashinfer-python; cuDNN's library itself comes with torch for CUDA"

    def missing(self):
        return super().missing() or Decode(True).missing()

    def refuses(self, case):
        if case.contiguous or case.logits_soft_cap > 0 or (case.window_left >= 0 and not case.decode):
            return "it takes pages, no soft cap, and a window only in decode"
        return "it is called with a causal mask alone" if not case.causal and not case.decode else None

    def prepare(self, work):
        from flashinfer import cudnn
        case, workspace, table = work.case, self.workspace(work), work.block_table
        by_head = lambda cache: cache.transpose(1, 2)  # [pages, num_kv_heads, page_size, head_dim], a view
        lengths = lambda n: n.view(-1, 1, 1, 1)
        k, v, kv_lens = by_head(work.k), by_head(work.v), lengths(work.kv_lens)
        if case.decode:
            return lambda: cudnn.cudnn_batch_decode_with_kv_cache(
                work.q, k, v, case.sm_scale, workspace, max_sequence_kv=work.max_k, actual_seq_lens_kv=kv_lens,
                block_tables=table, window_left=case.window_left)
        qo_lens = lengths(work.cu_q[1:] - work.cu_q[:-1])
        return lambda: cudnn.cudnn_batch_prefill_with_kv_cache(
            work.q, k, v, case.sm_scale, workspace, max_token_per_sequence=work.max_q, max_sequence_kv=work.max_k,
            actual_seq_lens_q=qo_lens, actual_seq_lens_kv=kv_lens, block_tables=table, causal=True, return_lse=False,
            batch_offsets_q=work.cu_q, batch_offsets_units="tokens")


PEERS = [Decode(True), Decode(False), Xqa(), Prefill("fa3"), Prefill("fa2"), BatchAttention(),
         WithSinks("fa3"), WithSinks("fa2"), CudnnPaged()]
