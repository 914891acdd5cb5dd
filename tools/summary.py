#!/usr/bin/env python3
"""Sums up Meson's test logs:  summary.py TESTLOG.json...    summary.py --selftest

A line for each test program with its time, the output of what failed, what was skipped and why, and last
`N passed, N failed, N skipped`. A doctest program counts its cases; any other program counts as one. Exit code 1 if
anything failed or nothing ran.

doctest calls skipped what its source skips, and also what a filter of the command line leaves out. Nobody asked for the
latter, so that they are not counted.
"""
import contextlib, io, json, re, sys, tempfile

CASES = re.compile(r"test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed \|\s*(\d+) skipped")
FILTER = re.compile(r"--?(dt-)?((tc|ts|sf)e?|(test-case|test-suite|source-file)(-exclude)?)=")


def is_sample(test):
    """Was the program told which of its cases to run?"""
    return any(FILTER.match(word) for word in test.get("command", []))


def why_skipped(test, output):
    if test["result"] != "SKIP":
        return "cases that their source skips"
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("[doctest]")]
    return (lines or ["no reason given"])[-1]


def counts(test):
    """(passed, failed, skipped) of one Meson test."""
    if test["result"] == "SKIP":
        return 0, 0, 1
    cases = CASES.search(test.get("stdout") or "")
    ok = test["result"] in ("OK", "EXPECTEDFAIL")
    if not cases:
        return (1, 0, 0) if ok else (0, 1, 0)
    passed, failed, skipped = map(int, cases.groups()[1:])
    # A crash after the last case is a failure too.
    return passed, failed if ok else max(failed, 1), 0 if is_sample(test) else skipped


def main(paths):
    total = [0, 0, 0]
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as log:
            tests = [json.loads(line) for line in log]
        for test in tests:
            now = counts(test)
            total = [a + b for a, b in zip(total, now)]
            name = test["name"].split(" / ")[-1]
            print(f"  {name:<30} {now[0]:>5} passed {now[1]:>3} failed {now[2]:>3} skipped  {test['duration']:6.1f} s")
            output = (test.get("stdout") or "") + (test.get("stderr") or "")
            if now[1]:
                print("\n".join("    | " + line for line in output.splitlines()[-60:]))
            if now[2]:
                print("    | skipped: " + why_skipped(test, output))
    if sum(total[:2]) == 0:
        print("no test ran")
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] or sum(total[:2]) == 0 else 0


def selftest():
    """No failure counts as passed, whichever way a program ends; and nothing at all is no success."""
    def said(*tests):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as log, contextlib.redirect_stdout(io.StringIO()) as out:
            log.writelines(json.dumps({"name": "p / a test", "duration": 1.0, **test}) + "\n" for test in tests)
            log.flush()
            return main([log.name]), out.getvalue().splitlines()
    doctest = lambda passed, failed, skipped=0: (
        f"[doctest] test cases: {passed + failed} | {passed} passed | {failed} failed | {skipped} skipped\n")
    for test, counted in (
            ({"result": "OK"}, (1, 0, 0)), ({"result": "OK", "stdout": doctest(7, 0, 2)}, (7, 0, 2)),
            ({"result": "EXPECTEDFAIL"}, (1, 0, 0)), ({"result": "SKIP", "stdout": "no GPU\n"}, (0, 0, 1)),
            ({"result": "SKIP", "stdout": doctest(0, 0, 3)}, (0, 0, 1)),
            *(({"result": "OK", "stdout": doctest(5, 0, 11), "command": ["test_it", "--cases", "60", word]}, (5, 0, skipped))
              for word, skipped in (("-tc=every GPU rung*", 0), ("-tce=*graph*", 0), ("--test-case=a", 0), ("-sf=b.cpp", 0),
                                    ("--test-suite-exclude=c", 0), ("--seed", 11), ("-s", 11))),
            *(({"result": how}, (0, 1, 0)) for how in ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS", "else")),
            ({"result": "FAIL", "stdout": doctest(5, 2)}, (5, 2, 0)),
            ({"result": "OK", "stdout": doctest(5, 2)}, (5, 2, 0)),        # an exit code that lies
            ({"result": "ERROR", "stdout": doctest(7, 0)}, (7, 1, 0)),     # a crash behind the last case
            ({"result": "TIMEOUT", "stdout": doctest(7, 0)}, (7, 1, 0))):
        code, lines = said(test)
        assert lines[-1] == "{} passed, {} failed, {} skipped".format(*counted), (test, lines)
        assert code == (1 if counted[1] or sum(counted[:2]) == 0 else 0), test
    code, lines = said({"result": "OK"}, {"result": "FAIL", "stdout": "what was wrong\n"}, {"result": "SKIP", "stderr": "why"})
    assert code == 1 and lines[-1] == "1 passed, 1 failed, 1 skipped", lines
    assert "    | what was wrong" in lines and "    | skipped: why" in lines, lines
    code, lines = said({"result": "OK", "stdout": doctest(7, 0, 2) + "[doctest] Status: SUCCESS!\n"},
                       {"result": "SKIP", "stdout": "no GPU\n\n" + doctest(0, 0, 3) + "[doctest] Status: SUCCESS!\n"})
    assert [line for line in lines if "| skipped" in line] == ["    | skipped: cases that their source skips",
                                                               "    | skipped: no GPU"], lines
    code, lines = said()
    assert code == 1 and "no test ran" in lines, lines
    return 0


if __name__ == "__main__":
    sys.exit(selftest() if sys.argv[1:] == ["--selftest"] else main(sys.argv[1:]))
