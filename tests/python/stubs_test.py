#!/usr/bin/env python3
"""The .pyi files are those that tools/python_stubs.py makes of the package, and a changed one is noticed."""
import pathlib
import subprocess
import sys
import tempfile

import support


def main():
  tool = support.ROOT / "tools" / "python_stubs.py"
  done = subprocess.run([sys.executable, tool], capture_output=True, text=True)
  print(done.stdout + done.stderr)
  with tempfile.TemporaryDirectory() as folder:
    other = pathlib.Path(folder) / "stubs.py"
    other.write_text(tool.read_text().replace('"eps "', '').replace("page_size num_pages", "num_pages").replace(
      "parent.parent\n", f"parent.parent\nROOT = pathlib.Path({str(support.ROOT)!r})\n", 1).replace(
      "-> {returned(name, where)}: ...", "-> Any: ..."))
    changed = subprocess.run([sys.executable, other], capture_output=True, text=True)
  if changed.returncode == 0:
    print("stubs of other types are not noticed")
  return 1 if done.returncode or not changed.returncode else 0


if __name__ == "__main__":
  sys.exit(main())
