#!/usr/bin/env python3
"""tools/sanitize_gpu.py against a compute-sanitizer of paper, without a GPU: what it must pass and what it must not."""
import os, pathlib, subprocess, sys, tempfile

TOOL = pathlib.Path(sys.argv[1])
FAKE = """#!/usr/bin/env bash
tool=$2
case "$*" in
  *for\\ racecheck*) printf 'racecheck must report mutant_a\\nracecheck must report mutant_b\\n'
    echo "========= Error: Race reported in void mutant_a::kernel()"
    [ -n "$MISSED" ] || echo "========= Error: Race reported in void mutant_b::kernel()"
    echo "========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)" ;;
  --version) echo "Version 1.2.3" ;;
  *) [ -n "$CRASH" ] && exit 1
    if [ $tool = racecheck ]; then echo "========= RACECHECK SUMMARY: ${RACES:-0} hazards displayed (0 errors, 0 warnings)"
    else echo "========= ERROR SUMMARY: 0 errors"; fi
    exit ${TESTS:-0} ;;
esac
"""


def run(room, **environment):
  """(exit code, output) of the tool with this environment for the fake."""
  done = subprocess.run([sys.executable, TOOL, room / "tests", "--commit", "abc", "--log", room / "log"], text=True,
                        env=os.environ | {"PATH": f"{room}:{os.environ['PATH']}"} | environment,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
  return done.returncode, done.stdout


def main():
  with tempfile.TemporaryDirectory() as name:
    room = pathlib.Path(name)
    (room / "tests" / "below").mkdir(parents=True)
    for program in ("compute-sanitizer", "tests/test_ladder_gpu", "tests/below/test_gpu_mutants"):
      (room / program).write_text(FAKE)
      (room / program).chmod(0o755)
    code, text = run(room)
    assert code == 0 and "all as it must be" in text, text
    log = (room / "log").read_text()
    assert log.startswith("compute-sanitizer 1.2.3, ") and "commit abc" in log and log.count("test_ladder_gpu") == 4, log
    for wrong, reason in (({"RACES": "3"}, "3 errors"), ({"CRASH": "1"}, "did not finish well"),
                          ({"TESTS": "77"}, "did not finish well"), ({"MISSED": "1"}, "mutant_b")):
      code, text = run(room, **wrong)
      assert code == 1 and reason in text and "failed" in text, text
    (room / "tests" / "test_ladder_gpu").unlink()
    code, text = run(room)
    assert code == 1 and "holds no test_*gpu* program" in text, text


main()
