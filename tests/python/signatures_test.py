"""Names, order and defaults of arguments are FlashInfer 0.7.2's: flashinfer_signatures.json has them, made by
tools/flashinfer_signatures.py. Ours may take more, behind theirs."""
import importlib
import inspect
import json
import pathlib

from support import main, unittest

THEIRS = json.loads((pathlib.Path(__file__).parent / "flashinfer_signatures.json").read_text())
MISSING = "no default"
# Where ours stands for something else than theirs, which docs/python.md says.
OF_THE_ARRAYS = {"q_data_type", "kv_data_type", "data_type"}  # None: what run()'s arrays have
MAY_BE_LEFT_OUT = {  # theirs are required, ours have a meaning without
  "page_size",       # that of the cache
  "output", "workspace_buffer", "semaphores", "num_kv_heads",  # of xqa: made, not needed, that of the cache
  "indptr_buffer", "indices_buffer", "last_page_len_buffer",   # max_batch_size and max_num_pages in their place
  "int_workspace_buffer", "int_workspace_buffers",             # not needed
  "head_dim_qk"}     # of the ragged wrapper: also called head_dim
BY_OLD_NAMES = {"decode.BatchDecodeWithPagedKVCacheWrapper.plan", "prefill.BatchPrefillWithPagedKVCacheWrapper.plan"}


def ours(name):
  module, *path = name.split(".")
  found = importlib.import_module(f"flashladder.flashinfer.{module}")
  for part in path:
    found = getattr(found, part)
  return found


def listed(x):
  return list(x) if isinstance(x, tuple) else x


def differences(name, theirs, signature):
  mine = [p for p in signature.parameters.values() if p.name != "self"]
  positional = [p for p in mine if p.kind == p.POSITIONAL_OR_KEYWORD]
  keyword_only = False
  for i, (argument, default) in enumerate(theirs):
    if argument.startswith("*"):
      keyword_only = True
      continue
    have = signature.parameters.get(argument)
    if have is None:
      yield f"{name} lacks {argument}"
    elif not keyword_only and (i >= len(positional) or positional[i].name != argument):
      yield f"{name}: argument {i} is {positional[i].name if i < len(positional) else 'none'}, theirs is {argument}"
    elif default == MISSING:
      if have.default is not have.empty and argument not in MAY_BE_LEFT_OUT and name not in BY_OLD_NAMES:
        yield f"{name}: {argument} has a default"
    elif listed(have.default) != default and not (argument in OF_THE_ARRAYS and have.default is None):
      yield f"{name}: {argument} = {have.default!r}, theirs is {default!r}"


class Signatures(unittest.TestCase):
  def test_ours_are_theirs(self):
    wrong = []
    for name, theirs in THEIRS.items():
      function = ours(name)
      if any(p.kind == p.VAR_POSITIONAL and p.name == "arguments" for p in inspect.signature(function).parameters.values()):
        continue  # what is refused takes anything
      wrong += differences(name, theirs, inspect.signature(function))
    self.assertEqual(wrong, [], "\n".join(wrong))

  def test_differences_are_seen(self):
    theirs = [["a", MISSING], ["b", 1], ["*", MISSING], ["c", None]]
    for function in (lambda a, b=1: 0, lambda b=1, a=0, *, c=None: 0, lambda a, b=2, *, c=None: 0,
                     lambda a=3, b=1, *, c=None: 0):
      self.assertTrue(list(differences("f", theirs, inspect.signature(function))))
    self.assertEqual(list(differences("f", theirs, inspect.signature(lambda a, b=1, *, c=None, d=4: 0))), [])


if __name__ == "__main__":
  main()
