#!/usr/bin/env python3
"""README's program, built and linked in an empty folder by README's own command against an installed tree, prints what README
says. The tree is that of this build instead of README's, so README's commands that install one are not run.
Usage: readme_link_test.py SOURCE_ROOT BUILD_ROOT"""
import pathlib
import re
import sys
import tempfile

from installed import installed


def main(source, build):
  readme = (pathlib.Path(source) / "README.md").read_text()
  program = next(block for block in re.findall(r"^```cpp\n(.*?)^```$", readme, re.S | re.M) if "int main()" in block)
  shell = next(block for block in re.findall(r"^```sh\n(.*?)^```$", readme, re.S | re.M) if "pkg-config --cflags" in block)
  with installed(build) as tree, tempfile.TemporaryDirectory() as room:
    (pathlib.Path(room) / "mine.cpp").write_text(program)
    done = tree.run(["sh", "-ec", shell], cwd=room)
  said = re.search(r"^\./mine +# (.*)$", shell, re.M)[1]
  print(shell, done.stdout, sep="\n")
  return 0 if done.returncode == 0 and done.stdout.strip() == said else 1


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 3 else __doc__)
