#!/usr/bin/env python3
"""tools/flashinfer_tests.py: what a test is counted as, whatever it ends with, and the exit code; with what pytest gives, made of
paper."""
import argparse, pathlib, sys, types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
import flashinfer_tests as tool


def main():
  skipped, refusal = type("Skipped", (Exception,), {}), type("InputError", (ValueError,), {})
  paper = lambda **members: types.SimpleNamespace(**members)
  sys.modules["pytest"] = paper(skip=paper(Exception=skipped), xfail=paper(Exception=skipped))
  sys.modules["flashladder"] = paper(InputError=refusal)
  sys.modules["torch"] = paper(cuda=paper(is_available=lambda: False))
  item = paper(nodeid="tests/attention/test_page.py::test_a[1]", session=paper(shouldstop=False))

  def counted(error=None, when="call", cpu=False):
    sample = tool.Sample(argparse.Namespace(results=None, again=None, minutes=1, seed=0, cpu=cpu))
    excinfo = error and paper(value=error, errisinstance=lambda kinds: isinstance(error, kinds))
    sample.pytest_runtest_makereport(item, paper(when=when, excinfo=excinfo))
    outcomes = {kind: n for counts in sample.outcomes.values() for kind, n in counts.items()}
    assert set(sample.outcomes) <= {"test_page"} and sum(outcomes.values()) <= 1, outcomes
    return (*outcomes, tool.exit_code(sample.outcomes, None), tool.exit_code(sample.outcomes, "norm"))
  chained = AssertionError("not close")
  chained.__cause__ = RuntimeError("CUDA out of memory")
  for error, wanted in (
      (None, ("passed", 0, 1)), (AssertionError("Tensor-likes are not close!"), ("failed", 1, 0)),
      (AssertionError("fp8 rows differ"), ("failed", 1, 0)), (TypeError("no argument fp8_kv"), ("refused", 1, 1)),
      (refusal("head_dim = 3"), ("refused", 1, 1)), (KeyError("x"), ("failed", 1, 0)),
      (skipped("no GPU of that kind"), ("skipped", 1, 1)), (AssertionError("child: needs flashinfer.x, which is not here"),
                                                            ("skipped", 1, 1)), (chained, ("memory", 1, 1)),
      (RuntimeError("CUDA error: an illegal memory access"), ("failed", 1, 0))):
    assert counted(error) == wanted, (error, counted(error))
  assert counted(RuntimeError("Found no NVIDIA driver"), cpu=True)[0] == "skipped"
  assert counted(RuntimeError("x"), when="setup")[0] == "failed"
  assert counted(when="setup") == counted(RuntimeError("x"), when="teardown") == (1, 1), "neither is a test's end"
  item.nodeid = f"tests/attention/test_page.py::{next(iter(tool.TAKEN))}"
  assert counted(AssertionError("DID NOT RAISE Exception"))[0] == "skipped", "ours takes it"
  assert counted(AssertionError("not close"))[0] == "failed"
  assert tool.exit_code({"a": {"passed": 3}, "b": {"failed": 1}}, None) == 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
