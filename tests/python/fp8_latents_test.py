"""Latent attention with fp8 queries and fp8 outputs from Python, against float64 on what the bits stand for."""
import quantised_test as fp8
from fp8_queries_test import E4M3, E5M2, bits_of, typed
from mla_test import HEADS, SCALE, Latents, dims
from support import REAL_TORCH, close, main, oracle, torch, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer


class Fp8Latents(Latents):
  """Latents whose queries are E4M3, and rows too if they are said to be."""

  def __init__(self, xp, rows=True, **said):
    super().__init__(xp, **said)
    bits = [bits_of(oracle.f64(x), E4M3) for x in (self.q_nope, self.q_pe)]
    self.q_nope, self.q_pe = (typed(xp, x, E4M3) for x in bits)
    self.q8 = typed(xp, np.concatenate(bits, axis=-1), E4M3)
    self.q = np.concatenate([fp8.values(E4M3)[x] for x in bits], axis=-1)
    if rows:
      numbers = self.cache[0][:, :, 0]
      bits = np.where(np.isnan(numbers), 0x7F, bits_of(np.nan_to_num(numbers), E4M3)).astype(np.uint8)
      cut, keys = self.ckv_dim, fp8.values(E4M3)[bits][:, :, None]
      parts = bits, bits[..., :cut], bits[..., cut:]
      self.rows, self.ckv, self.kpe = (typed(xp, np.ascontiguousarray(x), E4M3) for x in parts)
      self.cache = keys, keys[..., :cut]

  def want(self, **said):
    """(o, its tolerance in 16 bits)."""
    pages, logits = oracle.Pages(self.kv, self.ids, self.last, self.page), oracle.Logits(sm_scale=SCALE, **said)
    return (oracle.batch_attention(self.q, self.cache, pages, self.qo, logits)[0],
            oracle.tolerances("float16", [np.nan_to_num(x) for x in self.cache], self.q, SCALE)[0])


class LatentsInFp8(fp8.Quantised):
  close = fp8.Outputs.close

  def test_wrapper(self):
    for xp, _ in self.fp8_kinds():
      for rows in (True, False):
        m = Fp8Latents(xp, rows, kv_lens=(33, 7, 64), qo_lens=(3, 1, 9))
        wrapper, (want, of_o) = flashinfer.BatchMLAPagedAttentionWrapper(xp.workspace()), m.want(causal=True)
        plan = lambda q=E4M3, **more: wrapper.plan(*map(xp.ints, (m.qo, m.kv, m.ids, m.lens)), HEADS, *dims(xp), 16, True,
                                                   SCALE, q, E4M3 if rows else "float16", **more)
        plan(output_dtype="float16")
        m.check(self, wrapper.run(m.q_nope, m.q_pe, m.ckv, m.kpe, return_lse=True), causal=True)
        plan()                                                             # o as q
        self.close(wrapper.run(query=m.q8, kv_cache=m.rows), want, E4M3, of_o)
        plan(output_dtype=E5M2, output_scale="per-tensor")
        out = typed(xp, np.zeros(want.shape, np.uint8), E5M2)
        self.assertIs(wrapper.run(m.q_nope, m.q_pe, m.ckv, m.kpe, out=out, o_scale=0.25), out)
        self.close(out, 4 * want, E5M2, 4 * of_o)
        with self.assertRaisesRegex(ValueError, "o_scale = None: must be given where"):
          wrapper.run(m.q_nope, m.q_pe, m.ckv, m.kpe)
        with self.assertRaisesRegex(ValueError, "out dtype = float8_e4m3fn: must be float8_e5m2"):
          wrapper.run(m.q_nope, m.q_pe, m.ckv, m.kpe, out=typed(xp, np.zeros(want.shape, np.uint8), E4M3), o_scale=1.0)
        with self.assertRaisesRegex(ValueError, "output_scale = per-tensor: must be none unless"):
          plan(output_dtype="float16", output_scale="per-tensor")
        plan(q="float16", output_dtype=E4M3)                               # fp8 of o alone
        wide = [xp.of(oracle.f64(x).astype(np.float16)) for x in (m.q_nope, m.q_pe)]
        self.close(wrapper.run(*wide, m.ckv, m.kpe), want, E4M3, of_o)
        with self.assertRaisesRegex(ValueError, "o_scale = 2.0"):
          wrapper.run(*wide, m.ckv, m.kpe, o_scale=2.0)

  def test_block_table(self):
    for xp, _ in self.fp8_kinds():
      for rows in (True, False):
        for q_len, lens in ((1, (33, 7, 64)), (2, (33, 7, 64))):
          m = Fp8Latents(xp, rows, kv_lens=lens, qo_lens=(q_len,) * 3)
          want, of_o = m.want(causal=q_len > 1)
          shape = (3, q_len, HEADS)
          call = lambda scale=1.0, out=None: flashinfer.mla.trtllm_batch_decode_with_kv_cache_mla(
            m.q8.reshape(*shape, m.ckv_dim + m.kpe_dim), m.rows, xp.workspace(), 128, m.ckv_dim, m.kpe_dim, xp.of(m.table()),
            xp.ints(m.lens), 80, 0, out, SCALE, scale)
          out = typed(xp, np.zeros((*shape, m.ckv_dim), np.uint8), E4M3)
          self.assertIs(call(3.0, out=out), out)
          self.close(out.reshape(want.shape), 3 * want, E4M3, 3 * of_o)
          if xp.is_torch and (REAL_TORCH or not rows):
            o = call()
            self.assertIs(o.dtype, torch.bfloat16 if rows else torch.float16)
            close(self, o.reshape(want.shape), want, 8 * of_o)
          o = call(out=xp.normal(*shape, m.ckv_dim))
          close(self, o.reshape(want.shape), want, of_o)

  def test_xqa_mla(self):
    for xp, _ in self.fp8_kinds():
      m = Fp8Latents(xp, kv_lens=(33, 7, 64), qo_lens=(1, 1, 1), features=(512, 64))
      want, of_o = m.want()
      call = lambda out, kv_scale=1.0, rows=m.rows: flashinfer.xqa_mla(
        m.q8, rows, rows[..., :512], xp.of(m.table()), xp.ints(m.lens), out, q_scale=SCALE / kv_scale, kv_scale=kv_scale)
      close(self, call(xp.normal(3, HEADS, 512)), want, of_o)
      out = typed(xp, np.zeros((3, HEADS, 512), np.uint8), E4M3)
      self.assertIs(call(out, 0.5), out)
      self.close(out, 0.5 * want, E4M3, 0.5 * of_o)


if __name__ == "__main__":
  main()
