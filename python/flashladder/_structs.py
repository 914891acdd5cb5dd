"""The structs and functions of capi/flashladder.h and the headers that it includes, as ctypes has them.

Field for field in the header's order; tests/python/abi_test.py compares every offset with the committed list of the C ABI.
"""
import ctypes as c

_i32, _i64, _f32, _size, _ptr = c.c_int32, c.c_int64, c.c_float, c.c_size_t, c.c_void_p

OK, INVALID_ARGUMENT, OUT_OF_MEMORY, CUDA_ERROR, INTERNAL_ERROR = range(5)
CPU, GPU = 0, 1
F32, F16, BF16, F8_E4M3, F8_E5M2 = 1, 2, 3, 4, 5
NHD, HND = 0, 1
LAYOUTS = {"NHD": NHD, "HND": HND}
MASK_NONE, MASK_CAUSAL, MASK_CUSTOM = 0, 1, 2
POS_ENCODING_MODES = {"NONE": 0, "ROPE_LLAMA": 1, "ALIBI": 2}
POLICIES = {"balanced": 0, "fixed": 1, "none": 2, "count": 3, "target": 4, "even": 5}
BACKENDS = {"auto": 0, "fa2": 1, "fa3": 2}
DECODE, PREFILL, RAGGED_PREFILL, GRAPH_DECODE, GRAPH_PREFILL, BATCH_ATTENTION, GRAPH_RAGGED_PREFILL = range(7)
RAGGED = (RAGGED_PREFILL, GRAPH_RAGGED_PREFILL)
TRTLLM_BATCH_DECODE, TRTLLM_BATCH_CONTEXT, CUDNN_BATCH_DECODE, CUDNN_BATCH_PREFILL, XQA = range(5)


class Struct(c.Structure):
    """A struct that begins with its size, which is set; every other field is zero until it is said."""

    def __init__(self, **fields):
        super().__init__(size=c.sizeof(type(self)), **fields)


def _struct(name, *fields):
    return type(name, (Struct,), {"_fields_": [("size", _size), *fields]})


Error = _struct("Error", ("status", _i32), ("request", _i32), ("message", c.c_char_p), ("argument", c.c_char_p),
                ("value", c.c_char_p), ("rule", c.c_char_p))
Tensor = _struct("Tensor", ("data", _ptr), ("dtype", _i32), ("rank", _i32), ("shape", _i64 * 5), ("strides", _i64 * 5))
KvCache = _struct("KvCache", ("k", _ptr), ("v", _ptr), ("layout", _i32), ("reserved", _i32), ("k_scale", _f32),
                  ("v_scale", _f32), ("k_scale_per_head", _ptr), ("v_scale_per_head", _ptr))
Logits = _struct("Logits", ("sm_scale", _f32), ("mask", _i32), ("use_window", _i32), ("window_left", _i32),
                 ("logits_soft_cap", _f32), ("pos_encoding_mode", _i32), ("rope_scale", _f32), ("rope_theta", _f32))
AttentionConfig = _struct(
    "AttentionConfig", *((name, _i32) for name in (
        "num_qo_heads", "num_kv_heads", "head_dim_qk", "head_dim_vo", "page_size", "kv_dtype", "q_dtype", "o_dtype", "sinks",
        "device", "policy", "chunk_size", "threads", "enable_pdl", "backend", "reserved")),
    ("logits", _ptr), ("num_sms", _i32), ("reserved2", _i32))
AttentionLimits = _struct("AttentionLimits", ("max_pages", _i64), ("max_nnz_qo", _i64), ("max_batch", _i32),
                          ("reserved", _i32), ("max_qo_len", _i32), ("reserved2", _i32))
Workspace = _struct("Workspace", ("device", _ptr), ("device_bytes", _size), ("staging", _ptr), ("staging_bytes", _size))
Batch = _struct(
    "Batch", ("batch", _i32), ("max_pages", _i32), ("qo_indptr", _ptr), ("paged_kv_indptr", _ptr),
    ("paged_kv_last_page_len", _ptr), ("kv_indptr", _ptr), ("seq_lens", _ptr), ("page_ids", _ptr), ("num_page_ids", _i64),
    ("page_ids_on", _i32), ("reserved", _i32), ("lengths_on_device", _i32), ("max_seq_len", _i32), ("max_qo_len", _i32),
    ("reserved2", _i32), ("max_nnz_qo", _i64))
AttentionArguments = _struct(
    "AttentionArguments", ("q", _ptr), ("kv", _ptr), ("o", _ptr), ("lse_log2", _ptr), ("page_ids", _ptr),
    ("num_page_ids", _i64), ("sinks", _ptr), ("custom_mask", _ptr), ("custom_mask_bytes", _i64), ("lse_natural", _ptr),
    ("packed_custom_mask", _ptr), ("packed_custom_mask_bytes", _i64))
MlaConfig = _struct(
    "MlaConfig", *((name, _i32) for name in ("num_heads", "head_dim_ckv", "head_dim_kpe", "page_size", "causal")),
    ("sm_scale", _f32), *((name, _i32) for name in (
        "kv_dtype", "q_dtype", "o_dtype", "device", "policy", "chunk_size", "threads", "enable_pdl", "num_sms", "reserved")))
MlaCache = _struct("MlaCache", ("ckv", _ptr), ("kpe", _ptr), ("head_dim_ckv", _i32), ("reserved", _i32), ("ckv_scale", _f32),
                   ("kpe_scale", _f32))
MlaArguments = _struct("MlaArguments", *((name, _ptr) for name in ("q_nope", "q_pe", "cache", "o", "lse_log2", "lse_natural")))
MlaDecodeCall = _struct(
    "MlaDecodeCall", *((name, _ptr) for name in (
        "query", "o", "kv_cache", "workspace_buffer", "block_tables", "seq_lens", "lse_log2", "lse_natural")),
    *((name, _i32) for name in ("batch", "max_pages", "max_seq_len", "reserved")), ("bmm1_scale", _f32), ("bmm2_scale", _f32))
On = _struct("On", ("stream", _ptr), ("device", _i32), ("enable_pdl", _i32))
ServingCall = _struct(
    "ServingCall", ("q", _ptr), ("o", _ptr), ("kv", _ptr), ("workspace_buffer", _ptr), ("block_tables", _ptr),
    ("seq_lens", _ptr), ("cum_seq_lens_q", _ptr), ("sinks", _ptr), ("lse_log2", _ptr), ("lse_natural", _ptr),
    ("batch", _i32), ("max_pages", _i32), ("max_q_len", _i32), ("max_kv_len", _i32), ("bmm1_scale", _f32),
    ("bmm2_scale", _f32), ("use_window", _i32), ("window_left", _i32), ("causal", _i32), ("reserved", _i32), ("mask", _ptr),
    ("lengths_on_device", _i32), ("reserved2", _i32), ("seq_lens_q", _ptr))
PageLists = _struct("PageLists", ("indptr", _ptr), ("indices", _ptr), ("last_page_len", _ptr), ("num_indices", _i64),
                    ("batch", _i32), ("reserved", _i32))
Rope = _struct("Rope", ("rotary_dim", _i32), ("interleave", _i32), ("rope_scale", _f32), ("rope_theta", _f32),
               ("low_freq_factor", _f32), ("high_freq_factor", _f32), ("old_context_len", _i32), ("reserved", _i32))
PageCopy = _struct("PageCopy", ("source", _i32), ("destination", _i32), ("entries", _i32), ("reserved", _i32))

C_NAMES = {  # of the committed list of the C ABI
    "fl_error": Error, "fl_tensor": Tensor, "fl_kv_cache": KvCache, "fl_logits": Logits,
    "fl_attention_config": AttentionConfig, "fl_attention_limits": AttentionLimits, "fl_workspace": Workspace,
    "fl_batch": Batch, "fl_attention_arguments": AttentionArguments, "fl_on": On, "fl_serving_call": ServingCall,
    "fl_mla_config": MlaConfig, "fl_mla_cache": MlaCache, "fl_mla_arguments": MlaArguments,
    "fl_mla_decode_call": MlaDecodeCall,
    "fl_page_lists": PageLists, "fl_rope": Rope, "fl_page_copy": PageCopy}

# What each function takes: p a pointer, i an int32, l an int64, f a float. All return an int32 status.
FUNCTIONS = {
    "fl_last_error_parts": "p",
    "fl_attention_bytes_for_batch": "ipppp", "fl_attention_bytes_for_limits": "ipppp",
    "fl_attention_least_device_bytes_for_limits": "ippp", "fl_attention_create": "ipppp",
    "fl_attention_plan": "ppp", "fl_attention_run": "ppp",
    "fl_attention_explain": "pp", "fl_attention_plan_json": "pp",
    "fl_cascade_bytes_for_batch": "ppippp", "fl_cascade_create": "ippp",
    "fl_cascade_graph_bytes": "ppippp", "fl_cascade_graph_create": "ipppp", "fl_cascade_plan": "ppip",
    "fl_cascade_run": "ppppip", "fl_cascade_explain": "pp",
    "fl_mla_bytes_for_limits": "pppp", "fl_mla_create": "pppp", "fl_mla_plan": "ppp", "fl_mla_run": "ppp",
    "fl_mla_decode_bytes": "pppp", "fl_mla_decode_run": "pp",
    "fl_mla_explain": "pp", "fl_append_paged_mla_kv_cache": "ppppppp",
    "fl_single_decode_with_kv_cache": "ppp", "fl_single_prefill_with_kv_cache": "ppp",
    "fl_serving_bytes": "ipppp", "fl_serving_run": "ipp",
    "fl_merge_state": "ppppppp", "fl_merge_state_in_place": "pppppp", "fl_merge_states": "ppppp",
    "fl_variable_length_merge_states": "pppppp",
    "fl_append_paged_kv_cache": "ppppppp", "fl_append_paged_kv_cache_by_slots": "ppppp",
    "fl_get_batch_indices_positions": "ppipplp", "fl_get_seq_lens": "ppiipp",
    "fl_validate_page_ids": "pi", "fl_validate_block_ids": "ppiiii",
    "fl_rmsnorm": "pppfp", "fl_fused_add_rmsnorm": "pppfp", "fl_gemma_rmsnorm": "pppfp",
    "fl_gemma_fused_add_rmsnorm": "pppfp", "fl_layernorm": "ppppfp", "fl_layernorm_quant": "ppppfpfp",
    "fl_rmsnorm_quant": "pppfpfp", "fl_fused_add_rmsnorm_quant": "ppppfpfp",
    "fl_apply_rope_pos_ids_inplace": "ppppp", "fl_apply_rope_with_cos_sin_cache_inplace": "ppppip",
    "fl_apply_rope_with_cos_sin_cache_inplace_int64": "ppppip",
    "fl_make_rope_cos_sin_cache": "ippl",
    "fl_rope_pos_ids_append_paged_kv_cache": "ppppppppp",
    "fl_rope_with_cos_sin_cache_append_paged_kv_cache_by_slots": "pppppppip",
    "fl_page_pool_create": "iipp", "fl_page_pool_add_request": "pp", "fl_page_pool_append": "pii",
    "fl_page_pool_fork": "piipp", "fl_page_pool_remove": "pi", "fl_page_pool_length": "pip",
    "fl_page_pool_uses": "pip", "fl_page_pool_free_pages": "pp", "fl_page_pool_requests": "ppp",
    "fl_page_pool_table": "ppip",
}
C_TYPES = {"p": _ptr, "i": _i32, "l": _i64, "f": _f32}
