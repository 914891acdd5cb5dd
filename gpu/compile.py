#!/usr/bin/env python3
"""Runs nvcc and keeps ptxas' report beside the object: compile.py [CCACHE] NVCC FLAG... -o OBJECT   writes OBJECT.ptxas.
What nvcc says beyond that report (warnings, errors) is printed as it would have been."""
import re
import subprocess
import sys

REPORT = re.compile(r"ptxas info|\s+\d+ bytes (stack frame|gmem)")

command = sys.argv[1:]
run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
lines = run.stdout.splitlines(keepends=True)
with open(command[command.index("-o") + 1] + ".ptxas", "w") as log:
  log.writelines(lines)
sys.stdout.writelines(line for line in lines if not REPORT.match(line))
sys.exit(run.returncode)
