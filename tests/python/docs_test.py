#!/usr/bin/env python3
"""docs/python.md is right: its Python blocks run, one after the other; its hints are HINTS; it has a row for every snippet of
the documents; and every file that it names in tests/python is a test that Meson runs."""
import contextlib
import io
import re
import sys

import support
from flashladder.flashinfer import HINTS
from seeds import TABLE


def mistakes(page):
  names = {}
  for block in re.findall(r"^```python\n(.*?)^```$", page, re.S | re.M):
    try:
      with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block, "docs/python.md", "exec"), names)
    except Exception as error:
      yield f"a block fails with {type(error).__name__}: {error}\n{block}"
  rows = dict(re.findall(r"^\| `([\w.() ]+)` \| (.*) \|$", page.partition("### Hints")[2].partition("###")[0], re.M))
  for name in HINTS.keys() | rows.keys():
    if rows.get(name) != HINTS.get(name):
      yield f"hint {name}: the page says {rows.get(name)}, the package {HINTS.get(name)}"
  snippets = set(re.findall(r"^\| (\d{3}\[\d+\]) ", page, re.M))
  for entry in TABLE:
    if f"{entry.document}[{entry.number}]" not in snippets:
      yield f"no row for snippet {entry.document}[{entry.number}]"
    elif entry.refused and not re.search(rf"^\| {entry.document}\[{entry.number}\].*refused", page, re.M):
      yield f"snippet {entry.document}[{entry.number}] is refused, and its row does not say so"
  run = (support.ROOT / "tests/python/meson.build").read_text()
  for name in re.findall(r"`(?:tests/python/)?(\w+)_test\.py`", page):
    if f"'{name}'" not in run:
      yield f"{name}_test.py is not run"


def main():
  page = (support.ROOT / "docs/python.md").read_text()
  wrong = list(mistakes(page))
  print("\n".join(wrong) or "docs/python.md is right")
  for old, new in (("8, 2, 64, 16)", "8, 2, 64, 17)"), ("| `semaphores` | not needed |\n", ""), ("| 001[3] ", "| 001[9] "),
                   ("`stubs_test.py`", "`stub_test.py`"), ("refused: its inputs", "runs: its inputs")):
    if page.count(old) == 0 or len(list(mistakes(page.replace(old, new)))) <= len(wrong):
      wrong.append(old)
      print(f"not noticed: {old!r} replaced by {new!r}")
  return 1 if wrong else 0


if __name__ == "__main__":
  sys.exit(main())
