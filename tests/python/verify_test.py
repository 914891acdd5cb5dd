"""flashladder.verify: right kernels pass, and each of a list of wrong ones is noticed, with where and by how much."""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from support import flashladder, main, oracle, torch, unittest
from flashladder import AttentionConfig, verify


def ours(q, k, v, indptr, indices, last, sm_scale):
  config = AttentionConfig(q.shape[1], k.shape[2], q.shape[2], k.shape[1], kv_dtype=q.dtype, sm_scale=sm_scale)
  attention = flashladder.BatchDecodeWithPagedKVCache(config, q)
  attention.plan(indptr, last)
  return attention.run(q, (k, v), indices, return_lse=True)


def our_prefill(q, k, v, qo, indptr, indices, last, sm_scale, causal):
  config = AttentionConfig(q.shape[1], k.shape[2], q.shape[2], k.shape[1], mask="causal" if causal else "none")
  attention = flashladder.BatchPrefillWithPagedKVCache(config, q)
  attention.plan(indptr, last, qo)
  return attention.run(q, (k, v), indices, return_lse=True)


def in_numpy(wrong=""):
  """A decode in numpy, with a mistake."""
  def kernel(q, k, v, indptr, indices, last, sm_scale):
    q, k, v, indptr, indices, last = (np.asarray(x.numpy() if hasattr(x, "numpy") else x) for x in (
      q, k, v, indptr, indices, last))
    o, lse = np.zeros(q.shape), np.full(q.shape[:2], -np.inf)
    group = q.shape[1] // k.shape[2]
    for b in range(len(last)):
      ids = indices[indptr[b]:indptr[b + 1]]
      length = (len(ids) - 1) * k.shape[1] + last[b] if len(ids) else 0
      length -= wrong == "drops the last key" and length > 1
      keys, values = (np.nan_to_num(x[ids].reshape(-1, *x.shape[2:])[:length].astype(float)) for x in (k, v))
      if wrong == "reads past the length":
        keys, values = (x[ids].reshape(-1, *x.shape[2:]).astype(float) for x in (k, v))
      if not len(keys):
        continue
      for h in range(q.shape[1]):
        head = h % k.shape[2] if wrong == "groups by remainder" else h // group
        s = keys[:, head] @ q[b, h].astype(float) * (1.0 if wrong == "no scale" else sm_scale)
        p = np.exp(s - (0 if wrong == "no maximum" else s.max()))
        o[b, h] = p @ values[:, head] / p.sum()
        lse[b, h] = np.log(np.exp(s - s.max()).sum()) + s.max()
        if wrong != "lse to base e":
          lse[b, h] *= oracle.LOG2_E
    if wrong == "wrong shape":
      return o[:, :-1]
    return o.astype(np.float16), lse
  return kernel


class Verify(unittest.TestCase):
  def test_right_ones(self):
    for report in (verify.decode(ours), verify.prefill(our_prefill), verify.decode(in_numpy()),
                   verify.decode(ours, dtype="float32")):
      self.assertTrue(report.ok, str(report))

  @unittest.skipUnless(torch.cuda.is_available(), "needs a GPU")
  def test_on_a_gpu(self):
    for report in (verify.decode(ours, "cuda"), verify.prefill(our_prefill, "cuda"), verify.decode(ours, "cuda", "bfloat16"),
                   verify.decode(ours, "cuda", "float32")):
      self.assertTrue(report.ok, str(report))

  def test_wrong_ones(self):
    for wrong in ("drops the last key", "reads past the length", "groups by remainder", "no scale", "no maximum",
                  "lse to base e", "wrong shape"):
      with self.subTest(wrong=wrong), np.errstate(all="ignore"):
        report = verify.decode(in_numpy(wrong))
        self.assertFalse(report.ok, str(report))
        self.assertIn("wrong", str(report))

  def test_a_kernel_that_fails(self):
    report = verify.decode(lambda *_: 1 / 0)
    self.assertFalse(report.ok)
    self.assertIn("ZeroDivisionError", str(report))
    skipped = verify.decode(ours, supports=lambda case: case.page_size == 16 or "pages of 16 tokens alone")
    self.assertTrue(skipped.ok)
    self.assertIn("pages of 16 tokens alone", str(skipped))
    self.assertFalse(verify.decode(ours, supports=lambda case: "nothing").ok)

  def test_command(self):
    with tempfile.TemporaryDirectory() as folder:
      file = pathlib.Path(folder) / "mine.py"
      file.write_text("def right(q, k, v, *_):\n  raise RuntimeError('not written yet')\n")
      package = pathlib.Path(flashladder.__file__).parent.parent

      def run(*arguments):
        return subprocess.run([sys.executable, "-m", "flashladder.verify", *arguments], cwd=package, capture_output=True,
                              text=True)

      done = run(f"{file}:right")
      self.assertEqual(done.returncode, 1)
      self.assertIn("not written yet", done.stdout)
      for arguments, said in (([str(file)], "no file.py:function"), ([f"{file}:wrong"], "has no function wrong"),
                              ([f"{file}x.py:right"], "there is no file"),
                              ([f"{file}:right", "--device", "cuda"], "needs torch")):
        done = run(*arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(said, done.stderr)
        self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
  main()
