#!/usr/bin/env python3
"""Makes C++ of a CUDA source for a simulated GPU: translate.py SOURCE.cu OUTPUT.cpp [DEPFILE]

C++ has no shared memory whose size a launch decides: `extern __shared__ T name[]` becomes a pointer. All else is done by
headers (simt/include).
"""
import pathlib
import re
import sys

DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?([\w:]+(?: char)?)\s+(\w+)\[\];")


def translated(text, name):
  text = DYNAMIC.sub(r"\1* const \2 = flashladder::simt::dynamic_shared<\1>();", text)
  if re.search(r"extern\s+__shared__", text):
    raise SystemExit(f"{name}: shared memory of a form that translate.py does not know")
  return f'#include "simt/include/cuda_runtime.h"\n#line 1 "{name}"\n{text}'


def main(source, output):
  pathlib.Path(output).write_text(translated(pathlib.Path(source).read_text(), source))


if __name__ == "__main__":
  main(*sys.argv[1:3])
