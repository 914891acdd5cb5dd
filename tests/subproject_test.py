#!/usr/bin/env python3
"""A project that has FlashLadder as a Meson subproject gets the library alone: no program, no CLI11, JSON or doctest is
asked for, and dependency('flashladder') is what its own program is built with.   subproject_test.py ROOT COMPILER..."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

PROJECT = """project('user', 'cpp', default_options: ['cpp_std=c++20'])
executable('user', 'user.cpp', dependencies: dependency('flashladder', fallback: ['flashladder', 'api_dep']))
"""
LIBRARY = {"core", "cpu_check", "planner", "reference", "gpu", "api"}
OF_PROGRAMS = {"nlohmann_json", "CLI11", "doctest"}


def main(root, *compiler):
  with tempfile.TemporaryDirectory() as folder:
    project, build = pathlib.Path(folder) / "user", pathlib.Path(folder) / "build"
    (project / "subprojects").mkdir(parents=True)
    (project / "meson.build").write_text(PROJECT)
    (project / "user.cpp").write_text('#include "api/flashladder.hpp"\nint main() {}\n')
    (project / "subprojects" / "flashladder").symlink_to(root)
    setup = ["meson", "setup", str(build), str(project), "--wrap-mode=nodownload", "-Dflashladder:cuda=disabled"]
    done = subprocess.run(setup, env=os.environ | {"CXX": " ".join(compiler)}, capture_output=True, text=True)
    if done.returncode:
      return done.stdout[-3000:] + done.stderr
    introspect = lambda what: json.loads(subprocess.run(["meson", "introspect", str(build), what], check=True,
                                                        capture_output=True).stdout)
    targets, asked = ({thing["name"] for thing in introspect(what)} for what in ("--targets", "--dependencies"))
    if targets - {"user"} - LIBRARY or not {"user", "api"} <= targets:
      return f"targets: {sorted(targets)}"
    return f"asked for {sorted(asked & OF_PROGRAMS)}" if asked & OF_PROGRAMS else 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
