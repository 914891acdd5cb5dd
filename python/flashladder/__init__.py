"""FlashLadder for Python: attention over a paged KV cache by plan and run, on the CPU or the GPU.

Arrays of torch, numpy, cupy or jax; nothing is compiled when it runs. `flashladder.flashinfer` has the same under FlashInfer's
names. docs/python.md shows both.
"""
from ._library import InputError, LibraryError, version as _version, why_no_gpu
from .attention import AttentionConfig, Limits
from .cascade import CUDAGraphMultiLevelCascadeAttention, MultiLevelCascadeAttention
from .classes import (BatchAttention, BatchDecodeWithPagedKVCache, BatchPrefillWithPagedKVCache, BatchPrefillWithRaggedKVCache,
                      CUDAGraphBatchDecodeWithPagedKVCache, CUDAGraphBatchPrefillWithPagedKVCache,
                      CUDAGraphBatchPrefillWithRaggedKVCache)
from .mla import BatchMLAPagedAttention, MlaConfig, append_paged_mla_kv_cache
from .operations import (append_paged_kv_cache, append_paged_kv_cache_by_slots, apply_rope_pos_ids_inplace,
                         apply_rope_with_cos_sin_cache_inplace, fused_add_rmsnorm, gemma_fused_add_rmsnorm, gemma_rmsnorm,
                         get_batch_indices_positions, get_seq_lens, layernorm, make_cos_sin_cache, merge_state,
                         merge_state_in_place, merge_states, rmsnorm, rope)
from .page_pool import PagePool
from .quantised import fused_add_rmsnorm_quant, rmsnorm_quant
from .single import single_decode_with_kv_cache, single_prefill_with_kv_cache

__version__ = _version()

__all__ = [name for name in dir() if not name.startswith("_")]
