"""FlashInfer's wrappers and single calls on our kernels: each against float64."""
import functools


from support import Batch, close, each_kind, main, oracle, rng, tolerances, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer

DECODE = oracle.Logits()
CAUSAL = oracle.Logits(causal=True)


class Decode(unittest.TestCase):
  @each_kind
  def test_plan_and_run(self, xp):
    for layout in ("NHD", "HND"):
      b = Batch(xp, layout=layout)
      wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace(), layout, use_tensor_cores=True)
      wrapper.plan(*b.lists(), 8, 2, 64, 16, q_data_type="float16", data_type="float16")
      b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True))
      b.check(self, wrapper.run(b.q, b.joined))
      b.check(self, wrapper.run_return_lse(b.q, b.joined))
      self.assertIn("use_tensor_cores = True", wrapper.explain())

  @each_kind
  def test_what_run_says(self, xp):
    b = Batch(xp)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
    sinks = rng.standard_normal(8).astype(np.float32)
    for _ in range(3):  # each plan anew
      wrapper.plan(*b.lists(), 8, 2, 64, 16, sm_scale=0.2)
      b.check(self, wrapper.run(b.q, (b.k, b.v), q_scale=2.0, k_scale=0.5, return_lse=True), oracle.Logits(sm_scale=0.2))
      b.check(self, wrapper.run(b.q, (b.k, b.v), q_scale=2.0, return_lse=True), oracle.Logits(sm_scale=0.4))
      b.check(self, wrapper.run(b.q, (b.k, b.v), v_scale=3.0), oracle.Logits(sm_scale=0.2), scale=3.0)
      b.check(self, wrapper.run(b.q, (b.k, b.v), sinks=xp.of(sinks), return_lse=True),
              oracle.Logits(sm_scale=0.2, sinks=sinks))
      b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True), oracle.Logits(sm_scale=0.2))
    wrapper.plan(*b.lists(), 8, 2, 64, 16, window_left=3)
    b.check(self, wrapper.run(b.q, (b.k, b.v), window_left=3), oracle.Logits(window_left=3))
    with self.assertRaisesRegex(ValueError, "window_left"):
      wrapper.run(b.q, (b.k, b.v), window_left=4)

  @each_kind
  def test_old_names(self, xp):
    b = Batch(xp)
    indptr, indices, last = b.lists()
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
    wrapper.begin_forward(indptr, indices, last, 8, 2, 64, 16, "NONE", data_type="float16")
    for _ in range(2):
      b.check(self, wrapper.forward(b.q, b.joined, sm_scale=0.1, window_left=9), oracle.Logits(sm_scale=0.1, window_left=9))
      b.check(self, wrapper.forward_return_lse(b.q, b.joined, logits_soft_cap=3.0), oracle.Logits(logits_soft_cap=3.0))
      b.check(self, wrapper.forward(b.q, b.joined, "ALIBI"), oracle.Logits(pos_encoding_mode="ALIBI"))
      wrapper.begin_forward(indptr, indices, last, 8, 2, 64, 16, "NONE", data_type="float16")
      b.check(self, wrapper.run(b.q, b.joined))
    wrapper.end_forward()
    wrapper.plan(kv_indptr=indptr, kv_indices=indices, kv_last_page_len=last, num_qo_heads=8, num_kv_heads=2, head_dim_qk=64,
                 page_size=16)
    b.check(self, wrapper.run(b.q, b.joined))
    wrapper.plan(indptr, indices, last, 8, 2, 64, 16, "NONE", "float16", "float16", "float16")  # dtypes where a window stands
    b.check(self, wrapper.run(b.q, b.joined))
    with self.assertRaisesRegex(ValueError, "window_left"):
      wrapper.plan(indptr, indices, last, 8, 2, 64, 16, "NONE", "float16", 3.0)
    wrapper.plan(indptr, indices, last, 8, 2, 64)                                               # no page size
    b.check(self, wrapper.run(b.q, b.joined))

  @each_kind
  def test_dtypes_that_nobody_said(self, xp):
    for dtype in reversed(xp.plain_dtypes()):
      b = Batch(xp, dtype=dtype)
      wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
      for _ in range(2):
        wrapper.plan(*b.lists(), 8, 2, 64, 16)
        b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True))
    b = Batch(xp, dtype="float32")
    wrapper.plan(*b.lists(), 8, 2, 64, 16, q_data_type="float16")
    with self.assertRaisesRegex(ValueError, "dtype"):
      wrapper.run(b.q, (b.k, b.v))

  @each_kind
  def test_fast_plan(self, xp):
    b = Batch(xp)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
    wrapper.plan = functools.partial(flashinfer.fast_decode_plan, wrapper)  # as servers do
    wrapper.plan(*b.lists(), 8, 2, 64, 16, q_data_type="float16", sm_scale=0.3)
    b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True), oracle.Logits(sm_scale=0.3))

  @each_kind
  def test_several_queries(self, xp):
    b = Batch(xp, kv_lens=(33, 4, 9, 64), qo_lens=(3, 3, 3, 3))
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace(), use_tensor_cores=True)
    wrapper.plan(*b.lists(), 8, 2, 64, 16, q_len_per_req=3)
    b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True), CAUSAL)

  @each_kind
  def test_cuts(self, xp):
    b = Batch(xp, kv_lens=(300, 20))
    for said in ({"fixed_split_size": 5}, {"disable_split_kv": True}):
      wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
      wrapper.plan(*b.lists(), 8, 2, 64, 16, **said)
      b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True))

  @each_kind
  def test_rank_3(self, xp):
    for layout in ("NHD", "HND"):
      b = Batch(xp, page_size=1, layout=layout)
      k, v = (x.reshape(b.total, 2, 64) for x in (b.k, b.v))
      wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace(), layout)
      wrapper.plan(*b.lists(), 8, 2, 64, 1)
      b.check(self, wrapper.run(b.q, (k, v), return_lse=True))
    b = Batch(xp)
    wrapper.plan(*b.lists(), 8, 2, 64, 16)
    with self.assertRaisesRegex(ValueError, "page_size|pages"):
      wrapper.run(b.q, (k, v))

  @each_kind
  def test_graphs(self, xp):
    b = Batch(xp)
    buffers = {"indptr_buffer": xp.ints(np.zeros(5)), "indices_buffer": xp.ints(np.zeros(30)),
               "last_page_len_buffer": xp.ints(np.zeros(4))}
    by_buffers = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(xp.workspace(), **buffers)
    by_number = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(xp.workspace(), max_batch_size=9, max_num_pages=40)
    for wrapper in (by_buffers, by_number):
      self.assertTrue(wrapper.is_cuda_graph_enabled)
      for kv_lens in ((33, 0, 7, 64), (1, 90, 4, 4)):
        b = Batch(xp, kv_lens=kv_lens)
        wrapper.plan(*b.lists(), 8, 2, 64, 16)
        b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True))
    b = Batch(xp, kv_lens=(33, 7))
    by_number.plan(*b.lists(), 8, 2, 64, 16)
    out = xp.normal(2, 8, 64)
    self.assertIs(by_number.run(b.q, (b.k, b.v), out=out), out)
    b.check(self, out)
    with self.assertRaisesRegex(ValueError, "batch = 2: must be 4"):
      by_buffers.plan(*b.lists(), 8, 2, 64, 16)

  @each_kind
  def test_single(self, xp):
    q, k, v = xp.normal(4, 64), xp.normal(20, 2, 64), xp.normal(20, 2, 64)
    for said, logits in (({}, DECODE), ({"pos_encoding_mode": "ROPE_LLAMA"}, oracle.Logits(pos_encoding_mode="ROPE_LLAMA")),
                         ({"q_scale": 2.0, "k_scale": 0.25}, oracle.Logits(sm_scale=0.5 * 64 ** -0.5)),
                         ({"window_left": 3, "logits_soft_cap": 2.0}, oracle.Logits(window_left=3, logits_soft_cap=2.0))):
      o, lse = flashinfer.single_decode_with_kv_cache(q, k, v, return_lse=True, **said)
      want = oracle.attention(xp.host(q)[None], k, v, logits)
      of_o, of_lse = tolerances(xp, "float16", q, k, v, logits)
      close(self, o, want[0][0], of_o)
      close(self, lse, want[1][0], of_lse, "lse")


class Prefill(unittest.TestCase):
  def planned(self, xp, b, wrapper=None, **said):
    wrapper = wrapper or flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace(), b.layout)
    wrapper.plan(xp.ints(b.qo), *b.lists(), 8, 2, 64, 16, **said)
    return wrapper

  @each_kind
  def test_plan_and_run(self, xp):
    for layout in ("NHD", "HND"):
      b = Batch(xp, qo_lens=(5, 0, 9, 1), layout=layout)
      wrapper = self.planned(xp, b, causal=True, q_data_type="float16")
      b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True), CAUSAL)
      b.check(self, wrapper.run(b.q, b.joined), CAUSAL)
      b.check(self, wrapper.forward(b.q, b.joined))                    # forward()'s own default: not causal
      b.check(self, wrapper.forward(b.q, b.joined, causal=True, window_left=2), oracle.Logits(causal=True, window_left=2))
      o, lse = self.planned(xp, b).run(b.q, b.joined, return_lse=True, lse_base="ln", lse_layout="HN")
      b.check(self, (o, xp.host(lse).T * oracle.LOG2_E))

  @each_kind
  def test_masks(self, xp):
    b = Batch(xp, qo_lens=(5, 0, 3, 20))
    masks = [rng.random((q, k)) < 0.5 for q, k in zip(b.qo_lens, b.kv_lens)]
    flat = np.concatenate([m.ravel() for m in masks])
    wrapper = self.planned(xp, b, custom_mask=xp.of(flat), causal=True)
    b.check(self, wrapper.run(b.q, b.joined, return_lse=True), DECODE, masks)
    bits = np.concatenate([np.packbits(m.ravel(), bitorder="little") for m in masks])
    b.check(self, self.planned(xp, b, packed_custom_mask=xp.of(bits)).run(b.q, b.joined), DECODE, masks)
    ours, ends = flashinfer.segment_packbits(xp.of(flat), xp.ints(np.cumsum([0, *(m.size for m in masks)])), "little")
    self.assertTrue(np.array_equal(xp.host(ours), bits) and xp.host(ends)[-1] == len(bits))
    self.assertTrue(np.array_equal(xp.host(flashinfer.packbits(xp.of(flat))), np.packbits(flat)))
    q, k, v = xp.normal(5, 8, 64), xp.normal(33, 2, 64), xp.normal(33, 2, 64)
    for given in ({"custom_mask": xp.of(masks[0])}, {"packed_custom_mask": xp.of(np.packbits(masks[0], bitorder="little"))}):
      o, lse = flashinfer.single_prefill_with_kv_cache_return_lse(q, k, v, **given)
      want = oracle.attention(q, k, v, oracle.Logits(custom_mask=masks[0]))
      close(self, o, want[0], oracle.tolerances("float16", (k, v), q)[0])
      close(self, lse, want[1], 1e-3, "lse")

  @each_kind
  def test_graph(self, xp):
    b = Batch(xp, qo_lens=(5, 1, 9, 2))
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(
      xp.workspace(), "NHD", True, xp.ints(np.zeros(5)), xp.ints(np.zeros(5)), xp.ints(np.zeros(40)), xp.ints(np.zeros(4)),
      custom_mask_buf=xp.of(np.zeros(300, np.uint8)))
    b.check(self, self.planned(xp, b, wrapper, causal=True).run(b.q, b.joined, return_lse=True), CAUSAL)
    fewer = Batch(xp, kv_lens=(60, 3, 4, 5), qo_lens=(5, 1, 2, 2))
    fewer.check(self, self.planned(xp, fewer, wrapper, causal=True).run(fewer.q, fewer.joined, return_lse=True), CAUSAL)
    masks = [rng.random((q, k)) < 0.5 for q, k in zip(b.qo_lens, b.kv_lens)]
    masked = self.planned(xp, b, wrapper, custom_mask=xp.of(np.concatenate([m.ravel() for m in masks])))
    b.check(self, masked.run(b.q, b.joined), DECODE, masks)
    bits = np.concatenate([np.packbits(m.ravel(), bitorder="little") for m in masks])
    b.check(self, self.planned(xp, b, wrapper, packed_custom_mask=xp.of(bits)).run(b.q, b.joined), DECODE, masks)
    more = Batch(xp, qo_lens=(5, 10, 9, 2))
    with self.assertRaisesRegex(ValueError, "first plan"):
      self.planned(xp, more, wrapper)

  @each_kind
  def test_ragged(self, xp):
    qo, kv = np.cumsum([0, 5, 0, 9]).astype(np.int32), np.cumsum([0, 20, 3, 4]).astype(np.int32)
    q, k, v = xp.normal(14, 4, 32), xp.normal(27, 2, 32), xp.normal(27, 2, 16)
    want = [oracle.attention(xp.host(q)[qo[b]:qo[b + 1]], xp.host(k)[kv[b]:kv[b + 1]], xp.host(v)[kv[b]:kv[b + 1]], CAUSAL)
            for b in range(3)]
    want = [np.concatenate(x) for x in zip(*want)]
    of_o, of_lse = oracle.tolerances("float16", (k, v), q)
    for layout in ("NHD", "HND"):
      wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(xp.workspace(), layout)
      wrapper.plan(xp.ints(qo), xp.ints(kv), 4, 2, 32, 16, causal=True)
      laid = [k, v] if layout == "NHD" else [xp.of(xp.host(x).swapaxes(0, 1).astype("float16")) for x in (k, v)]
      o, lse = wrapper.run(q, *laid, return_lse=True)
      close(self, o, want[0], of_o)
      close(self, lse, want[1], of_lse, "lse")
    o, lse = flashinfer.trtllm_ragged_attention_deepseek(
      q, k, v, xp.workspace(), xp.ints(np.diff(kv)), 9, 20, 32 ** -0.5, 1.0, 1.0, 3, -1, xp.ints(qo), xp.ints(kv), None, True,
      True)
    close(self, o, want[0], of_o)
    sinks = rng.standard_normal(4).astype(np.float32)
    with_sinks = np.concatenate([oracle.attention(
      xp.host(q)[qo[b]:qo[b + 1]], xp.host(k)[kv[b]:kv[b + 1]], xp.host(v)[kv[b]:kv[b + 1]], CAUSAL._replace(sinks=sinks))[0]
      for b in range(3)])
    o = flashinfer.trtllm_ragged_attention_deepseek(
      q, k, v, xp.workspace(), xp.ints(np.diff(kv)), 9, 20, 32 ** -0.5, 1.0, 1.0, 3, -1, xp.ints(qo), xp.ints(kv), None, True,
      False, xp.of(sinks))
    close(self, o, with_sinks, of_o)
    padded = flashinfer.cudnn_batch_prefill_with_kv_cache(
      q, k, v, 32 ** -0.5, xp.workspace(), max_token_per_sequence=9, max_sequence_kv=20,
      actual_seq_lens_q=xp.ints(np.diff(qo)), actual_seq_lens_kv=xp.ints(np.diff(kv)), causal=True, return_lse=True)
    close(self, padded[0], want[0], of_o)
    close(self, xp.host(padded[1])[2, :9], want[1][5:], of_lse, "lse")

  @each_kind
  def test_sinks(self, xp):
    b = Batch(xp, qo_lens=(5, 0, 9, 1))
    sinks = rng.standard_normal(8).astype(np.float32)
    wrapper = flashinfer.BatchAttentionWithAttentionSinkWrapper(xp.workspace(), window_left=6)
    self.planned(xp, b, wrapper, causal=True)
    want = oracle.Logits(causal=True, window_left=6, sinks=sinks)
    b.check(self, wrapper.run(b.q, b.joined, xp.of(sinks), 64 ** -0.5, return_lse=True), want)
    b.check(self, wrapper.run(b.q, b.joined, xp.of(sinks), 0.3, return_lse=True), want._replace(sm_scale=0.3))
    with self.assertRaisesRegex(ValueError, "sinks"):
      wrapper.run(b.q, b.joined)
    plain = self.planned(xp, b, causal=True)
    b.check(self, plain.run(b.q, b.joined, sinks=xp.of(sinks)), oracle.Logits(causal=True, sinks=sinks))

  @each_kind
  def test_batch_attention(self, xp):
    b = Batch(xp, qo_lens=(5, 0, 9, 1))
    attention = flashinfer.BatchAttention(device="cuda" if xp.on_gpu else "cpu") if xp.is_torch else None
    if attention is None:
      return
    attention.plan(xp.ints(b.qo), xp.ints(b.indptr), xp.ints(b.indices), xp.ints(b.kv_lens), 8, 2, 64, 64, 16, causal=True)
    b.check(self, attention.run(b.q, b.joined), CAUSAL)
    b.check(self, attention.forward(b.q, b.k, b.v), CAUSAL)
    more = [b.indices[b.indptr[i]:b.indptr[i + 1]].tolist() + [0] * i for i in range(4)]  # pages that tokens don't fill
    indptr = np.cumsum([0, *map(len, more)])
    attention.plan(xp.ints(b.qo), xp.ints(indptr), xp.ints(sum(more, [])), xp.ints(b.kv_lens), 8, 2, 64, 64, 16, causal=True)
    b.check(self, attention.run(b.q, b.joined), CAUSAL)
    with self.assertRaisesRegex(ValueError, "kv_len_arr"):
      attention.plan(xp.ints(b.qo), xp.ints(b.indptr), xp.ints(b.indices), xp.ints([300, 0, 7, 64]), 8, 2, 64, 64, 16)


if __name__ == "__main__":
  main()
