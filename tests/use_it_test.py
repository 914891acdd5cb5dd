#!/usr/bin/env python3
"""docs/use-it.md does what it says: each of its sections is carried out in an empty folder, against the installed tree alone,
with the page's own files and commands, and its program prints what the page says it does.
   use_it_test.py SOURCE_ROOT BUILD [SECTION]        exit 77, with the reason, where a tool is not installed
   use_it_test.py --selftest SOURCE_ROOT BUILD       a wrong page is noticed"""
import pathlib
import re
import shutil
import sys
import tempfile

from installed import installed

FILE = re.compile(r"^`([\w.]+)`:\n```\w+\n(.*?)^```$", re.S | re.M)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.S | re.M)
SAYS = re.compile(r"^(\S*/mine) +# (.*)$", re.M)
SECTIONS = {"pkg-config and g++": "g++", "CMake": "cmake", "Meson": "meson", "C": "cc"}  # and the tool that each needs


def sections(page):
  return {name: text for name, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.S | re.M)}


def mistakes(page, section, tree):
  """One section in an empty folder, with the files of "A program" beside its own."""
  texts = sections(page)
  blocks = SHELL.findall(texts[section])
  if not any(SAYS.search(block) for block in blocks):
    yield f'"{section}" runs nothing whose output it says'
  with tempfile.TemporaryDirectory() as folder:
    for name, text in FILE.findall(texts["A program"]) + FILE.findall(texts[section]):
      (pathlib.Path(folder) / name).write_text(text)
    for block in blocks:
      said = SAYS.findall(block)
      done = tree.run(["bash", "-euc", block], cwd=folder)
      lines = done.stdout.splitlines()
      if done.returncode or [line for line in lines if line in [text for _, text in said]] != [text for _, text in said]:
        yield f'"{section}": exit code {done.returncode}, and not {said}:\n{block}{done.stdout[-3000:]}'


def selftest(page, tree):
  """Each change of the page makes it wrong."""
  for section, old, new in (("pkg-config and g++", "lse_log2 = 3.3219 = log2(10)\n```", "lse_log2 = 3.32 = log2(10)\n```"),
                            ("pkg-config and g++", "-std=c++20", "-std=c++17"), ("C", "FL_F32, 4, 64", "FL_F32, 4, 65"),
                            ("pkg-config and g++", "<flashladder/flashladder.hpp>", "<api/flashladder.hpp>"),
                            ("Meson", "executable('mine'", "executable('yours'")):
    if old not in page:
      yield f"the page has no {old!r} to change"
    elif not list(mistakes(page.replace(old, new), section, tree)):
      yield f"not noticed: {old!r} becomes {new!r}"


def variants(page, section, tree):
  """What the text says beside the commands: static libraries, a project in C alone, versions that fit and one that does not."""
  static = lambda text: text.replace("cmake -B out .", "cmake -B out -Dflashladder_USE_STATIC_LIBS=ON .").replace(
      "'flashladder_dep']", "'flashladder_dep'], static: true")
  texts = sections(page)
  in_c = page.replace(texts["A program"], FILE.search(texts["C"])[0] + "\n").replace("mine.cpp)", "mine.c)").replace(
      "project(mine CXX)", "project(mine C)")
  good = {"CMake": [static(page), in_c, static(in_c), page.replace("flashladder 0.1 ", "flashladder 0.1.0 ")],
          "Meson": [static(page)]}
  bad = {"CMake": [page.replace("flashladder 0.1 ", "flashladder 0.2 "), page.replace("flashladder 0.1 ", "flashladder 1 ")],
         "Meson": [page.replace("'flashladder', fallback: ['flashladder', 'flashladder_dep']", "'flashladder', version: '>=99'")]}
  for text in good.get(section, []):
    yield from mistakes(text, section, tree)
  for text in bad.get(section, []):
    if text == page or not list(mistakes(text, section, tree)):
      yield f'"{section}" works with a version that does not fit'


def main(arguments):
  tests_itself = arguments[0] == "--selftest"
  root, build, *wanted = arguments[tests_itself:]
  page = (pathlib.Path(root) / "docs" / "use-it.md").read_text()
  missing = [tool for section, tool in SECTIONS.items() if section in wanted and shutil.which(tool) is None]
  if missing:
    print(f"{missing[0]} is not installed here")
    return 77
  with installed(build) as tree:
    if not (tree.static.is_file() and tree.shared.is_file()):
      print("this build has no default_library=both")
      return 77
    found = list(selftest(page, tree)) if tests_itself else []
    for section in [] if tests_itself else wanted or SECTIONS:
      found += [*mistakes(page, section, tree), *variants(page, section, tree)]
  return "\n".join(found) or 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
