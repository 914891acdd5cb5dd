"""FlashInfer's flashinfer.mla: latent attention, which is refused until the library computes it."""
from .._library import refuse

__all__ = ["BatchMLAPagedAttentionWrapper", "trtllm_batch_decode_with_kv_cache_mla", "xqa_batch_decode_with_kv_cache_mla"]

_WHY = "is not there yet: multi-head latent attention is not computed by this version"


class BatchMLAPagedAttentionWrapper:
    """Latent attention over pages: refused."""

    def __init__(self, *arguments, **names):
        refuse("BatchMLAPagedAttentionWrapper", "", _WHY)


def trtllm_batch_decode_with_kv_cache_mla(*arguments, **names):
    """Latent attention over a block table: refused."""
    refuse("trtllm_batch_decode_with_kv_cache_mla", "", _WHY)


def xqa_batch_decode_with_kv_cache_mla(*arguments, **names):
    """Latent attention over a block table: refused."""
    refuse("xqa_batch_decode_with_kv_cache_mla", "", _WHY)
