#!/usr/bin/env python3
"""Copies headers to FOLDER, with includes of each other under the names that they are installed by.
   installed_headers.py FOLDER HEADER..."""
import pathlib
import re
import sys

from forward_headers import installed_name

OURS = re.compile(r'^(\s*#\s*include\s*)"((?:api|capi|core)/[^"]+)"', re.M)

if __name__ == "__main__":
  for header in map(pathlib.Path, sys.argv[2:]):
    text = OURS.sub(lambda match: f"{match[1]}<{installed_name(match[2])}>", header.read_text())
    (pathlib.Path(sys.argv[1]) / header.name).write_text(text)
