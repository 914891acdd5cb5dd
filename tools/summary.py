#!/usr/bin/env python3
"""Sums up Meson's test logs:  summary.py TESTLOG.json...

A line for each test program with its time, the output of what failed, what was skipped and why, and last
`N passed, N failed, N skipped`. A doctest program counts its cases; any other program counts as one. Exit code 1 if
anything failed or nothing ran.
"""
import json, re, sys

CASES = re.compile(r"test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed \|\s*(\d+) skipped")


def counts(test):
    """(passed, failed, skipped) of one Meson test."""
    if test["result"] == "SKIP":
        return 0, 0, 1
    cases = CASES.search(test.get("stdout") or "")
    ok = test["result"] in ("OK", "EXPECTEDFAIL")
    if not cases:
        return (1, 0, 0) if ok else (0, 1, 0)
    passed, failed, skipped = map(int, cases.groups()[1:])
    return passed, failed if ok else max(failed, 1), skipped  # a crash after the last case is a failure too


def main(paths):
    total = [0, 0, 0]
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as log:
            tests = [json.loads(line) for line in log]
        for test in tests:
            now = counts(test)
            total = [a + b for a, b in zip(total, now)]
            name = test["name"].split(" / ")[-1]
            print(f"  {name:<24} {now[0]:>5} passed {now[1]:>3} failed {now[2]:>3} skipped  {test['duration']:6.1f} s")
            output = (test.get("stdout") or "") + (test.get("stderr") or "")
            if now[1]:
                print("\n".join("    | " + line for line in output.splitlines()[-60:]))
            if now[2]:
                print("    | skipped: " + (output.strip().splitlines() or ["no reason given"])[-1])
    if sum(total[:2]) == 0:
        print("no test ran")
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] or sum(total[:2]) == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
