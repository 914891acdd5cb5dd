"""FlashAttention 2 (package flash-attn), and FlashAttention 3: the operator that vLLM ships, or the library's interface."""
import functools, importlib.metadata, importlib.util, os, pathlib

from peer import Peer

VLLM_OPERATOR = "_vllm_fa3_C.abi3.so"


def window(case):
    return case.window_left, 0 if case.causal and case.window_left >= 0 else -1


class FlashAttention2(Peer):
    name = "flash-attn 2"
    get = "pip install flash-attn"
    module, contiguous = "flash_attn", True

    def refuses(self, case):
        if case.page_size % 256 != 0:
            return "it takes pages of a multiple of 256 tokens"
        return "it takes one head dim" if case.head_dim_qk != case.head_dim_vo else None

    def prepare(self, work):
        import flash_attn
        case, batch = work.case, len(work.case.qo_lens)
        options = dict(softmax_scale=case.sm_scale, causal=case.causal, window_size=window(case),
                       softcap=case.logits_soft_cap)
        if not case.contiguous:
            options["block_table"] = work.block_table
        if case.decode and (not case.contiguous or case.one_length):  # the call that splits the keys
            cache = [x.view(batch, -1, *x.shape[1:]) if case.contiguous else x for x in (work.k, work.v)]
            return lambda: flash_attn.flash_attn_with_kvcache(work.q[:, None], *cache, cache_seqlens=work.kv_lens, **options)
        return lambda: flash_attn.flash_attn_varlen_func(work.q, work.k, work.v, work.cu_q, work.cu_k, work.max_q,
                                                         work.max_k, **options)

    def rows(self, o):
        return super().rows(o).flatten(0, -3)  # [batch, 1, heads, head_dim] of a decode


@functools.cache
def vllm_operator():
    """Where vLLM's FlashAttention 3 lies, or None."""
    folders = [os.environ["FA3_DIR"]] if os.environ.get("FA3_DIR") else []
    if vllm := importlib.util.find_spec("vllm"):
        folders += [os.path.join(place, "vllm_flash_attn") for place in vllm.submodule_search_locations or []]
    return next((path for folder in folders if (path := pathlib.Path(folder, VLLM_OPERATOR)).exists()), None)


class FlashAttention3(Peer):
    """vLLM's operator where it is found, else flash_attn_interface."""
    name, takes, multiplies_fp8 = "FA3", ("sinks", "an fp8 cache"), True
    get = (f"pip install vllm, or its file {VLLM_OPERATOR} alone in a folder that $FA3_DIR names; or flash_attn_interface, "
           "built from the folder hopper of flash-attention's source")

    def missing(self):
        found = vllm_operator() or importlib.util.find_spec("flash_attn_interface")
        return None if found else f"There is no {VLLM_OPERATOR} in $FA3_DIR, no vllm and no flash_attn_interface"

    def version(self):
        try:
            return "fa3", f"vllm {importlib.metadata.version('vllm')}"
        except importlib.metadata.PackageNotFoundError:  # the operator alone says no version
            return "fa3", VLLM_OPERATOR if vllm_operator() else "flash_attn_interface"

    def refuses(self, case):
        if case.features and not vllm_operator():
            return "its library's interface is not called with " + ", ".join(case.features)
        return None if not case.kv_dtype or case.decode else "it is called with an fp8 cache for one query a request"

    def prepare(self, work):
        return self.by_vllm(work) if vllm_operator() else self.by_interface(work)

    def by_vllm(self, work):
        """A decode's schedule is made once, as vLLM makes it once a step; num_splits 0 is the library's own choice."""
        import torch
        torch.ops.load_library(str(vllm_operator()))
        operator, case, none = torch.ops._vllm_fa3_C, work.case, None
        paged, causal = not case.contiguous, case.causal or case.decode
        used, table = (work.kv_lens, work.block_table) if paged else (none, none)
        q, schedule, descale = work.q, none, (none,) * 3
        if case.kv_dtype:
            q = q.to(work.kv_dtype)
            descale = tuple(torch.ones(len(case.qo_lens), case.num_kv_heads, device=work.device) for _ in range(3))
        if case.decode and paged:
            schedule = operator.get_scheduler_metadata(
                len(case.qo_lens), 1, work.max_k, case.num_qo_heads, case.num_kv_heads, case.head_dim_qk, case.head_dim_vo,
                q.dtype, used, work.cu_q, none, none, none, none, case.page_size, 0, causal, *window(case),
                case.logits_soft_cap > 0, 0, none, 0)
        rotary = (none,) * 3
        return lambda: operator.fwd(
            q, work.k, work.v, none, none, none, none, work.cu_q, none if paged else work.cu_k, none, none, used,
            work.max_q, work.max_k, table, none, none, *rotary, *descale, case.sm_scale, causal, *window(case),
            case.logits_soft_cap, True, schedule, 0, none, 0, work.sinks, 1, 0, none)

    def by_interface(self, work):
        import flash_attn_interface as fa3
        case = work.case
        options = dict(softmax_scale=case.sm_scale, causal=case.causal or case.decode, window_size=window(case),
                       softcap=case.logits_soft_cap)
        if case.contiguous:
            return lambda: fa3.flash_attn_varlen_func(work.q, work.k, work.v, work.cu_q, work.cu_k, work.max_q, work.max_k,
                                                      **options)
        return lambda: fa3.flash_attn_with_kvcache(work.q, work.k, work.v, cache_seqlens=work.kv_lens,
                                                   page_table=work.block_table, cu_seqlens_q=work.cu_q,
                                                   max_seqlen_q=work.max_q, **options)


PEERS = [FlashAttention3(), FlashAttention2()]
