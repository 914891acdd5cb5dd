"""Is a kernel right? A function of yours against the formula in float64, on cases in which kernels go wrong.

    from flashladder import verify
    print(verify.decode(my_kernel, device="cuda"))        # a table; .ok says whether all is well

A decode is called as kernel(q, k_cache, v_cache, indptr, indices, last_page_len, sm_scale) and a prefill as kernel(q, k_cache,
v_cache, qo_indptr, indptr, indices, last_page_len, sm_scale, causal); each returns o, or (o, lse), lse to base 2.
Caches are NHD, [pages, page_size, num_kv_heads, head_dim]. What no request owns is NaN. On the command line:

    python -m flashladder.verify my_file.py:my_kernel --kind decode --device cuda
"""
import argparse
import importlib.util
import os
import sys
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from . import oracle


class Case(NamedTuple):
    """A batch: lengths, shapes, and how the values are drawn."""
    name: str
    kv_lens: Tuple[int, ...]
    qo_lens: Optional[Tuple[int, ...]] = None   # None: a decode
    page_size: int = 16
    heads: Tuple[int, int] = (8, 2)
    head_dim: int = 64
    causal: bool = False
    values: str = "normal"                      # normal, equal (all logits alike), large (logits near 1e4), first, last


def _lengths(page: int) -> Tuple[int, ...]:
    return (0, 1, page - 1, page, page + 1, 5 * page)


DECODE: Tuple[Case, ...] = (
    Case("one key", (1,)),
    Case("around a page", _lengths(16)),
    Case("pages of one token", (0, 1, 2, 5, 33, 0), page_size=1),
    Case("pages of 5", _lengths(5), page_size=5),
    Case("one long among empty", (0, 0, 2000, 0, 3)),
    Case("long", (3000, 5000)),
    Case("group 1", (7, 100), heads=(4, 4)),
    Case("group 5", (7, 100), heads=(10, 2)),
    Case("group 7", (7, 100), heads=(7, 1)),
    Case("group 8", (64, 129), heads=(16, 2)),
    Case("head_dim 128", (7, 300), head_dim=128),
    Case("equal logits", (100, 1, 640), values="equal"),
    Case("large logits", (100, 33), values="large"),
    Case("the maximum is the first key", (700,), values="first"),
    Case("the maximum is the last key", (700,), values="last"))
PREFILL: Tuple[Case, ...] = (
    Case("a prompt", (100,), (100,), causal=True),
    Case("without a mask", (100,), (100,)),
    Case("a chunk of a prompt", (300, 40), (17, 40), causal=True),
    Case("decode among prompts", (100, 33, 1), (1, 33, 1), causal=True),
    Case("nobody and nothing", (0, 20, 16), (3, 0, 1), causal=True),
    Case("more queries than keys", (5, 130), (9, 200), causal=True),
    Case("pages of one token", (33, 70), (33, 3), page_size=1, causal=True),
    Case("group 7", (70,), (20,), heads=(7, 1), causal=True),
    Case("head_dim 128", (200,), (64,), head_dim=128, causal=True),
    Case("large logits", (100,), (30,), causal=True, values="large"),
    Case("the maximum is the last key", (300,), (40,), values="last"))


class Row(NamedTuple):
    """What a case gave: ok, wrong, undecided (no answer could be wrong), skipped or failed, and why."""
    case: Case
    verdict: str
    error: float = 0.0
    tolerance: float = 0.0
    why: str = ""


class Report(NamedTuple):
    """All rows; str() is a table."""
    rows: Tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Nothing is wrong, and something was compared."""
        return all(r.verdict in ("ok", "skipped") for r in self.rows) and any(r.verdict == "ok" for r in self.rows)

    def __str__(self) -> str:
        width = max(len(r.case.name) for r in self.rows)
        lines = [f"{r.case.name:{width}}  {r.verdict:9}  " +
                 (r.why or f"off by {r.error:.2e}, tolerance {r.tolerance:.2e}") for r in self.rows]
        counts = {v: sum(r.verdict == v for r in self.rows) for v in ("ok", "wrong", "failed", "undecided", "skipped")}
        return "\n".join(lines + [", ".join(f"{n} {v}" for v, n in counts.items() if n)])


class Drawn(NamedTuple):
    """A case's arrays, numpy's."""
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    qo_indptr: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    last_page_len: np.ndarray
    sm_scale: float


def draw(case: Case, dtype: str = "float16", seed: int = 0) -> Drawn:
    """Values, pages in a random order, and NaN in everything that no request owns."""
    rng = np.random.default_rng(seed)
    counts = [-(-n // case.page_size) for n in case.kv_lens]
    indptr = np.cumsum([0, *counts]).astype(np.int32)
    total = int(indptr[-1]) + 2
    indices = rng.permutation(total)[:indptr[-1]].astype(np.int32)
    last = np.array([n - (c - 1) * case.page_size if c else 0 for n, c in zip(case.kv_lens, counts)], np.int32)
    qo = np.cumsum([0, *(case.qo_lens or [1] * len(case.kv_lens))]).astype(np.int32)
    q = rng.standard_normal((int(qo[-1]), case.heads[0], case.head_dim))
    k = np.full((total, case.page_size, case.heads[1], case.head_dim), np.nan)
    v = k.copy()
    for b, length in enumerate(case.kv_lens):
        keys = rng.standard_normal((length, *k.shape[2:]))
        if case.values == "equal":
            keys[:] = keys[:1]
        elif case.values == "large":
            keys *= 40
        elif case.values in ("first", "last") and length:
            group = case.heads[0] // case.heads[1]
            keys[0 if case.values == "first" else -1] = 4 * q[qo[b + 1] - 1].reshape(case.heads[1], group, -1).mean(1)
        for t in range(length):
            page, entry = indices[indptr[b] + t // case.page_size], t % case.page_size
            k[page, entry] = keys[t]
            v[page, entry] = rng.standard_normal(v.shape[2:])
    if case.values == "large":
        q *= 10
    return Drawn(_rounded(q, dtype), _rounded(k, dtype), _rounded(v, dtype), qo, indptr, indices, last, case.head_dim ** -0.5)


def _rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """x as the dtype has it; bfloat16 in float32, whose lower bits are zero."""
    if dtype != "bfloat16":
        return x.astype(dtype)
    bits = x.astype(np.float32).view(np.uint32)
    return np.where(np.isnan(x), np.float32(np.nan), ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32))


def _maker(device: str, dtype: str) -> Callable[[np.ndarray], Any]:
    """numpy's arrays as torch tensors on a device where torch is imported, else as they are."""
    torch = sys.modules.get("torch")
    if torch is None:
        if device != "cpu" or dtype == "bfloat16":
            raise ValueError(f"device = {device}, dtype = {dtype}: needs torch, which is not imported")
        return lambda x: x
    typed = getattr(torch, dtype)
    return lambda x: torch.from_numpy(x).to(device) if x.dtype.kind == "i" else torch.from_numpy(x).to(typed).to(device)


def _judged(case: Case, drawn: Drawn, dtype: str, result: Any) -> Row:
    o, lse = result if isinstance(result, (tuple, list)) else (result, None)
    pages = oracle.Pages(drawn.indptr, drawn.indices, drawn.last_page_len, case.page_size)
    want = oracle.batch_attention(drawn.q, (drawn.k, drawn.v), pages, drawn.qo_indptr, oracle.Logits(causal=case.causal))
    of_o, of_lse = oracle.tolerances(dtype, drawn.v, drawn.q)
    most_k, most_v = (float(np.nanmax(np.abs(x), initial=0.0)) for x in (drawn.k, drawn.v))
    of_lse *= max(most_k / max(most_v, 1e-9), 1.0)
    have = oracle.f64(o)
    if have.shape != want[0].shape:
        return Row(case, "wrong", why=f"o has the shape {list(have.shape)}, not {list(want[0].shape)}")
    error = float(np.max(np.abs(have - want[0]), initial=0.0))
    if not error <= of_o:
        return Row(case, "wrong", error, of_o)
    if lse is not None:
        have, same = oracle.f64(lse), np.isneginf(want[1])
        if have.shape != want[1].shape or not np.array_equal(np.isneginf(have), same):
            return Row(case, "wrong", why="lse: of another shape, or -inf at other places")
        off = float(np.max(np.abs(have[~same] - want[1][~same]), initial=0.0))
        if not off <= of_lse:
            return Row(case, "wrong", off, of_lse, f"lse is off by {off:.2e}, tolerance {of_lse:.2e} (base 2?)")
    decides = np.nanmax(np.abs(drawn.v), initial=0.0) > 4 * of_o and drawn.q.size
    return Row(case, "ok" if decides else "undecided", error, of_o)


def _progress(cases: Sequence[Case]):
    if len(cases) > 3 and sys.stderr.isatty():
        try:
            from tqdm import tqdm
            return tqdm(cases, unit="case", leave=False)
        except ImportError:
            pass
    return cases


def _verify(call: Callable[..., Any], cases: Sequence[Case], device: str, dtype: str, seed: int,
            supports: Callable[[Case], Any]) -> Report:
    make = _maker(device, dtype)
    rows: List[Row] = []
    for case in _progress(cases):
        said = supports(case)
        if said is not True:
            rows.append(Row(case, "skipped", why=str(said)))
            continue
        drawn = draw(case, dtype, seed)
        try:
            rows.append(_judged(case, drawn, dtype, call(case, *(make(x) for x in drawn[:-1]), drawn.sm_scale)))
        except Exception as error:  # a kernel may fail in any way, and the others are still to be judged
            rows.append(Row(case, "failed", why=f"{type(error).__name__}: {error}"))
    return Report(tuple(rows))


def decode(kernel: Callable[..., Any], device: str = "cpu", dtype: str = "float16", cases: Sequence[Case] = DECODE,
           seed: int = 0, supports: Callable[[Case], Any] = lambda case: True) -> Report:
    """Judges a decode kernel. supports(case) is True, or the reason why the kernel does not compute it."""
    return _verify(lambda case, q, k, v, qo, *rest: kernel(q, k, v, *rest), cases, device, dtype, seed, supports)


def prefill(kernel: Callable[..., Any], device: str = "cpu", dtype: str = "float16", cases: Sequence[Case] = PREFILL,
            seed: int = 0, supports: Callable[[Case], Any] = lambda case: True) -> Report:
    """Judges a prefill kernel."""
    return _verify(lambda case, *rest: kernel(*rest, case.causal), cases, device, dtype, seed, supports)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flashladder.verify", description="Judges a kernel against float64.")
    parser.add_argument("kernel", help="my_file.py:function")
    parser.add_argument("--kind", choices=("decode", "prefill"), default="decode")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    file, _, name = said.kernel.partition(":")
    spec = importlib.util.spec_from_file_location("kernel", file)
    if spec is None or spec.loader is None or not name:
        parser.error(f"{said.kernel} is no file.py:function")
    if not os.path.isfile(file):
        parser.error(f"there is no file {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernel = getattr(module, name, None)
    if not callable(kernel):
        parser.error(f"{file} has no function {name}")
    judge = decode if said.kind == "decode" else prefill
    try:
        report = judge(kernel, said.device, said.dtype, seed=said.seed)
    except ValueError as error:  # of the device or the dtype; what a kernel raises is in the report
        parser.error(str(error))
    print(report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
