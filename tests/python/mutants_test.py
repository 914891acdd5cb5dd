"""The tests of the Python package notice a broken binding: each mutant of it is run against them, and must fail.

A mutant is a copy of the package with one line changed. What is run: the tests named beside it."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
import support  # ends with 77 where numpy is missing

ATTENTION, FLASHINFER, OPERATIONS = "attention_test.py", "flashinfer_test.py", "operations_test.py"
CALLS, FAST, GRAPHS = "flashinfer_calls_test.py", "fast_run_test.py", "graphs_test.py"
QUANTISED, MASKS, CAPTURED = "quantised_test.py", "masks_test.py", "captured_test.py"
FP8_QUERIES, FP8_LATENTS = "fp8_queries_test.py", "fp8_latents_test.py"
MUTANTS = [  # what is wrong, file, text, its replacement, the test that must fail
  ("K and V swapped", "_run.py", "k, v = kv if pair else (kv, kv)", "v, k = kv if pair else (kv, kv)", ATTENTION),
  ("the layout is always NHD", "_run.py", "s.NHD if self.ragged else attention.layout", "s.NHD", ATTENTION),
  ("sm_scale is ignored", "attention.py", "sm_scale=c.sm_scale or 0.0", "sm_scale=0.0", ATTENTION),
  ("the window is ignored", "attention.py", "use_window=int(c.window_left != -1)", "use_window=0", ATTENTION),
  ("the soft cap is ignored", "attention.py", "logits_soft_cap=c.logits_soft_cap", "logits_soft_cap=0.0", ATTENTION),
  ("qo_indptr is kv_indptr", "attention.py", "b.qo_indptr = kept[-1] if qo_indptr", "b.qo_indptr = kept[0] if qo_indptr",
   ATTENTION),
  ("lse to base e", "_run.py", "words[_LSE_E if natural else _LSE2] = pointer(lse)",
   "words[_LSE2 if natural else _LSE_E] = pointer(lse)", ATTENTION),
  ("strides in bytes", "_arrays.py", "tuple([stride // size for stride in x.strides])", "x.strides", ATTENTION),
  ("strides are not compared", "_torch_arrays.py", "x.shape, x.is_contiguous() or x.stride(), x.dtype, x.device",
   "x.shape, x.dtype", "changes_test.py"),
  ("pointers are kept", "_run.py", "words[_Q + _DATA], words[_K + _DATA] = pointer(q), pointer(k)",
   "words[_Q + _DATA], words[_K + _DATA] = words[_Q + _DATA] or pointer(q), pointer(k)", "changes_test.py"),
  ("page ids are kept", "_run.py", "page_ids is not self.ids_here or", "self.ids_here is None or", "changes_test.py"),
  ("past ctypes without the lse", "_run.py", "is self.kind and not return_lse and", "is self.kind and", FAST),
  ("past ctypes without the sinks", "_run.py", "and lse is None and sinks is None and", "and lse is None and",
   FAST),
  ("past ctypes without the scales", "_run.py",
   "                and k_scale is self.scales[0] and v_scale is self.scales[1]):", "                ):", FAST),
  ("past ctypes on another stream", "_fast_run.py", '"current_stream": 48', '"current_stream": 40', "pretend_gpu_test.py"),
  ("sinks are kept", "_run.py", "words[_SINKS] = 0 if sinks is None else", "words[_SINKS] = words[_SINKS] or",
   "changes_test.py"),
  ("the plan's lengths are the caller's", "_arrays.py", "            out.append(address)\n",
   "            out.append(pointer)\n", "changes_test.py"),
  ("the mask is inverted", "_arrays.py", "return self.np.ascontiguousarray(x.reshape(-1)).view(self.np.uint8)",
   "return 1 - self.np.ascontiguousarray(x.reshape(-1)).view(self.np.uint8)", ATTENTION),
  ("bits from the other end", "flashinfer/_masks.py", '> 0, "little")', '> 0, "big")', GRAPHS),
  ("bits of a request follow those of the one before", "flashinfer/_masks.py", "padding[:-bits % 8]]", "padding[:0]]", GRAPHS),
  ("a graph's mask lies where plan() was given it", "flashinfer/_prefill_base.py", "PackedMask(room[:bits.shape[0]])",
   "PackedMask(bits)", GRAPHS),
  ("a graph over ragged keys has room for one more", "flashinfer/prefill.py", "self._graph_pages = kv[0].shape[0]",
   "self._graph_pages = kv[0].shape[0] + 1", GRAPHS),
  ("what is planned later is the caller's", "flashinfer/prefill.py", "[family_of(x).copy(x) for x in on_host(",
   "[x for x in on_host(", GRAPHS),
  ("a cascade's graph has level 0's page ids", "cascade.py", "zip(self._levels, paged_kv_indices_arr)",
   "zip(self._levels, paged_kv_indices_arr[:1] * 2)", GRAPHS),
  ("a cascade's graph reads a short q where it lies", "cascade.py", "or q.shape[0] >= rows", "or True", GRAPHS),
  ("drafts are causal", "flashinfer/xqa.py", "        if mask is not None:\n", "        if False:\n", CALLS),
  ("bits are taken for bytes", "_run.py", "(_BITS, _BITS_BYTES) if packed else (_MASK, _MASK_BYTES)", "(_MASK, _MASK_BYTES)",
   FLASHINFER),
  ("q_scale is ignored", "flashinfer/decode.py", "self._scaled(attention, number(q_scale))", "self._scaled(attention, 1.0)",
   FLASHINFER),
  ("k_scale and v_scale swapped", "_run.py", '(_K_HEADS, "k_scale", k_scale), (_V_HEADS, "v_scale", v_scale)',
   '(_K_HEADS, "k_scale", v_scale), (_V_HEADS, "v_scale", k_scale)', FLASHINFER),
  ("scales are kept", "_run.py", "if k_scale is not self.scales[0] or v_scale is not self.scales[1]:",
   "if self.scales == (None, None):", FLASHINFER),
  ("forward() is always causal", "flashinfer/_prefill_base.py", 'mask=mask if mask == "custom" else "causal" if causal',
   'mask=mask if mask == "custom" else "causal" if True', FLASHINFER),
  ("a variant keeps its first plan", "flashinfer/_wrapper.py", "if planned != self._plans:", "if planned == 0:",
   "changes_test.py"),
  ("graphs read a short q where it lies", "_run.py", "q.shape[0] < self._rows_of_graph(a)", "q.shape[0] < 0", FLASHINFER),
  ("causal is dropped", "flashinfer/_prefill_base.py", 'mask="custom" if masked else "causal" if causal else "none"',
   'mask="custom" if masked else "none"', FLASHINFER),
  ("a cache of rank 3 with a page's stride for its heads", "_tensors.py", "(page, page, head, one)", "(page, page, page, one)",
   FLASHINFER),
  ("xqa's window counts one more", "flashinfer/xqa.py", "int(sliding_win_size) - 1", "int(sliding_win_size)", CALLS),
  ("bmm1_scale is ignored", "serving.py", "bmm1_scale=bmm1_scale or 0.0", "bmm1_scale=0.0", CALLS),
  ("merging swaps its weights", "operations.py", 's_a=_f32(s_a, "s_a"), v_b=_f32(v_b, "v_b"), s_b=_f32(s_b, "s_b")',
   's_a=_f32(s_b, "s_a"), v_b=_f32(v_b, "v_b"), s_b=_f32(s_a, "s_b")', OPERATIONS),
  ("an append to the other request", "operations.py", "batch_at, positions_at, cache,",
   "positions_at, batch_at, cache,", OPERATIONS),
  ("eps is ignored", "operations.py", "slots, at = tensors(input=input, weight=weight, out=out)\n",
   "slots, at = tensors(input=input, weight=weight, out=out)\n    eps = 1.0\n", OPERATIONS),
  ("the device of weights is not looked at", "_tensors.py", "if here.device(first) != there.device(x):", "if False:",
   "pretend_gpu_test.py"),
  ("every copy of lengths waits", "_torch_arrays.py", "                a = there\n",
   "                a = there\n                self.torch.cuda.current_stream(waits).synchronize()\n", "pretend_gpu_test.py"),
  ("nobody waits for lengths", "_torch_arrays.py", "if waits is not None:", "if False:", "pretend_gpu_test.py"),
  ("the default stream", "_torch_arrays.py", "return self.raw_stream(device.index)", "return None", "pretend_gpu_test.py"),
  ("a plan stays on its stream", "_run.py", "        if stream != a.planned_on and family.moved(stream, a.planned_on):\n"
   "            a.", "        if False:\n            a.", "pretend_gpu_test.py"),
  ("a capture plans", "_arrays.py", "stream != planned_on and not self.capturing()", "stream != planned_on",
   "pretend_gpu_test.py"),
  ("latent rows end too early", "flashinfer/_lengths.py", "last = [n - (needs[i] - 1) * page_size",
   "last = [1 + 0 * n + 0 * (needs[i] - 1) * page_size", "mla_test.py"),
  ("latent attention without causal", "mla.py", "causal=int(bool(c.causal))", "causal=0", "mla_test.py"),
  ("ckv and kpe of an append swapped", "mla.py", "s.MlaCache(ckv=at[2], kpe=at[3],", "s.MlaCache(ckv=at[3], kpe=at[2],",
   "mla_test.py"),
  ("latent tables: bmm2_scale is ignored", "serving.py", "bmm1_scale=bmm1_scale, bmm2_scale=bmm2_scale)",
   "bmm1_scale=bmm1_scale, bmm2_scale=1.0)", "mla_test.py"),
  ("latent tables: the other base", "flashinfer/mla.py", 'return_lse_base == "basee"', 'return_lse_base != "basee"',
   "mla_test.py"),
  ("latent rows: their scales are exchanged", "mla.py",
   'ckv_scale=_scale(ckv_scale, "ckv_scale"), kpe_scale=_scale(kpe_scale, "kpe_scale"))\n        arguments',
   'ckv_scale=_scale(kpe_scale, "kpe_scale"), kpe_scale=_scale(ckv_scale, "ckv_scale"))\n        arguments', "mla_test.py"),
  ("xqa_mla's kv_scale is ignored", "flashinfer/xqa.py", "number(q_scale) * scale,", "number(q_scale),", "mla_test.py"),
  ("a norm's scale is ignored", "quantised.py", "return float(scale), None", "return 1.0, None", QUANTISED),
  ("gamma and beta swapped", "quantised.py", "input=input, gamma=gamma, beta=beta)", "input=input, gamma=beta, beta=gamma)",
   QUANTISED),
  ("e5m2 bytes are written as e4m3", "quantised.py", 'out_dtype or "float8_e4m3fn", "out_dtype"',
   '"float8_e4m3fn", "out_dtype"', QUANTISED),
  ("residual and input swapped", "quantised.py", "input=input, residual=residual, weight=weight)",
   "input=residual, residual=input, weight=weight)", QUANTISED),
  ("e5m2 queries are read as e4m3", "_arrays.py", "    if code == s.F8_E5M2:", "    if False:", FP8_QUERIES),
  ("an o of fp8 queries has 16 bits", "flashinfer/_fp8.py", "o_code = fp8_q if o_code is None else o_code",
   "o_code = wide_code(kv_code, None) if fp8_q and o_code is None else o_code", FP8_QUERIES),
  ("fp8 queries are widened once", "flashinfer/_wrapper.py", "q.dtype if self._fp8_q is None else None", "q.dtype",
   FP8_QUERIES),
  ("of two scales of heads one counts", "flashinfer/_fp8.py", "scale = x if scale is None else scale * x", "scale = x",
   FP8_QUERIES),
  ("scales of logits that are numbers are ignored", "flashinfer/_wrapper.py", "[None if hasattr(x, \"shape\") else x for x in",
   "[None for x in", FP8_QUERIES),
  ("one request's scale of v is k's", "single.py", 'f"{name_of_scale}_per_head"', '"k_scale_per_head"', FP8_QUERIES),
  ("an fp8 o without bmm2_scale", "flashinfer/_fp8.py", "result, out, out_code, of_o)", "result, out, out_code)",
   FP8_QUERIES),
  ("o_scale of latents multiplies", "flashinfer/mla.py", "1.0 / number(o_scale)", "number(o_scale)", FP8_LATENTS),
  ("a query of latents takes no dtype from the rows", "flashinfer/_fp8.py", "wide, _ = wide_query(query, kv, out, s.BF16)",
   "wide, _ = wide_query(query, query, out, s.BF16)", FP8_LATENTS),
  ("a delimiter is of its item", "flashinfer/_items.py", "(j > p - position)", "(j >= p - position)", MASKS),
  ("items see each other", "flashinfer/_items.py", "| (j > p - position)", "| (j >= 0)", MASKS),
  ("the prefix does not count", "flashinfer/_items.py", "(p < prefix) | (j < prefix)", "(p < prefix)", MASKS),
  ("the next request's items", "flashinfer/_items.py", "items.token_pos[b]", "items.token_pos[b - 1]", MASKS),
  ("drafts from the front of a request", "flashinfer/_drafts.py", "sees[:, kv_len - q_len:]", "sees[:, :q_len]", MASKS),
  ("a draft mask's rows of another request", "flashinfer/_drafts.py", "rows[qo[b]:qo[b + 1], :q_len]", "rows[:q_len, :q_len]",
   MASKS),
  ("sinks of ragged keys are ignored", "flashinfer/trtllm.py", "sinks=sinks_of(attention_sinks))", "sinks=None)", FLASHINFER),
  ("ragged drafts are of one length", "flashinfer/xqa.py", "cum = q_cu_seq_lens if ragged else [", "cum = [", MASKS),
  ("o_scale multiplies", "flashinfer/prefill.py", "(1.0 if v_scale is None else v_scale) / number(o_scale)",
   "(1.0 if v_scale is None else v_scale) * number(o_scale)", MASKS),
  ("interleave is ignored", "operations.py", "interleave=int(bool(interleave))", "interleave=0", OPERATIONS),
  ("is_neox is inverted", "operations.py", "at[2], int(bool(is_neox))", "at[2], int(not is_neox)", OPERATIONS),
  ("what a graph captured keeps its plan", "flashinfer/_wrapper.py", "in self._variants.items():", "in ():", CAPTURED),
  ("what a graph captured is freed", "flashinfer/_wrapper.py", "if self._for_graphs and said is not None:", "if False:",
   CAPTURED),
  ("what a graph of latents captured is freed", "flashinfer/mla.py", "self._earlier.keep(self._said, self._attention)", "pass",
   CAPTURED),
  ("what a graph of a cascade captured is freed", "flashinfer/cascade.py", "self._earlier.keep(self._said, self._cascade)",
   "pass", CAPTURED),
]


def passes(test, folder):
  return subprocess.run([sys.executable, HERE / test], env={**os.environ, "FLASHLADDER_PYTHON": str(folder)},
                        capture_output=True, text=True, timeout=300).returncode == 0


def survives(folder, what, file, old, new, test):
  package = pathlib.Path(folder) / "flashladder"
  source = (ROOT / "python" / "flashladder" / file).read_text()
  if source.count(old) != 1:
    return f"{what}: {source.count(old)} places in {file} read as the mutant wants one to"
  (package / file).write_text(source.replace(old, new))
  passed = passes(test, folder)
  (package / file).write_text(source)
  return f"{what}: {test} passes" if passed else None


def main():
  with tempfile.TemporaryDirectory() as folder:
    shutil.copytree(ROOT / "python" / "flashladder", pathlib.Path(folder) / "flashladder",
                    ignore=shutil.ignore_patterns("__pycache__"))
    alive = [f"{test} fails without a mutant" for test in sorted({m[-1] for m in MUTANTS}) if not passes(test, folder)]
    alive += [words for words in (survives(folder, *mutant) for mutant in MUTANTS) if words]
  print("\n".join(alive) or f"{len(MUTANTS)} mutants of the binding, all noticed")
  return 1 if alive else 0


if __name__ == "__main__":
  sys.exit(main())
