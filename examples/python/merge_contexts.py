"""Attention over a context in parts: each part gives (o, lse), and the parts are merged.

    python merge_contexts.py [--device cuda] [--picture weights.svg]

The merge is compared with attention over the whole, and with float64. The picture shows how much each part counts for each
head: 2^(lse of the part - lse of the whole)."""
import numpy as np

import flashladder.flashinfer as flashinfer
from common import maker, options
from flashladder import oracle
from picture import lanes, save

QO_HEADS, KV_HEADS, DIM, PARTS = 8, 2, 64, (300, 120, 40, 4)


def main():
  said = options(__doc__.splitlines()[0], "merge_contexts.svg")
  put, rng = maker(said.device), np.random.default_rng(2)
  q = put(rng.standard_normal((1, QO_HEADS, DIM)).astype(np.float16))
  k, v = (rng.standard_normal((sum(PARTS), KV_HEADS, DIM)).astype(np.float16) for _ in range(2))
  ends = np.cumsum(PARTS)
  states = [flashinfer.single_prefill_with_kv_cache_return_lse(q, put(k[end - n:end]), put(v[end - n:end]))
            for n, end in zip(PARTS, ends)]
  o, lse = states[0]
  for other, other_lse in states[1:]:
    o, lse = flashinfer.merge_state(o, lse, other, other_lse)
  whole = flashinfer.single_prefill_with_kv_cache_return_lse(q, put(k), put(v))
  want = oracle.attention(q, k, v)
  tolerance = oracle.tolerances("float16", (k, v), q)[0]
  errors = [float(np.abs(oracle.f64(x) - want[0]).max()) for x in (o, whole[0])]
  print(f"merged: off by {errors[0]:.1e}; in one piece: off by {errors[1]:.1e}; tolerance {tolerance:.1e}")
  weights = [np.exp2(oracle.f64(part_lse)[0] - oracle.f64(lse)[0]) for _, part_lse in states]
  rows = [(f"head {h}", [(float(w[h]), i, f"keys {ends[i] - PARTS[i]} .. {ends[i] - 1}: {w[h]:.1%}")
                         for i, w in enumerate(weights)]) for h in range(QO_HEADS)]
  save(said.picture, lanes("How much each part of the context counts, head by head", rows,
                           [f"keys {end - n} .. {end - 1}" for n, end in zip(PARTS, ends)],
                           [(0, "0"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")]))
  return 0 if max(errors) <= 2 * tolerance and all(abs(sum(w[h] for w in weights) - 1) < 1e-3 for h in range(QO_HEADS)) else 1


if __name__ == "__main__":
  raise SystemExit(main())
