#!/usr/bin/env python3
"""Prints the version that api/version.h defines: meson.build asks, so that it is written in one place."""
import pathlib
import re

header = (pathlib.Path(__file__).resolve().parent.parent / "api" / "version.h").read_text()
print(".".join(re.search(rf"^#define FLASHLADDER_VERSION_{part} (\d+)$", header, re.M)[1]
               for part in ("MAJOR", "MINOR", "PATCH")))
