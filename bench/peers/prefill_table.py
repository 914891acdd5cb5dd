#!/usr/bin/env python3
"""The tables of docs/measurements/h200-prefill.md from its lines: prefill_table.py LINES.jsonl

A line with "gpu" begins a call of the machine; ratios are made within a call only, of medians over its rounds."""
import collections, json, statistics, sys

calls = []
for text in open(sys.argv[1], encoding="utf-8"):
  line = json.loads(text)
  if "gpu" in line:
    calls.append(collections.defaultdict(lambda: collections.defaultdict(list)))
  elif line["family"] == "prefill":
    calls[-1][line["case"]][line["backend"]].append(line)


def shown(lines):
  """us, and the rate that the case is about: TB/s where a request has few queries, else TFLOP/s."""
  us = statistics.median(line["us"] for line in lines)
  few = any(part.startswith("q") and int(part[1:]) < 64 for part in lines[0]["case"].split() if part[1:].isdigit())
  rate = lines[0].get("TBps" if few else "TFLOPs")
  return us, f"{us:.0f} us" + (f" = {rate * lines[0]['us'] / us:.{2 if few else 0}f} {'TB/s' if few else 'TFLOP/s'}" if rate else "")


for number, call in enumerate(calls, 1):
  print(f"\nCall {number}\n\n| case | fa3 (P11) | best peer | ratio | fa2 (P5) | FlashInfer fa2 | ratio |\n|---|---|---|---|---|---|---|")
  for case, by in call.items():
    ours, second = by.pop("flashladder fa3", None), by.pop("flashladder fa2", None)
    if not ours:
      continue
    peers = {name: shown(lines) for name, lines in by.items()}
    best = min(peers, key=lambda name: peers[name][0]) if peers else None
    us, text = shown(ours)
    row = [case, text, f"{best} {peers[best][1]}" if best else "-", f"{peers[best][0] / us:.3f}" if best else "-"]
    fi = peers.get("FlashInfer fa2")
    row += [shown(second)[1] if second else "-", fi[1] if fi else "-",
            f"{fi[0] / shown(second)[0]:.3f}" if fi and second else "-"]
    print("| " + " | ".join(row) + " |")
