"""FlashInfer's flashinfer.page: the paged cache."""
from .. import mla as _mla
from .. import operations as _operations
from .._library import refuse

__all__ = ["append_paged_kv_cache", "append_paged_mla_kv_cache", "get_batch_indices_positions", "get_seq_lens"]

append_paged_kv_cache = _operations.append_paged_kv_cache
get_batch_indices_positions = _operations.get_batch_indices_positions
get_seq_lens = _operations.get_seq_lens


def append_paged_mla_kv_cache(append_ckv, append_kpe, batch_indices, positions, ckv_cache, kpe_cache, kv_indices, kv_indptr,
                              kv_last_page_len):
    """Writes latent rows of new tokens, append_ckv [nnz, head_dim_ckv] and append_kpe [nnz, head_dim_kpe], into their pages;
    the rest as of append_paged_kv_cache."""
    for name, value in (("ckv_cache", ckv_cache), ("kpe_cache", kpe_cache)):
        if value is None:
            refuse(name, "None", "must be given")
    _mla.append_paged_mla_kv_cache(append_ckv, append_kpe, batch_indices, positions, ckv_cache, kpe_cache, kv_indices,
                                   kv_indptr, kv_last_page_len)
