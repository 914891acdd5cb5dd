"""The wrappers of graphs_test.py in graphs of torch: captured once, planned again before every replay. Skipped where torch
has no GPU."""
import sys

from support import KINDS, Arrays, Batch, main, oracle, rng, torch, unittest
import numpy as np  # behind support, which skips where there is none
from graphs_test import RaggedKeys, cascade_wrapper, paged_wrapper, ragged_wrapper, shared_batches

if "cuda" not in KINDS:
  print("torch is not installed, or has no GPU")
  sys.exit(77)

CUDA = Arrays("cuda")


def captured(call):
  call()
  torch.cuda.synchronize()
  graph = torch.cuda.CUDAGraph()
  with torch.cuda.graph(graph):
    out = call()
  return graph, out


def static(*shape):
  return torch.full(shape, float("nan"), dtype=torch.float16, device="cuda")


def fill(arrays, batch):
  for array, x in zip(arrays, batch):
    array.fill_(float("nan"))
    array[:x.shape[0]].copy_(x)


class Graphs(unittest.TestCase):
  def test_cascade(self):
    batches, wrapper = shared_batches(CUDA), cascade_wrapper(CUDA)
    q, k, v = static(35, 8, 64), static(30, 16, 2, 64), static(30, 16, 2, 64)
    graph = None
    for x in [*batches, *batches[::-1]]:
      fill((q, k, v), (x.b.q, x.b.k, x.b.v))
      wrapper.plan(*x.lists(), 8, 2, 64, 16, causal=True)
      if graph is None:
        graph, o = captured(lambda: wrapper.run(q, (k, v)))
      o.fill_(float("nan"))
      graph.replay()
      x.check(self, o[:x.rows])
      self.assertTrue(o[x.rows:].isnan().all().item())

  def test_ragged(self):
    tests, wrapper = RaggedKeys(), ragged_wrapper(CUDA)
    batches = tests.batches(CUDA)
    q, k, v = static(20, 8, 64), static(90, 2, 64), static(90, 2, 32)
    plan = lambda batch: tests.plan(CUDA, wrapper, batch, causal=True)
    plan(batches[0])
    with self.assertRaisesRegex(ValueError, "must run once before"):
      with torch.cuda.graph(torch.cuda.CUDAGraph()):
        wrapper.run(q, k, v)
    graph = None
    for batch in [*batches, *batches[::-1]]:
      fill((q, k, v), batch)
      plan(batch)
      if graph is None:
        graph, (o, lse) = captured(lambda: wrapper.run(q, k, v, return_lse=True))
      graph.replay()
      rows = batch[0].shape[0]
      tests.check(CUDA, batch, (o[:rows], lse[:rows]))

  def test_masks(self):
    buffer = torch.zeros(400, dtype=torch.uint8, device="cuda")
    wrapper = paged_wrapper(CUDA, buffer)
    q, k, v = static(35, 8, 64), static(40, 16, 2, 64), static(40, 16, 2, 64)
    graph = None
    for i, (kv_lens, qo_lens) in enumerate((((33, 50, 7, 64), (5, 9, 1, 20)), ((9, 0, 3, 100), (1, 0, 3, 2)),
                                            ((64, 16, 8, 9), (8, 3, 8, 1)), ((33, 50, 7, 64), (5, 9, 1, 20)))):
      b = Batch(CUDA, kv_lens=kv_lens, qo_lens=qo_lens)
      masks = [rng.random((rows, n)) < 0.5 for rows, n in zip(qo_lens, kv_lens)]
      bits = np.concatenate([np.packbits(m.ravel(), bitorder="little") for m in masks])
      mask = ({"packed_custom_mask": CUDA.of(bits)} if i % 2 else
              {"custom_mask": CUDA.of(np.concatenate([m.ravel() for m in masks]))})
      fill((q, k, v), (b.q, b.k, b.v))
      wrapper.plan(CUDA.ints(b.qo), *b.lists(), 8, 2, 64, 16, **mask)
      if graph is None:
        graph, (o, lse) = captured(lambda: wrapper.run(q, (k, v), return_lse=True))
      graph.replay()
      rows = sum(qo_lens)
      b.check(self, (o[:rows], lse[:rows]), oracle.Logits(), masks)


if __name__ == "__main__":
  main()
