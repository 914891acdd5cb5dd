"""Every argument of FlashInfer's that is off its default changes the result, is refused, or is in HINTS and changes no bit.

The arguments are those of flashinfer_signatures.json; OFF has a value for each that a call does without. An argument that
nobody thought of has no value there, and fails."""
import inspect


from support import Arrays, Batch, main, oracle, rng, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer
from signatures_test import THEIRS

XP = Arrays("numpy")
B = Batch(XP, kv_lens=(33, 12, 70), qo_lens=(5, 3, 7))
D = Batch(XP, kv_lens=(33, 12, 70), layout="NHD")
TABLE = np.zeros((3, 6), np.int32)
for _r in range(3):
  TABLE[_r, :D.indptr[_r + 1] - D.indptr[_r]] = D.indices[D.indptr[_r]:D.indptr[_r + 1]]
SINKS = np.linspace(-1, 1, 8).astype(np.float32)
MASK = rng.random(sum(q * k for q, k in zip(B.qo_lens, B.kv_lens))) < 0.5
BITS = np.concatenate([np.packbits(m, bitorder="little")
                       for m in np.split(MASK, np.cumsum([q * k for q, k in zip(B.qo_lens, B.kv_lens)])[:-1])])
ANY = np.zeros(3, np.int32)
ITEMS = {"prefix_len_ptr": np.array([30, 9, 60], np.int32), "token_pos_in_items_len": 12,  # items of five behind a prefix
         "token_pos_in_items_ptr": np.tile(np.arange(12, dtype=np.int32) % 5, 3)}
OFF = {
  "kv_layout": "HND", "pos_encoding_mode": "ALIBI", "use_tensor_cores": True, "q_scale": 2.0, "k_scale": 2.0, "v_scale": 2.0,
  "window_left": 4, "window_right": 1, "logits_soft_cap": 1.5, "sm_scale": 0.3, "rope_scale": 4.0, "rope_theta": 100.0,
  "q_data_type": "float32", "kv_data_type": "float32", "o_data_type": "float32", "data_type": "float32",
  "non_blocking": False, "fixed_split_size": 4, "disable_split_kv": True, "q_len_per_req": 2, "is_causal": True,
  "enable_pdl": True, "sinks": SINKS, "kv_cache_sf": ANY, "skip_softmax_threshold_scale_factor": 1.0,
  "use_fp16_softmax": True, "uses_spcompress": True, "use_fp16_qk_reduction": True, "backend": "cudnn", "jit_args": [1],
  "jit_kwargs": {"a": 1}, "variant_owns_mask": True, "use_cuda_graph": True, "custom_mask": MASK, "causal": True,
  "packed_custom_mask": BITS, "head_dim_vo": 32, "lse_base": "ln", "lse_layout": "HN",
  "prefix_len_ptr": np.array([32, 9, 65], np.int32), "token_pos_in_items_ptr": np.arange(36, dtype=np.int32) % 3,
  "token_pos_in_items_len": 3, "uniform_q_len": 5, "max_item_len_ptr": ANY, "seq_lens": ANY, "seq_lens_q": ANY,
  "block_tables": ANY, "max_token_per_sequence": 9, "max_sequence_kv": 99, "o_scale": 2.0, "v_indptr": ANY, "o_indptr": ANY,
  "scale_q": ANY, "scale_k": ANY, "scale_v": ANY, "o_dtype": "float32", "return_lse": True, "bmm1_scale": 0.3,
  "bmm2_scale": 2.0, "out_dtype": "float32", "o_sf_scale": 2.0, "o_sf_vec_size": 16, "max_q_len": 9,
  "mask": np.zeros((3, 1, 2), np.uint16),
  "cum_seq_lens_q": B.qo, "uses_shared_paged_kv_idx": False, "bmm1_scale_log2": ANY, "multi_ctas_kv_counter_buffer": ANY,
  "enable_block_sparse_attention": True, "cp_world": 2, "cp_rank": 1, "causal_seqlens_kv_global": ANY,
  "bf16q_fp8kv_transform_mode": "k_only", "request_order": ANY, "request_order_plan": ANY, "use_profiler": True,
  "profiler_buffer": ANY, "sliding_win_size": 5, "sm_count": 8, "rcp_out_scale": 2.0, "q_seq_len": 2, "q_cu_seq_lens": ANY,
  "k_sf_cache": ANY, "v_sf_cache": ANY, "kv_scale": 2.0, "is_cuda_graph_compatible": True, "batch_offsets_q": ANY,
  "batch_offsets_o": ANY, "batch_offsets_k": ANY, "batch_offsets_v": ANY, "semaphores": ANY,
  "workspace_buffer": XP.workspace(), "eps": 1.0, "num_kv_heads": 4, "page_size": 8,
  "custom_mask_p": MASK, "packed_custom_mask_p": BITS, "causal_p": True, "kv_layout_p": "HND", "pos_encoding_mode_p": "ALIBI",
  "sm_scale_p": 0.3, "window_left_p": 4, "rope_scale_p": 4.0, "rope_theta_p": 100.0, "return_lse_p": True,
  "custom_mask_d": MASK, "packed_custom_mask_d": BITS, "causal_d": True, "kv_layout_d": "HND", "pos_encoding_mode_d": "ALIBI",
  "sm_scale_d": 0.3, "window_left_d": 4, "rope_scale_d": 4.0, "rope_theta_d": 100.0, "return_lse_d": True,
  "sparse_mla_top_k": 4, "sparse_mla_top_k_lens": ANY, "is_var_seq": False, "cute_dsl_impl": "modular",
  "kv_scale_format": "pow2_fp32", "enable_dcp": True, "return_lse_base": "basee"}
# Off their defaults these change something that the outputs of one call do not show, and other tests do.
ELSEWHERE = {"out", "lse", "output", "qo_indptr_buf", "paged_kv_indptr_buf", "paged_kv_indices_buf",
             "paged_kv_last_page_len_buf", "custom_mask_buf", "mask_indptr_buf", "kv_indptr_buf", "paged_kv_indptr_buffer",
             "paged_kv_indices_buffer", "paged_kv_last_page_len_buffer", "global_override_indptr_cpu",
             "qo_indptr_buf_arr", "paged_kv_indptr_buf_arr", "paged_kv_indices_buf_arr", "paged_kv_last_page_len_buf_arr"}
# What an argument needs beside it to count; and ways to cut, which leave every bit of batches as small as these.
ROTATED = {"pos_encoding_mode": "ROPE_LLAMA"}
ROTATED_P, LSE_TOO = {"pos_encoding_mode_p": "ROPE_LLAMA"}, {"return_lse": True}
BESIDE = {**{name: ITEMS for name in (*ITEMS, "max_item_len_ptr")}, "lse_base": LSE_TOO, "return_lse_base": LSE_TOO,
          "lse_layout": LSE_TOO, "rope_scale": ROTATED,
          "rope_theta": ROTATED, "rope_scale_p": ROTATED_P, "rope_theta_p": ROTATED_P}
NO_BIT_HERE = {"disable_split_kv", "fixed_split_size"}
REQUIRED_HERE = {"actual_seq_lens_kv", "block_tables"}  # of cudnn's decode, which has None for them


def decode(init, plan, run):
  wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(XP.workspace(), **init)
  wrapper.plan(D.indptr, D.indices, D.last, 8, 2, 64, 16, **plan)
  return wrapper.run(D.q, (D.k, D.v), **run)


def prefill(init, plan, run):
  wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(XP.workspace(), **init)
  wrapper.plan(B.qo, B.indptr, B.indices, B.last, 8, 2, 64, 16, **plan)
  return wrapper.run(B.q, (B.k, B.v), **run)


RAGGED = [rng.standard_normal((sum(B.kv_lens), 2, 64)).astype(np.float16) for _ in range(2)]


def ragged(init, plan, run):
  wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(XP.workspace(), **init)
  wrapper.plan(B.qo, np.cumsum([0, *B.kv_lens]).astype(np.int32), 8, 2, 64, **plan)
  return wrapper.run(B.q, *RAGGED, **run)


def pod(init, plan, run):
  wrapper = flashinfer.PODWithPagedKVCacheWrapper(XP.workspace(), **init)
  wrapper.plan(D.indptr, D.indices, D.last, 8, 2, 64, 16, **plan)
  mask = {name: x[:P_BITS[name]] for name, x in run.items() if name in P_BITS}
  return wrapper.run(B.q[:5], RAGGED[0][:33], RAGGED[1][:33], D.q, (D.k, D.v), **{**run, **mask})


def batch_pod(init, plan, run):
  wrapper = flashinfer.BatchPODWithPagedKVCacheWrapper(XP.workspace(), **init)
  each = np.arange(4, dtype=np.int32)
  wrapper.plan(B.qo, B.indptr, B.indices, B.last, each, D.indptr, D.indices, D.last, 8, 2, 64, 16, **plan)
  p, d = wrapper.run(B.q, (B.k, B.v), D.q, (D.k, D.v), **run)
  return (*p, *d) if run.get("return_lse") else (p, d)


def cascade(init, plan, run):
  wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(2, XP.workspace(), **init)
  wrapper.plan([XP.ints([0, 15]), B.qo], [B.indptr[:2], B.indptr], [B.indices[:B.indptr[1]], B.indices], [B.last[:1], B.last],
               8, 2, 64, 16, **plan)
  return wrapper.run(B.q, (B.k, B.v), **run)


def called(function, *arguments, **base):
  return lambda _, given, __: function(*arguments, **{**base, **given})


P_BITS = {"custom_mask_p": 5 * 33, "packed_custom_mask_p": 21}
K1, V1 = RAGGED[0][:33], RAGGED[1][:33]
HND = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in (D.k, D.v)]
LATENTS, WIDE = ([rng.standard_normal((*shape, dim)).astype(np.float16) for shape in ((3, 1, 4), (len(D.k), 16))]
                 for dim in (80, 576))  # queries, and rows of a cache
def normed(_, given, __):
  out, residual = np.full((3, 128), 0x7F, np.uint8), RAGGED[1][:3].reshape(3, 128).copy()
  flashinfer.fused_add_rmsnorm_quant(out, RAGGED[0][:3].reshape(3, 128), residual, RAGGED[0][3].reshape(128), 0.1, **given)
  return out, residual


CALLS = {  # name: (how it is called, parts of which the arguments are)
  "decode.BatchDecodeWithPagedKVCacheWrapper": (decode, ("__init__", "plan", "run")),
  "prefill.BatchPrefillWithPagedKVCacheWrapper": (prefill, ("__init__", "plan", "run")),
  "prefill.BatchPrefillWithRaggedKVCacheWrapper": (ragged, ("__init__", "plan", "run")),
  "pod.PODWithPagedKVCacheWrapper": (pod, ("__init__", "plan", "run")),
  "pod.BatchPODWithPagedKVCacheWrapper": (batch_pod, ("__init__", "plan", "run")),
  "cascade.MultiLevelCascadeAttentionWrapper": (cascade, ("__init__", "plan", "run")),
  "decode.single_decode_with_kv_cache": (called(flashinfer.single_decode_with_kv_cache, D.q[0], K1, V1), ("",)),
  "prefill.single_prefill_with_kv_cache": (called(flashinfer.single_prefill_with_kv_cache, B.q[:5], K1, V1), ("",)),
  "decode.trtllm_batch_decode_with_kv_cache": (
    called(flashinfer.trtllm_batch_decode_with_kv_cache, D.q, tuple(HND), XP.workspace(), TABLE, np.array(D.kv_lens, np.int32),
           96), ("",)),
  "cudnn.cudnn_batch_decode_with_kv_cache": (
    called(flashinfer.cudnn_batch_decode_with_kv_cache, D.q, *HND, 0.2, XP.workspace(), max_sequence_kv=96,
           actual_seq_lens_kv=np.array(D.kv_lens, np.int32), block_tables=TABLE), ("",)),
  "norm.fused_add_rmsnorm_quant": (normed, ("",)),
  "xqa.xqa": (called(flashinfer.xqa, D.q, D.k, D.v, TABLE, np.array(D.kv_lens, np.int32)), ("",)),
  "mla.trtllm_batch_decode_with_kv_cache_mla": (
    called(flashinfer.mla.trtllm_batch_decode_with_kv_cache_mla, *LATENTS, XP.workspace(), 128, 64, 16, TABLE,
           np.array(D.kv_lens, np.int32), 96), ("",)),
  "mla.xqa_batch_decode_with_kv_cache_mla": (
    called(flashinfer.mla.xqa_batch_decode_with_kv_cache_mla, *LATENTS, XP.workspace(), 128, 64, 16, TABLE,
           np.array(D.kv_lens, np.int32), 96), ("",)),
  "xqa.xqa_mla": (called(flashinfer.xqa_mla, WIDE[0], WIDE[1], WIDE[1], TABLE, np.array(D.kv_lens, np.int32)), ("",)),
}


def same(a, b):
  a, b = (x if isinstance(x, tuple) else (x,) for x in (a, b))
  return len(a) == len(b) and all(x.dtype == y.dtype and np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b))


def options(name, part):
  """Arguments of theirs with a default, that ours takes too."""
  key = f"{name}.{part}" if part else name
  have = [(argument, default) for argument, default in THEIRS[key] if default != "no default"]
  if key == "decode.BatchDecodeWithPagedKVCacheWrapper.plan":  # theirs are behind *args and **kwargs
    parameters = inspect.signature(flashinfer.BatchDecodeWithPagedKVCacheWrapper._plan).parameters
    have += [(n, p.default) for n, p in parameters.items() if p.default is not p.empty]
  return have


class EveryArgument(unittest.TestCase):
  def outcome(self, call, index, argument, value):
    beside = BESIDE.get(argument, {})
    groups = [{}, {}, {}]
    groups[index] = beside
    try:
      baseline = call(*groups)
    except ValueError:
      self.assertTrue(beside, "is refused without any argument")
      return "refused"  # as what the argument needs beside it
    groups[index] = {**beside, argument: value}
    try:
      return "no effect" if same(call(*groups), baseline) else "effect"
    except (ValueError, TypeError) as error:
      self.assertGreater(len(str(error)), 20, argument)
      return "refused"

  def test_every_argument(self):
    counts = {}
    for name, (call, parts) in CALLS.items():
      for i, part in enumerate(parts):
        index = i if len(parts) > 1 else 1
        for argument, default in options(name, part):
          if argument in ELSEWHERE or (name.startswith("cudnn") and argument in REQUIRED_HERE):
            continue
          with self.subTest(call=name, part=part, argument=argument):
            self.assertTrue(argument in OFF, f"{argument} has no value here")
            value = "NHD" if (argument, default) == ("kv_layout", "HND") else OFF[argument]
            was = self.outcome(call, index, argument, value)
            counts[was] = counts.get(was, 0) + 1
            if was == "no effect":
              self.assertTrue(argument in flashinfer.HINTS or argument in NO_BIT_HERE, "no effect, and no hint")
    print(", ".join(f"{n} {what}" for what, n in sorted(counts.items())))


if __name__ == "__main__":
  main()
