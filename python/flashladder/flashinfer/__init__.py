"""FlashInfer's names on FlashLadder's kernels: `import flashladder.flashinfer as flashinfer`.

Names, arguments, defaults and meanings are FlashInfer 0.7's, with names of 0.2 beside them. What changes no result is a hint
(`HINTS`, and `explain()` of a wrapper), and everything else takes effect or is refused. docs/python.md says more.
"""
from .. import __version__
from .._library import why_no_gpu
from . import attention, cascade, cudnn, decode, mla, norm, page, pod, prefill, quantization, rope, trtllm, xqa
from ._hints import HINTS
from .attention import BatchAttention, BatchAttentionWithAttentionSinkWrapper
from .cascade import (BatchDecodeWithSharedPrefixPagedKVCacheWrapper, BatchPrefillWithSharedPrefixPagedKVCacheWrapper,
                      MultiLevelCascadeAttentionWrapper, merge_state, merge_state_in_place, merge_states)
from .cudnn import cudnn_batch_decode_with_kv_cache, cudnn_batch_prefill_with_kv_cache
from .decode import (BatchDecodeWithPagedKVCacheWrapper, CUDAGraphBatchDecodeWithPagedKVCacheWrapper, fast_decode_plan,
                     single_decode_with_kv_cache, xqa_batch_decode_with_kv_cache)
from .mla import BatchMLAPagedAttentionWrapper
from .norm import (fused_add_rmsnorm, fused_add_rmsnorm_quant, gemma_fused_add_rmsnorm, gemma_rmsnorm, layernorm,
                   layernorm_quant, rmsnorm, rmsnorm_quant)
from .page import append_paged_kv_cache, append_paged_mla_kv_cache, get_batch_indices_positions, get_seq_lens
from .pod import BatchPODWithPagedKVCacheWrapper, PODWithPagedKVCacheWrapper
from .prefill import (BatchPrefillWithPagedKVCacheWrapper, BatchPrefillWithRaggedKVCacheWrapper, single_prefill_with_kv_cache,
                      single_prefill_with_kv_cache_return_lse)
from .quantization import packbits, segment_packbits
from .rope import (apply_llama31_rope, apply_llama31_rope_inplace, apply_llama31_rope_pos_ids,
                   apply_llama31_rope_pos_ids_inplace, apply_rope, apply_rope_inplace, apply_rope_pos_ids,
                   apply_rope_pos_ids_inplace, apply_rope_with_cos_sin_cache, apply_rope_with_cos_sin_cache_inplace,
                   precompute_freqs_cis)
from .trtllm import (trtllm_batch_context_with_kv_cache, trtllm_batch_decode_with_kv_cache, trtllm_ragged_attention_deepseek)
from .xqa import xqa_mla


def explain(wrapper):
    """Who computes for a wrapper, why nobody faster, and what became of each hint that it was given."""
    return wrapper.explain()


def __getattr__(name):
    raise AttributeError(f"flashladder.flashinfer has no {name}: it has attention over a paged KV cache and what stands "
                         "around it (docs/python.md has the list), and neither sampling, GEMMs, MoE nor communication")
