"""Every Python snippet of the documents in ../shared/seeds runs on our names, and computes what float64 says: seeds.py has
what is said of each. Where the folder is not, the table alone is looked at."""
import contextlib
import io
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap


from support import ROOT, close, flashladder, main, oracle, torch, unittest
import numpy as np  # behind support, which skips where there is none
from flashladder.flashinfer.__main__ import stand_in
from seeds import TABLE, snippets

FOLDER = ROOT.parent / "shared" / "seeds"
GPU = torch.cuda.is_available()


def documents():
  """{"000": its snippets}; empty where the documents are not here."""
  return {p.name[:3]: snippets(p.read_text()) for p in sorted(FOLDER.glob("0*.txt"))} if FOLDER.is_dir() else {}


def on_this_device(code):
  """The snippet for the device that there is."""
  if GPU:
    return code
  code = re.sub(r"""(['"])cuda(:0)?\1""", r"\1cpu\1", code)
  return code.replace(".cuda()", ".cpu()").replace("torch.cuda.synchronize()", "")


def changed(code, changes):
  for old, new in changes:
    code = code.replace(old, new)
  return code


def helpers():
  """What setups and checks use."""
  def ints(x):
    return torch.tensor(x, dtype=torch.int32)

  def paged(q, kv, indptr, indices, last, page_size, qo_indptr=None, layout="NHD", **logits):
    pages = oracle.Pages(indptr, indices, last, page_size, layout)
    return oracle.batch_attention(q, kv, pages, qo_indptr, oracle.Logits(**logits)), (q, kv)

  def one(q, k, v, **logits):
    many = len(q.shape) == 3
    o, lse = oracle.attention(q if many else oracle.f64(q)[None], k, v, oracle.Logits(**logits))
    return ((o, lse) if many else (o[0], lse[0])), (q, (k, v))

  def table(q, k, v, page_table, seq_lens):
    page_size = k.shape[1]
    counts = [-(-int(n) // page_size) for n in seq_lens]
    indices = [int(page_table[r, i]) for r, n in enumerate(counts) for i in range(n)]
    last = [int(n) - (c - 1) * page_size for n, c in zip(seq_lens, counts)]
    return paged(q, (k, v), np.cumsum([0, *counts]), indices, last, page_size)

  exact = lambda x: ((x, None), None)
  return {"ints": ints, "paged": paged, "one": one, "table": table, "norm": lambda x, w: exact(oracle.rmsnorm(x, w)),
          "double": lambda x: oracle.f64(x) if not isinstance(x, tuple) else x, "np": np,
          "rope": lambda x, positions: exact(oracle.rotated(oracle.f64(x), oracle.f64(positions)))}


def check(test, entry, names):
  for line in filter(None, entry.check.split("\n")):
    outputs, _, formula = line.partition(": ")
    want = eval(formula, names)
    (o, lse), inputs = want if isinstance(want, tuple) else ((want, None), None)
    of_o, of_lse = oracle.tolerances("float16", inputs[1], inputs[0]) if inputs else (0.02, None)
    parts = outputs.split(", ")
    close(test, names[parts[0]], o, of_o, f"{entry.document}[{entry.number}] {parts[0]}")
    if len(parts) > 1:
      close(test, names[parts[1]], lse, of_lse, f"{entry.document}[{entry.number}] {parts[1]}")


def run(entry, code):
  names = {**helpers(), "__name__": "snippet"}
  if GPU:
    torch.set_default_device("cuda")
  for part, what in ((entry.setup, "setup of "), (code, "")):
    with contextlib.redirect_stdout(io.StringIO()):
      exec(compile(on_this_device(part), f"{what}{entry.document}[{entry.number}]", "exec"), names)
  return names


class Seeds(unittest.TestCase):
  @classmethod
  def setUpClass(cls):
    cls.documents = documents()
    if not cls.documents:
      print(f"{FOLDER} is not here: the snippets are not run")
    stand_in()

  def test_every_snippet_is_in_the_table(self):
    for document, found in self.documents.items():
      entries = [e for e in TABLE if e.document == document]
      self.assertEqual([e.number for e in entries], list(range(len(found))), document)
      for entry in entries:
        self.assertIn(entry.begins, found[entry.number])

  def test_every_snippet(self):
    for entry in TABLE if self.documents else ():
      with self.subTest(document=entry.document, number=entry.number):
        code = self.documents[entry.document][entry.number]
        if entry.refused:
          with self.assertRaises(ValueError) as caught:
            run(entry, code)
          self.assertIn(entry.refused, str(caught.exception))
          if not entry.check:
            continue
        check(self, entry, run(entry, changed(code, entry.changes)))

  def test_a_script_runs_as_it_is(self):
    """python -m flashladder.flashinfer script.py: `import flashinfer` and its modules mean ours."""
    script = textwrap.dedent("""
      import sys
      import numpy as np
      import flashinfer
      from flashinfer.page import get_seq_lens
      from flashinfer.xqa import xqa
      from flashinfer import xqa as module, rmsnorm
      assert module.xqa is xqa and flashinfer.__name__ == "flashladder.flashinfer"
      assert rmsnorm(np.ones((1, 8), np.float32), np.ones(8, np.float32)).shape == (1, 8)
      print(get_seq_lens(np.array([0, 2], np.int32), np.array([3], np.int32), 16), sys.argv[1:])
      """)
    with tempfile.TemporaryDirectory() as folder:
      file = pathlib.Path(folder) / "script.py"
      file.write_text(script)
      done = subprocess.run([sys.executable, "-m", "flashladder.flashinfer", file, "--an", "argument"], text=True,
                            cwd=pathlib.Path(flashladder.__file__).parent.parent, capture_output=True)
    self.assertEqual((done.returncode, done.stdout.strip()), (0, "[19] ['--an', 'argument']"), done.stderr)

  def test_a_wrong_result_is_seen(self):
    """The check itself: each output, changed a little, is refused."""
    entry = next(e for e in TABLE if (e.document, e.number) == ("001", 0))
    if self.documents:
      names = run(entry, changed(self.documents["001"][0], entry.changes))
      names["output"][0, 0, 0] += 0.5
      with self.assertRaises(AssertionError):
        check(self, entry, names)


if __name__ == "__main__":
  main()
