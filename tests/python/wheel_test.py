#!/usr/bin/env python3
"""What `pip install .` puts into a wheel: the Python package, the shared library and the program, all of it and nothing else.

Configured as pyproject.toml says, without CUDA, and asked for its plan; nothing is compiled. Needs no numpy."""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def listed(name, text):
  return re.findall(r'"([^"]+)"', re.search(rf"^{name} = \[(.*?)\]", text, re.S | re.M)[1])


def main():
  pyproject = (ROOT / "pyproject.toml").read_text()
  with tempfile.TemporaryDirectory() as folder:
    configured = subprocess.run(["meson", "setup", folder, ROOT, "-Dcuda=disabled", *listed("setup", pyproject),
                                 "--wrap-mode=nofallback"], capture_output=True, text=True)
    if configured.returncode:
      print(configured.stdout[-2000:])
      return 1
    plan = json.loads(subprocess.run(["meson", "introspect", folder, "--install-plan"], check=True, capture_output=True,
                                     text=True).stdout)
    tags = listed("install", pyproject)[0].partition("=")[2].split(",")
    chosen = {entry["destination"]: source for group in plan.values() for source, entry in group.items()
              if entry["tag"] in tags}
    targets = subprocess.run(["ninja", "-C", folder, "-n", *listed("compile", pyproject)], capture_output=True, text=True)
  wants = {"{py_purelib}/flashladder": "python/flashladder", "{bindir}/flashladder": "cli/flashladder",
           "{libdir_shared}/": "package/libflashladder.so"}
  wrong = [f"{destination} is not wanted in a wheel" for destination in chosen
           if not any(destination.startswith(want) for want in wants)]
  wrong += [f"{want} is missing in {sorted(chosen)}" for want, source in wants.items()
            if not any(d.startswith(want) and source in s for d, s in chosen.items())]
  if targets.returncode or "cli/flashladder" not in targets.stdout:
    wrong.append(f"the target of pyproject.toml does not make the program: {targets.stdout[-300:]}{targets.stderr[-300:]}")
  print("\n".join(wrong) or f"a wheel of {len(chosen)} parts, as wanted")
  return 1 if wrong else 0


if __name__ == "__main__":
  sys.exit(main())
