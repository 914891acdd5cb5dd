#!/usr/bin/env python3
"""The tables of docs/measurements/h200-prefill.md from its lines: prefill_table.py LINES.jsonl

A line with "gpu" begins a call of the machine; ratios are made within a call only, of medians over its rounds. Lines of
family prefill-ladder make a table of what each rung gained; those of family error (prefill_error.py) one of errors against
double beside ours, wherever they stand."""
import collections, json, statistics, sys

calls, ladders, errors, peaks = [], [], collections.defaultdict(dict), []
for text in open(sys.argv[1], encoding="utf-8"):
  line = json.loads(text)
  if "gpu" in line:
    calls.append(collections.defaultdict(lambda: collections.defaultdict(list)))
    ladders.append(collections.defaultdict(lambda: collections.defaultdict(list)))
    peaks.append(line.get("peak_TFLOPs"))
  elif line["family"] == "prefill":
    calls[-1][line["case"]][line["backend"]].append(line)
  elif line["family"] == "prefill-ladder":
    ladders[-1][line["case"]][line["backend"].split()[-1]].append(line)
  if "max_error" in line and line["family"] in ("prefill", "error"):
    errors[line["case"]][line["backend"]] = line


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

for number, (ladder, peak) in enumerate(zip(ladders, peaks), 1):
  for case, rungs in ladder.items():
    print(f"\nCall {number}, {case}\n\n| rung | us | TFLOP/s | of peak | against the one above |\n|---|---|---|---|---|")
    before = None
    for rung, lines in rungs.items():  # in the ladder's order
      us = statistics.median(line["us"] for line in lines)
      rate = lines[0]["TFLOPs"] * lines[0]["us"] / us
      share, gain = f"{100 * rate / peak:.1f} %" if peak else "-", f"{before / us:.2f}x" if before else "-"
      print(f"| {rung} | {us:.0f} | {rate:.4g} | {share} | {gain} |")
      before = us

ours = {case: by.get("flashladder fa3") or by.get("flashladder fa2") for case, by in errors.items()}
peers = sorted({name for by in errors.values() for name in by if not name.startswith("flashladder")})
if peers:
  shown_error = lambda line: f"{line['max_error']:.2e}, {line['rms_error']:.2e}" if line else "-"
  print("\nError of o against double: largest, root of the mean square\n")
  print("| case | ours | " + " | ".join(peers) + " | at most theirs |")
  print("|---" * (len(peers) + 3) + "|")
  for case, by in errors.items():
    theirs = [by[name] for name in peers if name in by]
    if not ours[case] or not theirs:
      continue
    least = {key: min(line[key] for line in theirs) for key in ("max_error", "rms_error")}
    against = {key: ours[case][key] / most for key, most in least.items()}
    verdict = ", ".join("yes" if ratio <= 1 else f"no, {ratio:.2f}x" for ratio in against.values())
    cells = [case, shown_error(ours[case]), *(shown_error(by.get(name)) for name in peers), verdict]
    print("| " + " | ".join(cells) + " |")
