"""A model's batch decodes: eight steps of three requests, two layers each, with RoPE, append and attention over pages.

    python decode_batch.py [--device cuda] [--picture plan.svg]

The output of the last layer is compared with float64. The picture shows the plan of the last step: one lane a queue of work,
one colour a request. A piece is what one KV head reads of one request."""
import json

import numpy as np

import flashladder
from common import maker, options
from flashladder import AttentionConfig, oracle
from picture import lanes, save

LAYERS, QO_HEADS, KV_HEADS, DIM, PAGE, PAGES, STEPS = 2, 8, 2, 64, 16, 64, 8


def main():
  said = options(__doc__.splitlines()[0], "decode_batch.svg")
  put, rng = maker(said.device), np.random.default_rng(1)
  normal = lambda *shape: put(rng.standard_normal(shape).astype(np.float16))
  pool = flashladder.PagePool(PAGES, PAGE, shuffle_seed=3)
  requests = [pool.add_request() for _ in range(3)]
  caches = [(normal(PAGES, PAGE, KV_HEADS, DIM), normal(PAGES, PAGE, KV_HEADS, DIM)) for _ in range(LAYERS)]
  for request, prompt in zip(requests, (200, 37, 90)):  # prompts, whose keys lie in the caches already
    pool.append(request, prompt)
  config = AttentionConfig(QO_HEADS, KV_HEADS, DIM, PAGE, threads=4)         # threads: of the CPU, each with a queue of work
  decode = flashladder.BatchDecodeWithPagedKVCache(config, like=caches[0][0])
  rows = put(np.arange(3, dtype=np.int32))
  for _ in range(STEPS):
    for request in requests:
      pool.append(request, 1)
    indptr, indices, last = pool.table(requests)
    positions = put(np.array([pool.length(r) - 1 for r in requests], np.int32))
    decode.plan(indptr, last)                                                # once a step
    on_device = [put(x) for x in (indices, indptr, last)]
    for k_cache, v_cache in caches:                                          # once a layer
      q, k, v = normal(3, QO_HEADS, DIM), normal(3, KV_HEADS, DIM), normal(3, KV_HEADS, DIM)
      flashladder.apply_rope_pos_ids_inplace(q, k, positions)
      flashladder.append_paged_kv_cache(k, v, rows, positions, (k_cache, v_cache), *on_device)
      o = decode.run(q, (k_cache, v_cache), on_device[0])
  want, _ = oracle.batch_attention(q, caches[-1], oracle.Pages(indptr, indices, last, PAGE))
  error, tolerance = float(np.abs(oracle.f64(o) - want).max()), oracle.tolerances("float16", caches[-1], q)[0]
  print(decode.explain())
  lengths = [pool.length(r) for r in requests]
  print(f"lengths {lengths}: off by {error:.1e}, tolerance {tolerance:.1e}")
  save(said.picture, picture_of(json.loads(decode.plan_json()), lengths))
  return 0 if error <= tolerance else 1


def picture_of(plan, lengths):
  rows = []
  for part in plan["parts"]:
    starts = part["queue_indptr"]
    for cta, (first, end) in enumerate(zip(starts, starts[1:])):
      items = [part["items"][i] for i in part["queue"][first:end]]
      rows.append((f"queue {cta}", [(item["keys"][1] - item["keys"][0], item["request"],
                                     f"request {item['request']}, KV head {item['head']}, keys {item['keys']}")
                                    for item in items]))
  rows = [row for row in rows if row[1]]
  most = max(sum(keys for keys, _, _ in pieces) for _, pieces in rows)
  return lanes("The plan of the last step: the keys that each queue of work reads", rows,
               [f"request {r}: {length} keys" for r, length in enumerate(lengths)],
               [(0, "0"), (most // 2, f"{most // 2}"), (most, f"{most} keys")])


if __name__ == "__main__":
  raise SystemExit(main())
