"""What the three examples share: arrays on whichever device there is, and their options."""
import argparse

import numpy as np

try:
  import torch
except ImportError:
  torch = None


def options(description, picture):
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument("--picture", default=picture, help="where the picture goes (an SVG file)")
  parser.add_argument("--device", default="cuda" if torch is not None and torch.cuda.is_available() else "cpu")
  return parser.parse_args()


def maker(device):
  """A function that puts numpy's arrays on the device: torch tensors there, numpy's own on the CPU without torch."""
  if torch is None:
    if device != "cpu":
      raise SystemExit("arrays on a GPU need torch")
    return lambda x: x
  return lambda x: torch.from_numpy(np.ascontiguousarray(x)).to(device)
