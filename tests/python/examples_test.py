#!/usr/bin/env python3
"""The examples of examples/python run, say that they are right, and draw pictures that are XML. docs/python.md quotes them."""
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import support

FOLDER = support.ROOT / "examples" / "python"
EXAMPLES = {"decode_batch.py": "off by", "merge_contexts.py": "in one piece", "verify_kernel.py": "wrong"}


def main():
  package = str(pathlib.Path(support.flashladder.__file__).parent.parent)
  wrong = []
  with tempfile.TemporaryDirectory() as folder:
    for name, says in EXAMPLES.items():
      picture = pathlib.Path(folder) / f"{name}.svg"
      done = subprocess.run([sys.executable, FOLDER / name, "--picture", picture], capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": package}, cwd=folder)
      if done.returncode or says not in done.stdout:
        wrong.append(f"{name}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
      elif len(list(xml.etree.ElementTree.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}rect"))) < 3:
        wrong.append(f"{name} drew nothing")
  print("\n".join(wrong) or f"{len(EXAMPLES)} examples ran")
  return 1 if wrong else 0


if __name__ == "__main__":
  sys.exit(main())
