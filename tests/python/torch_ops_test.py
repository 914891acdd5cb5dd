"""torch.compile through our names: one graph, the same numbers as eagerly; on the GPU where there is one.
Skipped where torch cannot be imported."""
import sys

from support import KINDS, REAL_TORCH, Arrays, Batch, close, main, oracle, torch, unittest
import flashladder.flashinfer as flashinfer

if not REAL_TORCH:
  print("torch is not installed")
  sys.exit(77)
if not hasattr(torch.library, "custom_op"):
  print(f"torch {torch.__version__} has no torch.library.custom_op")
  sys.exit(77)

KIND = KINDS[-1]
DEVICE = "cuda" if KIND == "cuda" else "cpu"


def normal(*shape):
  return torch.randn(*shape, device=DEVICE)


def compiled(function):
  """In one graph, or an error; without a C++ compiler."""
  torch._dynamo.reset()
  return torch.compile(function, fullgraph=True, backend="aot_eager")


class Compile(unittest.TestCase):
  def same(self, function, *arguments):
    """Eager and compiled, each on copies of its own."""
    results = []
    for run in (function, compiled(function)):
      copies = [x.clone() if isinstance(x, torch.Tensor) else x for x in arguments]
      out = run(*copies)
      results.append([x for x in (*(out if isinstance(out, tuple) else (out,)), *copies) if isinstance(x, torch.Tensor)])
    for eager, traced in zip(*results):
      close(self, traced, oracle.f64(eager), 0.0)

  def test_operations(self):
    x, r, w = normal(4, 64).half(), normal(4, 64).half(), normal(64).half()
    g = normal(64)
    q, k = normal(4, 2, 32).half(), normal(4, 1, 32).half()
    ids, lse = torch.tensor([0, 5, 9, 2], dtype=torch.int32, device=DEVICE), normal(4, 2)
    table = flashinfer.precompute_freqs_cis(32, 16, device=DEVICE)
    flashinfer.rmsnorm(x, w)  # the ops are registered when the first tensor is seen
    self.same(lambda x, w: flashinfer.rmsnorm(x, w) + 1, x, w)
    self.same(lambda x, w: flashinfer.gemma_rmsnorm(x, w), x, w)
    self.same(lambda x, g: flashinfer.layernorm(x, g, g), x, g)
    self.same(lambda x, r, w: flashinfer.fused_add_rmsnorm(x, r, w), x, r, w)
    out, scale = torch.zeros(4, 64, dtype=torch.uint8, device=DEVICE), torch.tensor([0.3], device=DEVICE)
    for name in ("float8_e4m3fn", "float8_e5m2"):
      self.same(lambda out, x, w: flashinfer.rmsnorm_quant(out, x, w, 0.2, out_dtype=name), out, x, w)
      self.same(lambda out, x, r, w, scale: flashinfer.fused_add_rmsnorm_quant(out, x, r, w, scale, out_dtype=name), out, x, r,
                w, scale)
      self.same(lambda out, x, g: flashinfer.layernorm_quant(out, x, g, g, 0.2, out_dtype=name), out, x, g)
    self.same(lambda q, k, ids: flashinfer.apply_rope_pos_ids(q, k, ids), q, k, ids)
    self.same(lambda q, k, ids: flashinfer.apply_llama31_rope_pos_ids_inplace(q, k, ids), q, k, ids)
    self.same(lambda q, k, ids, t: flashinfer.apply_rope_with_cos_sin_cache_inplace(ids, q.view(4, 64), k.view(4, 32), 32, t),
              q, k, ids, table)
    self.same(lambda v, s: flashinfer.merge_state(v, s, v * 2, s + 1), q, lse)

  def test_wrappers(self):
    xp = Arrays(KIND)
    b = Batch(xp)
    decode = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
    decode.plan(*b.lists(), 8, 2, 64, 16)
    sinks = normal(8)
    run = compiled(lambda q, k, v: decode.run(q, (k, v), return_lse=True))
    b.check(self, run(b.q, b.k, b.v))
    b.check(self, compiled(lambda q, kv: decode.run(q, kv, k_scale=2.0))(b.q, b.joined), oracle.Logits(sm_scale=0.25))
    b.check(self, compiled(lambda q, kv, s: decode.run(q, kv, sinks=s))(b.q, b.joined, sinks), oracle.Logits(sinks=sinks))
    again = Batch(xp, kv_lens=(5, 60, 0, 1))
    decode.plan(*again.lists(), 8, 2, 64, 16)   # the graph that was traced runs the new plan
    again.check(self, run(again.q, again.k, again.v))
    p = Batch(xp, qo_lens=(5, 0, 9, 1))
    prefill = flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace())
    prefill.plan(xp.ints(p.qo), *p.lists(), 8, 2, 64, 16, causal=True)
    p.check(self, compiled(lambda q, kv: prefill.run(q, kv))(p.q, p.joined), oracle.Logits(causal=True))

  def test_fp8(self):
    """Queries in fp8, and an o that is fp8, f32 or 16 bits."""
    if not hasattr(torch, "float8_e4m3fn"):
      self.skipTest("needs torch with float8_e4m3fn")
    xp = Arrays(KIND)
    b = Batch(xp)
    q8 = b.q.to(torch.float8_e4m3fn)
    b.q = q8.half()
    decode = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
    for dtype in ("float16", "float32", None):
      decode.plan(*b.lists(), 8, 2, 64, 16, q_data_type="float8_e4m3fn", kv_data_type="float16", o_data_type=dtype)
      o = compiled(lambda q, kv: decode.run(q, kv, q_scale=0.5))(q8, b.joined)
      self.assertIs(o.dtype, getattr(torch, dtype or "float8_e4m3fn"))
      if dtype is not None:
        b.check(self, o, oracle.Logits(sm_scale=0.5 * 64 ** -0.5))
      else:
        close(self, o, decode.run(q8, b.joined, q_scale=0.5), 0.0)

  def test_append(self):
    xp = Arrays(KIND)
    b = Batch(xp, kv_lens=(33, 7))
    indptr, indices, last = b.lists()
    rows, positions = xp.ints([0, 1]), xp.ints([32, 6])
    k, v = xp.normal(2, 2, 64), xp.normal(2, 2, 64)
    self.same(lambda kc, vc, k, v: flashinfer.append_paged_kv_cache(k, v, rows, positions, (kc, vc), indices, indptr, last),
              torch.nan_to_num(b.k), torch.nan_to_num(b.v), k, v)

  def test_opcheck(self):
    x, w = normal(4, 64).half(), normal(64).half()
    flashinfer.rmsnorm(x, w)
    torch.library.opcheck(torch.ops.flashladder.rmsnorm.default, (x, w, torch.empty_like(x), 1e-6))


if __name__ == "__main__":
  main()
