#!/usr/bin/env python3
"""How well verify names what users get wrong: the CPU template with one small edit each, of a list that was written before
anything was known of what verify says of it. Each is rejected, and at most one name in twenty is wrong; the figures are
those of docs/bring-your-own-kernel.md.
   plugin_edits_test.py FLASHLADDER SOURCE_ROOT BUILD COMPILER [NAME...]        NAME: of edits, only these"""
import json
import pathlib
import subprocess
import sys
import tempfile

KV_LEN = "j < s.shape.kv_lens[r]; ++j"
WEIGHTED = "o[c] += weights[n] / sum * as_float(value[c]);"
# the edit: (text of the template, text in its place, the known mistake that it is, or "" if it is none)
EDITS = {
  "causal corner at the top left": ("j <= diagonal;", "j <= i;", "top_left_causal"),
  "causal looks the other way": ("j <= diagonal;", "j >= diagonal;", ""),
  "causal without the diagonal": ("j <= diagonal;", "j < diagonal;", "diagonal_lost"),
  "window one key too short": ("j < diagonal - s.shape.window_left", "j <= diagonal - s.shape.window_left",
                               "window_off_by_one"),
  "full pages only": (KV_LEN, "j < s.shape.kv_lens[r] / s.shape.page_size * s.shape.page_size; ++j", "lost_last_page"),
  "last_page_len one too small": (KV_LEN, "j < s.shape.kv_lens[r] - 1; ++j", "last_key_lost"),
  "pages in the wrong order": ("[s.b.paged_kv_indptr[r] + page]", "[s.b.paged_kv_indptr[r + 1] - 1 - page]", ""),
  "every mask begins at byte 0": ("custom_mask[s.mask_begin[r] + ", "custom_mask[", ""),
  "KV heads in turn": ("head / (s.shape.num_qo_heads / s.shape.num_kv_heads)", "head % s.shape.num_kv_heads",
                       "strided_heads"),
  "sm_scale twice": ("dot * s.shape.sm_scale,", "dot * s.shape.sm_scale * s.shape.sm_scale,", ""),
  "soft cap before sm_scale": ("cap * std::tanh(x / cap) : x", "cap * std::tanh(dot / cap) * s.shape.sm_scale : x",
                               "cap_before_scale"),
  "maximum of the last 32 keys": ("max = std::max(max, weights.back());",
                                  "max = j % 32 == 0 ? weights.back() : std::max(max, weights.back());", ""),
  "maximum at least zero": ("s.b.sinks[head] : -INFINITY;\n  for", "s.b.sinks[head] : 0;\n  for", "max_from_1e_30"),
  "sinks not in the sum": ("s.shape.sinks ? std::exp(s.b.sinks[head] - max) : 0;", "0;", "sink_lost"),
  "K and V exchanged": ("(s.b.k), *v = static_cast<const T*>(s.b.v)", "(s.b.v), *v = static_cast<const T*>(s.b.k)", ""),
  "V of the first key": ("keys[n], kv_head, s.b.v_strides", "keys[0], kv_head, s.b.v_strides", ""),
  "first row of V of each 64 twice": (WEIGHTED,
                                      "o[c] += weights[n] / sum * as_float(value[c]) * (n > 0 && n % 64 == 0 ? 2 : 1);",
                                      "first_v_row_twice"),
  "o not divided by the sum": (WEIGHTED, "o[c] += weights[n] * as_float(value[c]);", ""),
  "lse in base e": (" / std::log(2.0f) : -INFINITY", " : -INFINITY", "natural_lse"),
  "lse without the maximum": ("(max + std::log(sum))", "std::log(sum)", ""),
  "no row without keys written": ("  std::fill_n(o, dim, 0.0f);", "  if (sum == 0) return;\n  std::fill_n(o, dim, 0.0f);",
                                  "empty_row_not_written"),
}
RIGHT, WRONG = 10, 0  # as measured; the others are not recognised


def examined(program, root, build, compiler, text, folder):
  """What verify says of the kernel, and its exit code."""
  (folder / "mine.cpp").write_text(text)
  subprocess.run([compiler, "-O1", "-std=c++17", "-fPIC", "-shared", "mine.cpp", "-o", "mine.so", f"-I{root}",
                  f"-I{build / 'package' / 'forward'}"], cwd=folder, check=True)
  done = subprocess.run([program, "verify", "--plugin", "./mine.so", "--json"], cwd=folder, capture_output=True, text=True)
  return json.loads(done.stdout)["plugins"][0], done.returncode


def main(program, root, build, compiler, *only):
  program, root, build = (pathlib.Path(path).resolve() for path in (program, root, build))
  template = (root / "examples" / "plugins" / "cpu_attention.cpp").read_text()
  page = (root / "docs" / "bring-your-own-kernel.md").read_text()
  mistakes, right, wrong = [], 0, 0
  with tempfile.TemporaryDirectory() as folder:
    try_it = lambda text: examined(program, root, build, compiler, text, pathlib.Path(folder))
    if try_it(template)[1] != 0:
      mistakes.append("the template itself is rejected")
    for name, (find, replacement, known) in EDITS.items():
      if only and name not in only:
        continue
      if template.count(find) != 1:
        mistakes.append(f"{name}: the template has this {template.count(find)} times: {find}")
        continue
      said, code = try_it(template.replace(find, replacement))
      if code != 1 or not said["smallest"]:
        mistakes.append(f"{name}: not rejected")
        continue
      looks_like = said["smallest"][0]["looks_like"]
      right += known in looks_like
      wrong += bool(looks_like) and known not in looks_like
      row = f"| {name} | {', '.join(f'`{name}`' for name in looks_like) or 'not recognised'} |"
      print(row, said["smallest"][0]["case"], flush=True)
      if row not in page:
        mistakes.append(f"the page's table lacks {row}")
  print(f"{len(EDITS)} edits: {right} named rightly, {wrong} wrongly")
  if not only and (right, wrong) != (RIGHT, WRONG):
    mistakes.append(f"named rightly {right}, wrongly {wrong}; measured were {RIGHT} and {WRONG}")
  if wrong * 20 > len(EDITS):
    mistakes.append("more than one name in twenty is wrong")
  return "\n".join(mistakes) or 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
