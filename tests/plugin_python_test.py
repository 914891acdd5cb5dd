#!/usr/bin/env python3
"""Plug-ins in Python: the templates pass, what a file does wrong is reported by name, and what is not installed is said.
   plugin_python_test.py FLASHLADDER SOURCE_ROOT ill_behaved | numpy | torch | triton
FLASHLADDER_PYTHON names another Python than python3. Exit 77 with the reason where that one lacks a module."""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

PYTHON = os.environ.get("FLASHLADDER_PYTHON") or "python3"
# what it does: (kind, what the message says)
KINDS = {
  "raises": ("returned an error", "attention() raised ValueError: out of luck (ill_behaved.py, line "),
  "recurses": ("returned an error", "attention() raised RecursionError: maximum recursion depth exceeded"),
  "supports raises": ("returned an error", "supports() raised OverflowError: too much (ill_behaved.py, line "),
  "hangs": ("hung", "took longer than 4 s in attention()"),
  "exits": ("ended the process", "ended the process with exit code 0 in attention()"),
  "exits politely": ("ended the process", "ended the process with exit code 3 in attention()"),
  "crashes": ("crashed", "Segmentation fault in attention()"),
  "changes q": ("modified an input", "changed q, which is only to be read"),
  "changes the cache": ("modified an input", "changed k_cache"),
  "changes the page table": ("modified an input", "changed paged_kv_indices"),
  "writes behind q": ("wrote out of bounds", "wrote outside of"),
  "writes behind all": ("wrote out of bounds", "wrote behind lse_log2"),
  "gives NaN": ("wrong result", "o: request 0 query 0 head 0 feature 0: got nan"),
  "gives NaN in lse": ("wrong result", "lse_log2: request 0 query 0 head 0: got nan"),
  "counts its runs": ("gave other bits in a second run", ""),
  "returns o alone": ("returned an error", "attention() must return o and lse_log2, not ndarray"),
  "returns another shape": ("returned an error", "attention() returned o of shape [1, 2, 7], must be [1, 2, 8]"),
}
# cases that are refused for a file whose attention() does not name what they need
FEATURES = "--causal", "--mask random", "--window 0", "--soft-cap 30", "--sinks", "--pos ALIBI", "--dtype bf16"
# files that are no plug-in: (exit code, what is said)
SOURCES = {
  "def attention(:": (2, "can't be loaded: SyntaxError"),
  "def attend(q): pass": (2, "has no function attention"),
  "def attention(q, page_size): pass": (2, "an argument page_size, which must be one of causal, custom_mask,"),
  "import there_is_no_such_module": (77, "needs the module there_is_no_such_module, which"),
  "longest_chain = -1\ndef attention(q): pass": (2, "longest_chain that is no number of keys"),
}


class Verify:
  def __init__(self, program, folder):
    self.program, self.folder = program, folder
    self.run("case", "make", "--kv", "1", "--heads", "2/2", "--dim", "8", "--dtype", "f32", "--out", "one.safetensors")

  def run(self, *arguments, which="", **environment):
    done = subprocess.run([self.program, *arguments], cwd=self.folder, capture_output=True, text=True,
                          env=os.environ | {"FLASHLADDER_TEST_PLUGIN": which, "COLUMNS": "500"} | environment)
    return done.returncode, done.stdout, done.stderr

  def plugin(self, path, *arguments, **environment):
    return self.run("verify", "--plugin", str(path), *arguments, "--json", **environment)


def ill_behaved(verify, source):
  plugin = source / "tests" / "plugins" / "ill_behaved.py"
  one = "--in", "one.safetensors", "--time-limit"
  for which, (kind, says) in KINDS.items():
    code, out, err = verify.plugin(plugin, *one, "4" if which == "hangs" else "60", which=which)
    failures = json.loads(out)["plugins"][0]["failures"] if out else []
    if code != 1 or len(failures) != 1 or failures[0]["kind"] != kind or says not in failures[0]["message"]:
      yield f"{which}: exit code {code}, not {kind!r} with {says!r}: {out}{err}"
  for which in "nothing", "leaves a thread running":
    (verify.folder / "json.py").write_text("raise RuntimeError('this is not the json module')\n")
    code, out, err = verify.plugin(plugin, *one, "60", which=which)
    if code != 0:
      yield f"{which}: exit code {code}: {out}{err}"
  for which, code, says in (("says no", 77, "not run"), ("says False", 77, "not run"),
                            ("crashes at once", 1, "crashed: Aborted while it was being loaded"),
                            ("fails at once", 2, "can't be loaded: KeyError: 'no such key' (ill_behaved.py, line ")):
    got, out, err = verify.run("verify", "--plugin", str(plugin), *one, "60", which=which)
    if got != code or says not in " ".join((out + err).split()):
      yield f"{which}: exit code {got}, not {code} with {says!r}: {out}{err}"
  for text, (code, says) in SOURCES.items():
    (verify.folder / "mine.py").write_text(text + "\n")
    got, out, err = verify.run("verify", "--plugin", "./mine.py", *one, "60")
    if got != code or says not in " ".join((out + err).split()):
      yield f"{text!r}: exit code {got}, not {code} with {says!r}: {out}{err}"
  got, out, err = verify.plugin("./mine.py", *one, "60", FLASHLADDER_PYTHON="/no/such/python")
  if got != 2 or "/no/such/python can't be run" not in err:
    yield f"no Python: exit code {got}: {out}{err}"
  yield from refusals(verify)
  yield from killed(verify, plugin)
  if (left := [p for p in plugin.parent.glob("__pycache__")]):
    yield f"left behind: {left}"


def still_running(path, seconds=5):
  """Processes that have this file as an argument, those that are about to end aside."""
  end = time.monotonic() + seconds
  while True:
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
      with contextlib.suppress(OSError):  # it has ended
        found += [process.name] if os.fsencode(path) in (process / "cmdline").read_bytes().split(b"\0") else []
    if not found or time.monotonic() > end:
      return found
    time.sleep(0.05)


def killed(verify, plugin):
  """The program is killed while the file's process hangs: nobody is left who could end it."""
  plugin = shutil.copy(plugin, verify.folder / "hanging.py")  # a name of its own
  words = ["verify", "--plugin", str(plugin), "--in", "one.safetensors", "--time-limit", "60"]
  program = subprocess.Popen([verify.program, *words], cwd=verify.folder,
                             env=os.environ | {"FLASHLADDER_TEST_PLUGIN": "hangs with a note"}, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
  end = time.monotonic() + 50
  while not (verify.folder / "hanging").exists() and time.monotonic() < end:
    time.sleep(0.05)
  was_there = program.poll() is None and (verify.folder / "hanging").exists()
  program.kill()
  program.wait()
  if not was_there or (left := still_running(plugin)):
    yield f"it did not hang, or when the program was killed these did not end: {left if was_there else ''}"


def refusals(verify):
  """Code 1: it is called, and returns nothing."""
  for arguments, with_features in ("q", 77), ("q, **rest", 1):
    (verify.folder / "mine.py").write_text(f"def attention({arguments}): pass\n")
    for words, expected in {"": 1, **{words: with_features for words in FEATURES}}.items():
      code, out, err = verify.run("verify", "--plugin", "./mine.py", "--qo", "2", "--kv", "3", *words.split(), "--json")
      if code != expected or json.loads(out)["plugins"][0]["not_supported"] != (expected == 77):
        yield f"attention({arguments}) on {words or 'an ordinary case'}: exit code {code}, not {expected}: {out}{err}"


def template(verify, source, name):
  """It passes, and with a mistake in it, it does not."""
  shutil.copy(source / "examples" / "plugins" / f"{name}_attention.py", verify.folder / "mine.py")
  small = ["--qo", "3,0,17,2", "--kv", "50,17,3,0", "--heads", "6/2", "--dim", "40", "--causal", "--page", "5"]
  more = [["--random", "10", "--seed", "1"], []] if name == "numpy" else [["--kv", "33,64", "--heads", "4/2", "--dtype",
          "bf16", "--block-table", "--layout", "HND"]]
  for shape in [[*small, "--dtype", "f16"], *more]:
    code, out, err = verify.plugin("./mine.py", "--time-limit", "120", *shape)
    if code != 0 or json.loads(out)["plugins"][0]["cases"] == 0:
      yield f"{' '.join(shape) or 'the case table'}: exit code {code}: {out}{err}"
  text = (verify.folder / "mine.py").read_text()
  wrong = text.replace("tokens = ", "tokens = -1 + ").replace("+ paged_kv_last_page_len\n", "+ paged_kv_last_page_len - 1\n")
  if wrong == text:
    yield "there is no length to get wrong"
  (verify.folder / "mine.py").write_text(wrong)
  verify.run("case", "make", *small, "--dtype", "f32", "--out", "small.safetensors")
  code, out, err = verify.plugin("./mine.py", "--time-limit", "120", "--in", "small.safetensors")
  if code != 1 or json.loads(out)["plugins"][0]["failures"][0]["kind"] != "wrong result":
    yield f"the last key is lost: exit code {code}: {out}{err}"


def main(program, source, what):
  for module in {"ill_behaved": ["numpy"], "numpy": ["numpy"], "torch": ["numpy", "torch"],
                 "triton": ["numpy", "torch", "triton"]}[what]:
    if subprocess.run([PYTHON, "-c", f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"]
                      ).returncode:
      print(f"{PYTHON} has no module {module}: FLASHLADDER_PYTHON names another Python")
      return 77
  with tempfile.TemporaryDirectory() as folder:
    verify, root = Verify(pathlib.Path(program).resolve(), pathlib.Path(folder)), pathlib.Path(source).resolve()
    found = list(ill_behaved(verify, root) if what == "ill_behaved" else template(verify, root, what))
  return "\n".join(found) or 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
