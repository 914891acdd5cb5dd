"""The Python side of a plug-in in Python: loads a user's file and calls its attention() on arrays that lie in memory shared
with the program. The text of this file is a part of the program (python_worker.cpp.in), which runs it, a process a case, as
  python3 -c TEXT SOCKET MEMORY FILE.py       SOCKET and MEMORY: file descriptors
Questions and answers are JSON behind their length. Whatever the user's file does ends as an answer or as the end of this
process; docs/bring-your-own-kernel.md says how it is told."""
import sys

if sys.path[:1] == [""]:  # a json.py in the folder of the run is none of ours
  del sys.path[0]
import importlib.util
import inspect
import json
import mmap
import os
import socket
import traceback
import types

# An argument that attention() does not name is a feature that it does not have: cases that need it are refused.
FEATURES = {"causal": lambda s: s.mask == "causal", "custom_mask": lambda s: s.mask == "custom",
            "window_left": lambda s: s.window_left >= 0, "logits_soft_cap": lambda s: s.logits_soft_cap > 0,
            "sinks": lambda s: s.sinks, "pos_encoding_mode": lambda s: s.pos_encoding_mode != "NONE",
            "dtype": lambda s: s.dtype == "bf16"}  # numpy has no bf16: its bits come as uint16, and dtype says what they are
ARRAYS = ("q", "k_cache", "v_cache", "qo_indptr", "paged_kv_indptr", "paged_kv_indices", "paged_kv_last_page_len")
NUMBERS = ("sm_scale", "rope_scale", "rope_theta")


class NoPlugin(Exception):
  """The file breaks a rule of the interface."""


class Plugin:
  def __init__(self, path):
    self.path = os.path.abspath(path)
    sys.path.insert(0, os.path.dirname(self.path))
    sys.dont_write_bytecode = True  # nothing is left beside the user's file
    stem = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(stem, self.path)
    self.module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = self.module
    spec.loader.exec_module(self.module)
    self.attention = getattr(self.module, "attention", None)
    if not callable(self.attention):
      raise NoPlugin("has no function attention")
    self.names, self.about = self.arguments(), {
        "name": str(getattr(self.module, "name", stem)), "idea": str(getattr(self.module, "idea", "")),
        "p_as_kv": bool(getattr(self.module, "p_as_kv", False)),
        "longest_chain": int(getattr(self.module, "longest_chain", 0))}

  def arguments(self):
    """The names of attention()'s arguments, each of which must be one that it can be given."""
    known, names = {*ARRAYS, *NUMBERS, *FEATURES}, []
    for name, p in inspect.signature(self.attention).parameters.items():
      if p.kind == p.VAR_KEYWORD:
        return sorted(known)
      if name in known and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
        names.append(name)
      elif p.default is p.empty:
        raise NoPlugin(f"has a function attention with an argument {name}, which must be one of {', '.join(sorted(known))}")
    return names

  def why_not(self, shape):
    """Why it does not compute the shape; "" if it does."""
    for name, needed in FEATURES.items():
      if needed(shape) and name not in self.names:
        return f"attention() takes no {name}"
    said = self.module.supports(shape) if hasattr(self.module, "supports") else None
    return "" if said is None or said is True else str(said or "supports() gave no reason")

  def run(self, shape, arrays):
    given = {name: arrays[name] for name in ARRAYS} | {name: getattr(shape, name) for name in (*NUMBERS, "window_left",
             "logits_soft_cap", "pos_encoding_mode", "dtype")}
    given |= {"causal": shape.mask == "causal", "sinks": arrays.get("sinks"), "custom_mask": masks(shape, arrays)}
    returned = self.attention(**{name: given[name] for name in self.names})
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
      raise NoPlugin(f"attention() must return o and lse_log2, not {type(returned).__name__}")
    for name, x in zip(("o", "lse_log2"), returned):
      x = np.asarray(x.detach().cpu().float() if hasattr(x, "detach") else x)
      if x.shape != arrays[name].shape:
        raise NoPlugin(f"attention() returned {name} of shape {list(x.shape)}, must be {list(arrays[name].shape)}")
      arrays[name][...] = x


def masks(shape, arrays):
  """custom_mask as a bool array [qo_len, kv_len] for each request; None without one."""
  if shape.mask != "custom":
    return None
  views, begin = [], 0
  for rows, columns in zip(shape.qo_lens, shape.kv_lens):
    views.append(arrays["custom_mask"][begin:begin + rows * columns].view(bool).reshape(rows, columns))
    begin += rows * columns
  return views


def in_memory(fd, layout):
  """The arrays of {name: {begin, shape, dtype}}: they may be written to, and who writes to an input is found out."""
  size = os.fstat(fd).st_size
  memory = mmap.mmap(fd, size)
  return {name: np.frombuffer(memory, a["dtype"], count=int(np.prod(a["shape"], dtype=np.int64)), offset=a["begin"])
          .reshape(a["shape"]) for name, a in layout.items()}


def told(error, path):
  """The exception in a line, with the last place in the user's own file."""
  text = " ".join(f"{type(error).__name__}: {error}".split())
  text = text if len(text) <= 800 else text[:800] + " ..."
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == os.path.abspath(path)]
  return f"{text} ({os.path.basename(path)}, line {lines[-1]})" if lines else text


class Worker:
  """Answers questions. What the user's file raises is an answer too."""

  def __init__(self, memory, path):
    self.memory, self.path, self.plugin = memory, path, None

  def answered(self, question):
    if question["ask"] == "about":
      global np
      import numpy as np
      self.plugin = Plugin(self.path)
      return self.plugin.about
    shape = types.SimpleNamespace(**question["shape"])
    if question["ask"] == "supports":
      return {"reason": self.plugin.why_not(shape)}
    self.plugin.run(shape, in_memory(self.memory, question["arrays"]))
    return {}

  def answer(self, question):
    try:
      return self.answered(question)
    except SystemExit as end:
      os._exit(0 if end.code is None else end.code if isinstance(end.code, int) else 1)
    except NoPlugin as error:
      return {"wrong": str(error)}
    except BaseException as error:
      if self.plugin is None and isinstance(error, ModuleNotFoundError):
        return {"missing": str(error.name), "python": sys.executable}
      return {"raised": told(error, self.path)}


def main(connection, memory, path):
  stream, worker = socket.socket(fileno=int(connection)).makefile("rwb"), Worker(int(memory), path)
  while length := stream.read(8):
    answer = json.dumps(worker.answer(json.loads(stream.read(int.from_bytes(length, "little"))))).encode()
    stream.write(len(answer).to_bytes(8, "little") + answer)
    stream.flush()


main(*sys.argv[1:])
