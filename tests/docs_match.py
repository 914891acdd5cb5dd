#!/usr/bin/env python3
"""Holds docs/*.md, docs/measurements/*.md and the READMEs to the programs and the sources, so that no number in the text
can be an old one.
  ```text                 a block whose first line is `$ command` shows what the command prints. The command is flashladder
  $ walkthrough_02_x      or a walkthrough, or python3 tools/x.py, with its arguments; `...` alone on a line skips any
  ...                     number of lines, and without it the block begins and ends with the output. Several `$` in a block: one after the other.
  ```                     `$ command  # exit 2` expects that exit code, else 0. Other shell lines belong in ```sh blocks.
  ```cpp path/file.cpp    the lines stand in that file, one under the other; indentation of the whole block doesn't matter
  [text](target)          relative links and pictures exist; so do the headings that #anchors name
  `folder/file.ext`       a file that the text names exists, from the root or from the page (cN_, dN_ and NN_ name none)
  docs/figures/NN_*.svg   is what walkthrough_NN --figures writes (2-decimal coordinates within 0.011, colours within 2)
  `tests/x.cpp`, "name"   that file has a TEST_CASE of this name; mutants `a`, `b`: tests/mutants.cpp has them
  <!-- decode table       README's times are those of docs/measurements/h200-decode-peers.md, its percentages theirs
  New words: a, b.        or a table `| word | ... |` under it: docs/glossary.md has each of them, as **a**
Usage: docs_match.py SOURCE_ROOT BUILD_ROOT    exit 1 and file:line: reason for each mismatch    docs_match.py --selftest"""
import functools, os, pathlib, re, shlex, subprocess, sys, tempfile, textwrap

FENCE = re.compile(r"^```(\w*) *(.*?)\s*$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?!\S*\b(?:cN|dN|NN)_)[\w.-]+/[\w./-]+\.(?:cpp|hpp|cuh?|py|md|jsonl|log|build|svg))`")
TEST_NAMES = re.compile(r'`(tests/\w+\.cpp)`((?:(?:,| and)? "[^"]+")+)')
MUTANTS = re.compile(r"[mM]utants? ((?:`\w+`(?:, | and )?)+)")
NEW_WORDS = re.compile(r"New words: ([^.]+)\.")
SVG_TOKEN = re.compile(r"#[0-9a-f]{6}|-?\d+(?:\.\d+)?")


class Docs:
  def __init__(self, source, build):
    self.source, self.build = source.resolve(), build.resolve()

  @functools.cache
  def output(self, command):
    """(exit code, lines) of a command, run where data/ can be read and nothing can be spoilt."""
    words = shlex.split(command, comments=True)
    program = self.build / ("cli" if words[0] == "flashladder" else "walkthroughs") / words[0]
    start = [program]
    if words[0] == "python3" and len(words) > 1:
      start, program, words = [sys.executable, self.source / words[1]], self.source / words[1], words[1:]
    if not program.is_file():
      return None, [f"{words[0]} is not a program of this build"]
    with tempfile.TemporaryDirectory() as room:
      for name in ("data", "docs"):
        if (self.source / name).exists():
          os.symlink(self.source / name, pathlib.Path(room) / name)
      done = subprocess.run([*start, *words[1:]], cwd=room, env=os.environ | {"NO_COLOR": "1"}, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, text=True, errors="replace")
    return done.returncode, [line.rstrip() for line in done.stdout.rstrip().splitlines()]

  def wrong_output(self, line, block):
    """The block's commands, one after the other: yields (line, reason)."""
    starts = [i for i, text in enumerate(block) if text.startswith("$ ")]
    for start, end in zip(starts, starts[1:] + [len(block)]):
      command = block[start][2:]
      code, printed = self.output(command)
      wanted = int(match[1]) if (match := re.search(r"# exit (\d+)", command)) else 0
      if code != wanted:
        yield line + start, f"`{command}` ends with exit code {code}, not {wanted}: {printed[-1] if printed else ''}"
      elif (miss := first_miss([text.rstrip() for text in block[start + 1:end]], printed)):
        yield line + start + 1 + miss[0], miss[1]

  def wrong_quote(self, line, path, block):
    if not (self.source / path).is_file():
      return f"there is no {path}", line - 1
    block, have = unindented(block), (self.source / path).read_text().splitlines()
    starts = [i for i in range(len(have)) if have[i].strip() == block[0].strip()] or [0]
    misses = [first_miss(block, unindented(have[i:i + len(block)])) for i in starts]
    if None not in misses:
      k, reason = max(misses)
      return f"not in {path}: {reason}", line + k

  def wrong_link(self, page, target):
    path, _, anchor = target.partition("#")
    if re.match(r"\w+:", target):
      return None
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
      return f"link to {target}: there is no such file"
    if anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
      return f"link to {target}: there is no such heading"

  def wrong_in(self, page):
    lines, i = page.read_text().splitlines(), 0
    while i < len(lines):
      fence = FENCE.match(lines[i])
      if not fence:
        links = LINK.findall(re.sub(r"`[^`]*`", "", lines[i]))
        yield from ((i + 1, reason) for target in links if (reason := self.wrong_link(page, target)))
        yield from ((i + 1, f"there is no {name}") for name in NAMED_FILE.findall(lines[i])
                    if not (self.source / name).exists() and not (page.parent / name).exists())
        i += 1
        continue
      end = next((j for j in range(i + 1, len(lines)) if lines[j].rstrip() == "```"), len(lines))
      block = lines[i + 1:end]
      if fence[1] == "text" and block and block[0].startswith("$ "):
        yield from self.wrong_output(i + 2, block)
      elif fence[1] == "cpp" and fence[2] and block:
        if (miss := self.wrong_quote(i + 2, fence[2], block)):
          yield miss[1], miss[0]
      i = end + 1

  def new_words(self, page):
    """(line, word) of what a page announces as new: in a sentence, or in the first column of the table below it."""
    in_table = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
      if (sentence := NEW_WORDS.search(line)):
        yield from ((number, word) for word in sentence[1].split(","))
      in_table = line.startswith("| word |") or (in_table and line.startswith("|"))
      if in_table and not line.startswith(("| word |", "|---")):
        yield from ((number, word) for word in line.split("|")[1].split(","))

  def wrong_words(self, page, glossary):
    known = set(re.findall(r"\*\*(.*?)\*\*", glossary.read_text())) if glossary.is_file() else set()
    return [(line, f"`{word.strip()}` is not in docs/glossary.md") for line, word in self.new_words(page)
            if page != glossary and word.strip() not in known]

  def wrong_figures(self):
    with tempfile.TemporaryDirectory() as room:
      for program in (self.build / "walkthroughs").glob("walkthrough_*"):
        if program.is_file():
          subprocess.run([program, "--figures", room], stdout=subprocess.DEVNULL, timeout=300)
      written = {p.name: p.read_text() for p in pathlib.Path(room).glob("*.svg")}
    for file in sorted((self.source / "docs" / "figures").glob("[0-9][0-9]_*.svg")):
      if file.name not in written:
        yield f"docs/figures/{file.name}:1: no walkthrough writes it"
      elif not same_picture(file.read_text(), written[file.name]):
        yield f"docs/figures/{file.name}:1: the walkthrough writes another picture now; commit that one"

  def wrong_tests(self, page):
    """Tests and mutants that the page names and that are not there."""
    have = functools.cache(lambda path: (self.source / path).read_text() if (self.source / path).is_file() else "")
    for number, line in enumerate(page.read_text().splitlines(), 1):
      for path, names in TEST_NAMES.findall(line):
        yield from ((number, f"{path} has no TEST_CASE \"{name}\"") for name in re.findall(r'"([^"]+)"', names)
                    if not re.search(r'TEST_CASE(_TEMPLATE)?\("' + re.escape(name) + '"', have(path)))
      for names in MUTANTS.findall(line):
        yield from ((number, f"tests/mutants.cpp has no mutant `{name}`") for name in re.findall(r"`(\w+)`", names)
                    if f"FL_MUTANT({name})" not in have("tests/mutants.cpp"))

  def wrong_times(self):
    """README's decode table: its case, D6, plain read and FlashInfer against the columns work, our us, floor us, its us."""
    readme, peers = self.source / "README.md", self.source / "docs" / "measurements" / "h200-decode-peers.md"
    if "<!-- decode table" not in readme.read_text():
      return
    cells = lambda line: [cell.strip() for cell in line.strip("|\n").split("|")]
    number = lambda cell: float(cell.split()[0])
    rows = [cells(line) for line in peers.read_text().splitlines() if line.startswith("| ")]
    measured = {row[0]: (number(row[4]), number(row[8]), number(row[3])) for row in rows
                if len(row) > 8 and row[1] in ("events", "graph") and row[8] != "-"}
    lines = readme.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("<!-- decode table"))
    for i in range(first + 3, next(i for i, line in enumerate(lines) if line.startswith("<!-- end of decode table"))):
      _, case, ours, plain, share, theirs = cells(lines[i])
      wanted = measured.get(case)
      if wanted != (number(ours), number(plain), number(theirs)) or round(100 * wanted[1] / wanted[0]) != number(share):
        yield f"README.md:{i + 1}: `{case}` is {wanted} there (D6, plain read, FlashInfer in us)"

  def wrong(self):
    docs = self.source / "docs"
    pages = [self.source / "README.md", self.source / "gpu" / "README.md", *sorted(docs.glob("*.md")),
             *sorted((docs / "measurements").glob("*.md"))]
    pages = [p for p in pages if p.is_file()]
    glossary = self.source / "docs" / "glossary.md"
    found = [f"{p.relative_to(self.source)}:{line}: {reason}" for p in pages
             for line, reason in [*self.wrong_in(p), *self.wrong_words(p, glossary), *self.wrong_tests(p)]]
    return found + [*self.wrong_times(), *self.wrong_figures()] if pages else ["there are no documents"]


def first_miss(block, have):
  """None if block, with its `...`, is what have says; else (index in block, reason) of the first line that differs."""
  text = "".join(line + "\n" for line in have)
  pattern = lambda lines: "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in lines)
  if re.fullmatch(pattern(block), text):
    return None
  k = next((k for k in range(len(block)) if not re.match(pattern(block[:k + 1]), text)), len(block))
  there = text[re.match(pattern(block[:k]), text).end():].partition("\n")[0]
  return (k, f"`{block[k]}`, but there: `{there}`") if k < len(block) else (k - 1, f"then follows `{there}`: end with ...")


def unindented(lines):
  return textwrap.dedent("\n".join(line.rstrip() for line in lines)).split("\n")


def anchors(text):
  heads = re.findall(r"^#+ (.*?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
  return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


def same_picture(a, b):
  if SVG_TOKEN.sub("@", a) != SVG_TOKEN.sub("@", b):
    return False
  def near(x, y):
    if x[0] == "#" or y[0] == "#":
      return x[0] == y[0] and all(abs(int(x[k:k + 2], 16) - int(y[k:k + 2], 16)) <= 2 for k in (1, 3, 5))
    coordinates = max(len(n.partition(".")[2]) for n in (x, y)) <= 2
    return abs(float(x) - float(y)) <= 0.011 if coordinates else x == y
  return all(x == y or near(x, y) for x, y in zip(SVG_TOKEN.findall(a), SVG_TOKEN.findall(b)))


def selftest():
  program = """#!/bin/sh
[ "$1" = --bad ] && { echo no; exit 2; }
[ "$1" = --figures ] && echo '<svg x="1.50"/>' > "$2/01_a.svg"
echo one; echo two; echo three"""
  text, cpp, figure = "```text\n$ walkthrough_01_a\n%s\n```\n", "```cpp a.cpp\n%s\n```\n", "docs/figures/01_a.svg"
  good = {"README.md": "# A b\n[x](docs/a.md#its-head) `[n](o)` `docs/a.md` `docs/NN_x.md`\n",
          "a.cpp": "{\n  int a;\n    int b;\n}\n  int a;\n",
          "docs/glossary.md": "| word | means |\n|---|---|\n| **lse**, m | x |\n| **new word** | y |\n",
          "docs/a.md": "# Its head\nNew words: lse, new word. Rung\n| word | is |\n|---|---|\n| lse, new word | z |\n" +
                       "`tests/t.cpp`, \"a b\" and \"c\"; mutants `m`, `n`\n" +
                       text % "one\n...\nthree" + text % "...\ntwo\n..." + cpp % "int a;\n  int b;" +
                       "```text\n$ walkthrough_01_a --bad  # exit 2\nno\n```\n", figure: '<svg x="1.51"/>\n'}
  bad = [{figure: '<svg x="1.6"/>\n'}, {figure: '<svg y="1.5"/>\n'}, {"docs/figures/01_b.svg": "<svg/>"},
         {"README.md": "[x](docs/b.md)"}, {"README.md": "[x](docs/a.md#no-head)"}, {"README.md": "![x](docs/figures/c.svg)"},
         {"README.md": "see `docs/none.md`"}, {"docs/measurements/m.md": "see `docs/none.md`"},
         {"gpu/README.md": "see `a/none.cuh`"}]
  table = "<!-- decode table -->\n| a |\n|---|\n| a | B1 | TIME us | 9 us | 90 % | 12 us |\n<!-- end of decode table -->\n"
  good["README.md"] += table.replace("TIME", "10")
  good["docs/measurements/h200-decode-peers.md"] = "| B1 | events | FI | 12 (11-13) | 10 (9-11) | 1 | 2 % | 3 % | 9 |\n"
  good["tests/t.cpp"] = 'TEST_CASE("a b") {}\nTEST_CASE_TEMPLATE("c", T, float) {}\n'
  good["tests/mutants.cpp"] = "FL_MUTANT(m)\nFL_MUTANT(n)\n"
  bad += [{"docs/b.md": x} for x in ('`tests/t.cpp`, "a"', '`tests/t.cpp`, "c", "d"', "mutant `o`", "mutants `m`, `p`")]
  bad += [{"README.md": table.replace("TIME", time)} for time in ("11", "10.1")]
  bad += [{"docs/b.md": block} for block in [
      "New words: lse, m. R", "New words: lsd. R", "| word | is |\n|---|---|\n| lse | z |\n| lse, old word | z |\n",
      text % "one\ntwo", text % "two\nthree", text % "...\none\nthree\n...", text % "...\ntwo", text % "one\n...\none\n...",
      text % "", cpp % "int a;\nint b;", cpp % "int a;\n  int c;", "```cpp none.cpp\nx\n```\n",
      "```text\n$ walkthrough_01_a --bad\nno\n```\n", "```text\n$ ls\n```\n"]]
  missed = []
  for number, change in enumerate([{}, *bad]):
    with tempfile.TemporaryDirectory() as root:
      for path, content in {**good, **change, "build/walkthroughs/walkthrough_01_a": program}.items():
        file = pathlib.Path(root) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
      file.chmod(0o755)
      found = Docs(pathlib.Path(root), pathlib.Path(root) / "build").wrong()
      if bool(found) != bool(change):
        missed.append(f"selftest {number}: {change or 'the good one'} gives {found}")
  return missed


if __name__ == "__main__":
  if len(sys.argv) < 2 or (sys.argv[1] != "--selftest" and len(sys.argv) != 3):
    sys.exit(__doc__)
  problems = selftest() if sys.argv[1] == "--selftest" else Docs(*map(pathlib.Path, sys.argv[1:3])).wrong()
  print("\n".join(problems) or "text, quotes, links and figures are what the programs and the sources say")
  sys.exit(1 if problems else 0)
