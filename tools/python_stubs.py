#!/usr/bin/env python3
"""Writes the .pyi files of the Python package: what functions and classes take and return, with types.

   python_stubs.py            says which files differ, and ends with 1 if any does (tests/python/stubs_test.py)
   python_stubs.py --write    writes them

Names, order and defaults are asked of the package; a parameter's type goes by its name, of which TYPES has a list, because
names mean the same everywhere. A name without a type is an error."""
import importlib
import inspect
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODULES = ("attention", "mla", "cascade", "classes", "operations", "page_pool", "single", "flashinfer.attention",
           "flashinfer.cascade", "flashinfer.cudnn", "flashinfer.decode", "flashinfer.mla", "flashinfer.norm",
           "flashinfer.page", "flashinfer.pod", "flashinfer.prefill", "flashinfer.quantization", "flashinfer.rope",
           "flashinfer.trtllm", "flashinfer.xqa", "quantised")
HEADER = '''# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]
'''
TYPES = {
  "int": "num_qo_heads num_kv_heads head_dim head_dim_qk head_dim_vo page_size window_left window_right window num_levels "
         "max_seq_len max_q_len max_kv_len batch_size q_len_per_req fixed_split_size nnz max_batch_size max_num_pages "
         "max_token_per_sequence max_sequence_kv head_size rotary_dim old_context_len cp_world cp_rank sliding_win_size "
         "sm_count q_seq_len token_pos_in_items_len o_sf_vec_size num_pages request tokens max_pos max_pages kind spare "
         "num_heads head_dim_ckv head_dim_kpe chunk_size threads num_sms max_batch max_nnz_qo max_qo_len shuffle_seed "
         "pages entries source destination qk_nope_head_dim kv_lora_rank qk_rope_head_dim sparse_mla_top_k window_left_p "
         "window_left_d uniform_q_len",
  "float": "sm_scale logits_soft_cap rope_scale rope_theta o_scale bmm1_scale bmm2_scale eps "
           "o_sf_scale ckv_scale kpe_scale low_freq_factor high_freq_factor sm_scale_p rope_scale_p rope_theta_p sm_scale_d "
           "rope_scale_d rope_theta_d "
           "skip_softmax_threshold_scale_factor rcp_out_scale kv_scale quant_scale_q quant_scale_kv",
  "Union[float, Array]": "q_scale k_scale v_scale scale",
  "bool": "causal return_lse use_cuda_graph use_tensor_cores non_blocking disable_split_kv natural interleave is_neox "
          "enable_pdl use_fp16_qk_reduction use_fp16_softmax uses_spcompress variant_owns_mask is_causal use_profiler "
          "is_cuda_graph_compatible enable_block_sparse_attention uses_shared_paged_kv_idx "
          "is_var_seq enable_dcp skip_all_rows_active_check skip_softmax use_sinks return_lse_base_on_e causal_p causal_d "
          "return_lse_p return_lse_d",
  "str": "query_layout kv_cache_layout lse_mode output_scale scale_mode kv_layout pos_encoding_mode backend lse_base "
         "lse_layout bitorder batch_offsets_units variant mask_ policy kv_layout_p kv_layout_d pos_encoding_mode_p "
         "pos_encoding_mode_d return_lse_base cute_dsl_impl kv_scale_format",
  "DType": "q_data_type kv_data_type o_data_type data_type o_dtype out_dtype kv_dtype q_dtype output_dtype quantize_dtype",
  "Cache": "kv paged_kv_cache kv_cache unique_kv_cache paged_kv_cache_p paged_kv_cache_d",
  "Sequence[Array]": "qo_indptr_arr paged_kv_indptr_arr paged_kv_indices_arr paged_kv_last_page_len_arr qo_indptr_buf_arr "
                     "paged_kv_indptr_buf_arr paged_kv_indices_buf_arr paged_kv_last_page_len_buf_arr int_workspace_buffers",
  "Optional[Sequence[int]]": "requests",
  "Any": "metadata self like angles config limits jit_args jit_kwargs device "
         "request_order request_order_plan positional names "
         "arguments args old_names bf16q_fp8kv_transform_mode sage_attn_sfs num_elts_per_sage_attn_blk attention other "
         "changes",
  "Array": "q_nope q_pe kv_len ckv_scale_arr q k v out lse query key value input residual weight gamma gemma beta v_a s_a v_b "
           "s_b s v_other s_other mask x "
           "append_key append_value batch_indices positions indptr indices last_page_len kv_indptr qo_indptr kv_indices "
           "kv_len_arr kv_last_page_len paged_kv_indptr paged_kv_indices paged_kv_last_page_len custom_mask "
           "packed_custom_mask sinks page_ids seq_lens seq_lens_q block_tables pos_ids offsets cos_sin_cache append_indptr "
           "slot_mapping float_workspace_buffer workspace_buffer int_workspace_buffer indptr_buffer indices_buffer "
           "last_page_len_buffer paged_kv_indptr_buffer paged_kv_indices_buffer paged_kv_last_page_len_buffer qo_indptr_buf "
           "paged_kv_indptr_buf paged_kv_indices_buf paged_kv_last_page_len_buf kv_indptr_buf custom_mask_buf "
           "mask_indptr_buf cum_seq_lens_q cum_seq_lens_kv k_cache v_cache page_table output semaphores actual_seq_lens_q "
           "actual_seq_lens_kv batch_offsets_q batch_offsets_o batch_offsets_k batch_offsets_v batch_offsets_stats "
           "k_shared v_shared unique_kv_indptr unique_kv_indices unique_kv_last_page_len kv_cache_sf prefix_len_ptr "
           "token_pos_in_items_ptr max_item_len_ptr v_indptr o_indptr scale_q scale_k scale_v profiler_buffer "
           "multi_ctas_kv_counter_buffer causal_seqlens_kv_global bmm1_scale_log2 q_cu_seq_lens k_sf_cache v_sf_cache "
           "attention_sinks q_seq_lens_cpu kv_seq_lens_cpu append_ckv append_kpe ckv_cache kpe_cache "
           "global_override_indptr_cpu q_p k_p v_p q_d custom_mask_p packed_custom_mask_p custom_mask_d packed_custom_mask_d "
           "qo_indptr_p kv_indptr_p kv_indices_p last_page_len_p qo_indptr_d kv_indptr_d kv_indices_d last_page_len_d "
           "sparse_mla_top_k_lens q_rope k_rope k_nope q_rope_out k_rope_out q_nope_out k_nope_out"}
TYPE_OF = {name: kind for kind, names in TYPES.items() for name in names.split()}
PAIR, EITHER = "Tuple[Array, Array]", "Union[Array, Tuple[Array, Array]]"
QUAD = "Tuple[Array, Array, Array, Array]"
RETURNS = {  # of what does not return o, or (o, lse)
  "merge_state": PAIR, "merge_states": PAIR, "get_batch_indices_positions": PAIR, "segment_packbits": PAIR,
  "single_prefill_with_kv_cache_return_lse": PAIR, "run_return_lse": PAIR, "forward_return_lse": PAIR, "explain": "str",
  "plan_json": "str", "fork": "Tuple[int, Any]", "table": "Tuple[Array, Array, Array]", "workspace_bytes": "Tuple[int, int]",
  "cudnn_batch_prefill_with_kv_cache": "Tuple[Array, Optional[Array]]", "rope": "Any",
  "rope_quantize_fp8": QUAD, "mla_rope_quantize_fp8": QUAD, "rope_quantize_fp8_append_paged_kv_cache": PAIR,
  "again_with": "Any",
  "is_cuda_graph_enabled": "bool", "struct": "Any",
  **{f"PODWithPagedKVCacheWrapper.{name}": PAIR for name in ("run", "forward")},
  **{f"BatchPODWithPagedKVCacheWrapper.{name}": f"Tuple[{EITHER}, {EITHER}]" for name in ("run", "forward")}}
NUMBERS = {"add_request", "length", "free_pages"}
NOTHING = ("plan", "append", "begin_forward", "close", "remove", "end_forward", "reset_workspace_buffer", "fast_decode_plan",
           "fused_add_rmsnorm", "gemma_fused_add_rmsnorm", "merge_state_in_place", "prewarm_paged_kv_stride_variant",
           "plan_block_table", "plan_like", "__init__", "append_paged_kv_cache", "append_paged_kv_cache_by_slots",
           "append_paged_mla_kv_cache", "rmsnorm_quant", "fused_add_rmsnorm_quant", "layernorm_quant")
ONE = {"get_seq_lens", "rmsnorm", "gemma_rmsnorm", "layernorm", "packbits", "make_cos_sin_cache", "precompute_freqs_cis",
       "xqa", "xqa_mla", "xqa_batch_decode_with_kv_cache_mla", "forward", "merged"}


def returned(name, where=""):
  for known in (where, name):
    if known in RETURNS:
      return RETURNS[known]
  if name in NOTHING or name.endswith("_inplace"):
    return "None"
  if name.startswith(("apply_rope", "apply_llama31")):
    return PAIR
  return "int" if name in NUMBERS else "Array" if name in ONE else EITHER


def parameters(function, where):
  words, star = [], False
  for p in inspect.signature(function).parameters.values():
    if p.kind == p.VAR_POSITIONAL:
      words.append(f"*{p.name}: Any")
      star = True
      continue
    if p.kind == p.VAR_KEYWORD:
      words.append(f"**{p.name}: Any")
      continue
    if p.kind == p.KEYWORD_ONLY and not star:
      words.append("*")
      star = True
    if p.name == "self":
      words.append("self")
      continue
    if p.name not in TYPE_OF:
      raise SystemExit(f"{where} takes {p.name}, for which TYPES has no type")
    kind = TYPE_OF[p.name]
    if p.default is None and not kind.startswith("Optional") and kind != "Any":
      kind = f"Optional[{kind}]"
    words.append(f"{p.name}: {kind}" + ("" if p.default is p.empty else " = ..."))
  return ", ".join(words)


def function_stub(name, function, indent, where):
  head = f"{indent}def {name}({parameters(function, where)}) -> {returned(name, where)}: ..."
  lines, width = [], 126
  while len(head) > width:
    cut = head.rfind(", ", 0, width) + 1
    lines.append(head[:cut])
    head = indent + "    " + head[cut + 1:]
  return "\n".join(lines + [head])


def annotation(said):
  """The type of a field: "object" is a dtype."""
  words = inspect.formatannotation(said).replace("typing.", "")
  return {"object": "DType"}.get(words, words)


def class_stub(name, kind):
  if issubclass(kind, tuple):
    fields = [f"    {field}: {annotation(kind.__annotations__[field])}{' = ...' if field in kind._field_defaults else ''}"
              for field in kind._fields]
    return "\n".join([f"class {name}(NamedTuple):", *fields])
  bases = [b.__name__ for b in kind.__bases__ if b.__module__ == kind.__module__ and not b.__name__.startswith("_")]
  lines = [f"class {name}{'(' + ', '.join(bases) + ')' if bases else ''}:"]
  seen = set()
  for owner in kind.__mro__[:-1] if not bases else (kind,):
    for method, value in vars(owner).items():
      if (method.startswith("_") and method != "__init__") or method in seen:
        continue
      seen.add(method)
      found = getattr(kind, method)
      if isinstance(value, property):
        lines.append(f"    @property\n    def {method}(self) -> {returned(method)}: ...")
      elif hasattr(value, "func"):  # functools.partialmethod: its function with one argument said
        lines.append(function_stub(method, value.func, "    ", f"{name}.{method}"))
      elif callable(found):
        lines.append(function_stub(method, found, "    ", f"{name}.{method}"))
  return "\n".join(lines if len(lines) > 1 else lines + ["    ..."])


def stub(module_name):
  module = importlib.import_module(f"flashladder.{module_name}")
  names = getattr(module, "__all__", None) or [
    n for n, v in vars(module).items() if not n.startswith("_") and getattr(v, "__module__", "") == module.__name__]
  parts = [HEADER]
  for name in names:
    value = getattr(module, name)
    parts.append(class_stub(name, value) if inspect.isclass(value) else function_stub(name, value, "", name))
  return "\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def main():
  sys.path.insert(0, str(ROOT / "python"))
  different = []
  for module in MODULES:
    file = ROOT / "python" / "flashladder" / (module.replace(".", "/") + ".pyi")
    text = stub(module)
    if not file.exists() or file.read_text() != text:
      different.append(str(file.relative_to(ROOT)))
      if "--write" in sys.argv:
        file.write_text(text)
  if "--write" in sys.argv or not different:
    return 0
  print("These differ from what tools/python_stubs.py --write makes:\n" + "\n".join(different))
  return 1


if __name__ == "__main__":
  sys.exit(main())
