#!/usr/bin/env python3
"""Joins measurement lines, ours and other programs', of any number of rounds into one Markdown table.

  table.py [--compare] [--all] FILE.jsonl...    one table against the targets, if it has a line; --compare: before it one of
                                                all cases that both sides have; --all: at the end every case and backend
  table.py --selftest

Lines have the form of docs/case_format.md. Of several runs the median counts, with the least and the most beside it. The
peer is the fastest program that did the same work; ratio is its time over ours. A target that is not met is bold.
"""
import json, re, statistics, sys
from collections import defaultdict

OURS = "flashladder"
A100_PEAK, A100 = 2.039, {"decode": 1.6, "norm": 1.8, "rope": 1.5}  # TB/s; bench/roofline.hpp
LEAST_US_AT_PEAK = 10  # of a case's bytes: below, latency is most of the time and a target of bandwidth says nothing
PAGE = {case + " p1": case + " p16" for case in ("B32 kv2048 32/8", "B64 kv8192 32/8", "B64 lognormal 32/8")}

# family, case, ship, goal. `us`, `TBps`, `ratio` (peer / ours); `slower`: than the same work on pages of 16.
ROWS = [
    ("decode", "B32 kv2048 32/8 p16", "us <= 70", "us <= 66"), ("graph", "B32 kv2048 32/8 p16 cold", "us <= 66", "us <= 63"),
    ("decode", "B32 kv2048 32/32 p16", "ratio >= 1", "ratio >= 1.02"),
    ("decode", "B32 kv2048 64/8 p16", "us <= 70", "us <= 66"),
    ("decode", "B64 kv8192 32/8 p16", "ratio >= 0.98", "ratio >= 1"),
    ("decode", "B1 kv1024 32/8 p16", "", ""), ("graph", "B1 kv1024 32/8 p16 cold", "us <= 7.5", "us <= 5"),
    ("decode", "B1 kv8192 32/8 p16", "", ""), ("graph", "B1 kv8192 32/8 p16 cold", "us <= 15", "us <= 12.5"),
    ("decode", "B1 kv131072 32/8 p16", "", ""), ("graph", "B1 kv131072 32/8 p16 cold", "us <= 131", "us <= 125"),
    ("decode", "B64 lognormal 32/8 p16", "TBps >= 3.7", "TBps >= 4.15"), ("graph", "B64 lognormal 32/8 p16 cold", "", ""),
    ("decode", "1 x 65536 + 31 x 4096 32/8 p16", "ratio >= 1.2", "ratio >= 1.5"),
    ("decode", "1 x 65536 + 31 x 4096 8/1 p16", "ratio >= 1.2", "ratio >= 1.5"),
    ("decode", "mixed16 32/8 p16", "us <= 58", "us <= 55"), ("graph", "mixed16 32/8 p16 cold", "us <= 58", "us <= 55"),
    *[("decode", case, "slower <= 3", "slower <= 1") for case in PAGE],
    ("norm", "rmsnorm 4096x4096", "ratio >= 1", "ratio >= 1.10"),
    ("norm", "rmsnorm 65536x4096", "ratio >= 1", "TBps >= 4.15"),
    ("norm", "rmsnorm 131072x128", "us <= 22", "us <= 18.5"), ("norm", "rmsnorm 64x4096", "us <= 5", ""),
    ("graph", "rmsnorm 64x4096 cold", "", "us <= 3"),
    ("norm", "fused_add_rmsnorm 4096x4096", "ratio >= 1", "ratio >= 1.03"),
    ("norm", "fused_add_rmsnorm 65536x4096", "ratio >= 1", "ratio >= 1.03"),
    *[("rope", f"{tokens} tokens 32/8 {style}", "ratio >= 1", goal) for tokens, goal in
      ((64, ""), (4096, "ratio >= 1.15"), (65536, "ratio >= 1.08")) for style in ("neox", "interleaved")],
    ("graph", "rope 64 tokens 32/8 neox cold", "", "us <= 3"),
    ("append", "B64 x 1 tokens 8 heads p16", "", ""),
    ("append", "B16 x 4096 tokens 8 heads p16", "ratio >= 1", "TBps >= 4.05"),
    ("append", "rope + append B64 x 1 tokens 32/8 p16", "", ""),
    ("append", "rope + append B16 x 4096 tokens 32/8 p16", "ratio >= 1", "TBps >= 4.05"),
    *[("graph", f"chain B{batch} kv{kv} 32/8 p16 cold", "ratio >= 1.1", "ratio >= 1.4")
      for batch in (1, 8) for kv in (1024, 4096)],
    *[("plan", case + " 32/8 p16", "ratio >= 1", "us <= 15") for case in ("B32 kv2048", "B64 lognormal")],
]


class Lines:
    """All lines of all files: (family, case, backend) -> [line of each run]; and the files' first lines."""

    def __init__(self, files):
        self.runs, self.machines = defaultdict(list), []
        for text in files:
            for line in map(json.loads, filter(None, text.splitlines())):
                if "family" in line:
                    self.runs[line["family"], line["case"], line["backend"]].append(line)
                else:
                    self.machines.append(line)

    def backends(self, family, case):
        """backend -> line of the median, with `least` and `most` us; of all families that do this work."""
        same = {(family, case)} | ({("attn", case), ("xqa", case + " float16")} if family == "decode" else set())
        return {key[2]: median(runs) for key, runs in self.runs.items() if key[:2] in same}

    def best(self, family, case, ours):
        lines = [l for name, l in self.backends(family, case).items() if name.startswith(OURS) == ours]
        return min(lines, key=lambda l: l["us"], default=None)

    def ceiling(self, family):
        return next((median(runs) for key, runs in self.runs.items() if key[:2] == (family, family + " 4 GiB")), None)

    def floor(self, case):
        return next((median(runs) for key, runs in self.runs.items() if key[0] in ("read", "copy") and key[1] == case), None)


def median(runs):
    times = sorted(l["us"] for l in runs)
    us, rate = statistics.median(times), runs[0].get("TBps")
    return {**runs[0], "us": us, "least": times[0], "most": times[-1], "TBps": rate and rate * runs[0]["us"] / us}


def short(x):
    return f"{x:.4g}" if x < 1000 else f"{x:.0f}"


def times(line):
    spread = f" ({short(line['least'])}-{short(line['most'])})" if line["most"] > line["least"] else ""
    return short(line["us"]) + spread


def verdict(target, values):
    """The target's text, bold if it is not met; with the value where it stands in no other column."""
    if not target:
        return "-"
    what, sign, limit = target.split()
    value = values.get(what)
    text = {"us": f"{sign} {limit} us", "TBps": f"{sign} {limit} TB/s", "ratio": f"{sign} {limit}x",
            "slower": f"{sign} {limit} % slower"}[what].replace(">=", "≥").replace("<=", "≤")
    if value is None:
        return text + ", ?"
    met = value >= float(limit) if sign == ">=" else value <= float(limit)
    text += f" ({value:+.1f} %)" if what == "slower" else ""
    return text if met else f"**{text}: no**"


def a100(family, case, line, peak):
    kind = "norm" if "rmsnorm" in case else "rope" if case.startswith("rope ") else "decode" if family == "graph" else family
    if kind not in A100 or not line["TBps"] or case.startswith("chain "):
        return "-"
    if line["us"] * line["TBps"] / peak < LEAST_US_AT_PEAK:
        return "-"
    there = A100[kind]
    return " ".join(f"{'✓' if line['TBps'] > least else '✗'} {least:.3g}" for least in (there, there / A100_PEAK * peak))


def main_table(lines):
    copy, read = lines.ceiling("copy"), lines.ceiling("read")
    peak = next((m["peak_TBps"] for m in lines.machines if "peak_TBps" in m), None)
    yield "| work | timer | best peer | its us | our us | TB/s | of copy | of read | floor us | ratio | ship | goal | A100 |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for family, case, ship, goal in ROWS:
        ours, peer, floor = lines.best(family, case, True), lines.best(family, case, False), lines.floor(case)
        values = {"us": ours and ours["us"], "TBps": ours and ours["TBps"],
                  "ratio": ours and peer and peer["us"] / ours["us"]}
        if ours and case in PAGE and (on16 := lines.best(family, PAGE[case], True)):
            values["slower"] = 100 * (ours["us"] / on16["us"] - 1)
        share = lambda ceiling: f"{100 * ours['TBps'] / ceiling['TBps']:.1f} %" if ours and ours["TBps"] and ceiling else "-"
        timer = {"graph": "graph", "plan": "host"}.get(family, "events")
        kind = "" if case.startswith("rope ") else {"rope": "RoPE ", "append": "append ", "plan": "plan() "}.get(family, "")
        cells = [kind + case, timer, peer["backend"] if peer else "-", times(peer) if peer else "-", times(ours) if ours else "-",
                 f"{ours['TBps']:.3g}" if ours and ours["TBps"] else "-", share(copy), share(read),
                 short(floor["us"]) if floor else "-", f"{values['ratio']:.2f}" if values["ratio"] else "-",
                 verdict(ship, values), verdict(goal, values), a100(family, case, ours, peak) if ours and peak else "-"]
        yield "| " + " | ".join(cells) + " |"


def compared(lines):
    """Every case of which there are lines of ours and of a peer; the peers from the fastest down."""
    yield "| family | case | ours | us | peers, us | ratio |"
    yield "|---|---|---|---|---|---|"
    for family, case in dict.fromkeys(key[:2] for key in lines.runs):
        sides = defaultdict(list)
        for line in lines.backends(family, case).values():
            sides[line["backend"].startswith(OURS)].append(line)
        if not sides[True] or not sides[False] or family in ("copy", "read"):
            continue
        ours, *slower = sorted(sides[True], key=lambda l: l["us"])
        peers = sorted(sides[False], key=lambda l: l["us"])
        mine = "; ".join(f"{l['backend'].removeprefix(OURS).strip() or OURS} {times(l)}" for l in (ours, *slower))
        theirs = "; ".join(f"{l['backend']} {times(l)}" for l in peers)
        yield f"| {family} | {case} | {mine} | {short(ours['us'])} | {theirs} | {peers[0]['us'] / ours['us']:.2f} |"


def has_targets(lines):
    return any(lines.best(family, case, True) for family, case, *_ in ROWS)


def all_lines(lines):
    yield "| family | case | backend | us, median (least-most) | TB/s | runs |"
    yield "|---|---|---|---|---|---|"
    for (family, case, backend), runs in sorted(lines.runs.items(), key=lambda item: item[0]):
        line = median(runs)
        rate = short(line["TBps"]) if line["TBps"] else "-"
        yield f"| {family} | {case} | {backend} | {times(line)} | {rate} | {len(runs)} |"


def machines_text(lines):
    for machine in lines.machines:
        yield "- " + ", ".join(f"{key} {value}" for key, value in machine.items())
    for family in "copy", "read":
        if line := lines.ceiling(family):
            yield f"- {family} 4 GiB: {line['TBps']:.3g} TB/s in the same run"


def selftest():
    skewed = "B64 lognormal 32/8 p16"
    line = lambda family, case, backend, us, rate, run=1: json.dumps(
        dict(family=family, case=case, backend=backend, us=us, TBps=rate, run=run))
    ours = [line("decode", skewed, "flashladder D6", us, 400 / us, run) for run, us in enumerate((104.0, 100.0, 90.0))]
    ours += [line("decode", "B64 lognormal 32/8 p1", "flashladder D6", 105.0, 3.8),
             line("read", "read 4 GiB", "flashladder read_all", 1, 4.0)]
    peers = [line("decode", skewed, "wrapper", 176.0, 1), line("attn", skewed, "BatchAttention", 130.0, 1),
             line("xqa", skewed + " float8_e4m3fn", "xqa", 50.0, 1), line("read", "read 4 GiB", "torch", 1, 4.1)]  # other work
    text = list(main_table(Lines(['{"gpu": "G", "peak_TBps": 4.8}\n' + "\n".join(ours), "\n".join(peers)])))
    row = next(row for row in text if row.startswith(f"| {skewed} | events"))
    want = ("| BatchAttention | 130 | 100 (90-104) | 4 | - | 100.0 % | - | 1.30 | ≥ 3.7 TB/s | **≥ 4.15 TB/s: no** "
            "| ✓ 1.6 ✓ 3.77 |")
    assert row.endswith(want), row
    page = next(row for row in text if row.startswith("| B64 lognormal 32/8 p1 |"))
    assert "**≤ 3 % slower (+5.0 %): no**" in page, page
    latency = dict(us=5.0, TBps=1.0)  # 1 us at the peak
    assert a100("decode", skewed, latency, 4.8) == "-" and a100("decode", skewed, {**latency, "us": 60.0}, 4.8) != "-"
    assert all(re.fullmatch(r"(us|TBps|ratio|slower) [<>]= [\d.]+", t) for row in ROWS for t in row[2:] if t)
    assert len({row[:2] for row in ROWS}) == len(ROWS)
    assert len(list(all_lines(Lines(["\n".join(peers)])))) == 6
    (row,) = list(compared(Lines(["\n".join(ours), "\n".join(peers)])))[2:]
    assert row == f"| decode | {skewed} | D6 100 (90-104) | 100 | BatchAttention 130; wrapper 176 | 1.30 |", row
    assert has_targets(Lines(["\n".join(ours)])) and not has_targets(Lines(["\n".join(peers)]))


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] == "--selftest":
        sys.exit(selftest())
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    joined = Lines([open(path, encoding="utf-8").read() for path in sys.argv[1:] if path not in ("--all", "--compare")])
    compare = "--compare" in sys.argv
    tables = [compared(joined)] if compare else []
    tables += [main_table(joined)] if has_targets(joined) or not compare else []
    tables += [all_lines(joined)] if "--all" in sys.argv else []
    print("\n\n".join("\n".join(rows) for rows in [machines_text(joined), *tables]))
