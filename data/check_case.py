"""Check an answer with numpy: how far is it from float64 attention computed from the case itself?

    check_case.py CASE ANSWER    the tensors o and lse_log2 of ANSWER, as `flashladder run --out` writes them
    check_case.py CASE           the case's own expected_o and expected_lse_log2
    check_case.py --make CASE    writes a small random case: how a numpy user makes one

Exit code: 0 good, 1 mismatch, 2 not checked here (RoPE and ALiBi inside attention are left to the C++ rungs).
The tolerance is derived. In fp32 (unit roundoff u) a sum of N terms errs like sqrt(N) u; a logit is such a sum, of size
sum|q k|, and its error is its weight's relative error; numerator and denominator err: 2 sqrt(N) (1 + sum|q k|) u with
N = max(head_dim, kv_len). P and o in a smaller type add its u twice. All times max|v| for o, over ln 2 for lse_log2.
"""
import argparse
import numpy as np
from safetensors_numpy import read_safetensors, write_safetensors
UNIT = {"F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}

def make(path):
    rng = np.random.default_rng(7)
    write_safetensors(path, {
        "q": rng.standard_normal((4, 6, 32)).astype(np.float16),               # [queries, qo heads, head_dim]
        "kv_cache": rng.standard_normal((8, 2, 4, 2, 32)).astype(np.float16),  # [pages, K/V, page_size, kv heads, d]
        "qo_indptr": np.array([0, 3, 4], np.int32),                            # 3 queries, then 1
        "paged_kv_indptr": np.array([0, 2, 5], np.int32),                      # on 2 pages, and on 3
        "paged_kv_indices": np.array([6, 1, 3, 7, 0], np.int32),               # which are these
        "paged_kv_last_page_len": np.array([1, 4], np.int32),                  # so 5 keys, and 12
    }, {"causal": "1", "x-note": "random"})

def attention(t, meta):
    """-> o, lse_log2, error bound in units of u, max|v|: [nnz_qo, heads, head_dim] and [nnz_qo, heads, 1], float64"""
    k, v = (t["k_cache"], t["v_cache"]) if "k_cache" in t else (t["kv_cache"][:, 0], t["kv_cache"][:, 1])
    k, v = (x.swapaxes(1, 2) if meta.get("kv_layout") == "HND" else x for x in (k, v))
    # A stored k stands for k * k_scale: a number, or one of each KV head.
    k, v = (x * np.broadcast_to(t.get(name, np.float64(meta.get(name, 1))), x.shape[2])[:, None]
            for x, name in ((k, "k_scale"), (v, "v_scale")))
    (_, heads, d), page_size = t["q"].shape, k.shape[1]
    scale, cap = float(meta.get("sm_scale", d**-0.5)), float(meta.get("logits_soft_cap", 0))
    window, causal = int(meta.get("window_left", -1)), int(meta.get("causal", 0))
    sink = t.get("sinks", np.full(heads, -np.inf)).astype(float)[:, None, None]
    requests, mask_at = [], 0
    for b, (start, end) in enumerate(zip(t["qo_indptr"], t["qo_indptr"][1:])):
        pages = t["paged_kv_indices"][t["paged_kv_indptr"][b]:t["paged_kv_indptr"][b + 1]]
        n, m = end - start, max(len(pages) - 1, 0) * page_size + t["paged_kv_last_page_len"][b]
        tokens = t["q"][start:end], *(x[pages].reshape(-1, *x.shape[2:])[:m] for x in (k, v))
        qh, kh, vh = (np.repeat(x.astype(float), heads // x.shape[1], axis=1).swapaxes(0, 1) for x in tokens)
        behind = np.arange(n)[:, None] + m - n - np.arange(m)  # how far key j lies behind query i
        visible = (behind >= 0) | (not causal)
        if "custom_mask" in t:  # replaces causal; the window still applies
            visible, mask_at = t["custom_mask"][mask_at:mask_at + n * m].reshape(n, m) != 0, mask_at + n * m
        s = scale * (qh @ kh.swapaxes(1, 2))
        s = np.where(visible & ((behind <= window) | (window < 0)), cap * np.tanh(s / cap) if cap else s, -np.inf)
        top = np.maximum(s.max(axis=2, keepdims=True, initial=-np.inf), sink)
        top[top == -np.inf] = 0  # a row that sees nothing has total = 0: o = 0, lse = -inf
        p = np.exp(s - top)
        total = p.sum(axis=2, keepdims=True) + np.exp(sink - top)
        size = (scale * (abs(qh) @ abs(kh).swapaxes(1, 2))).max(axis=2, keepdims=True, initial=0)
        err = 2 * max(d, m)**0.5 * (1 + np.maximum(size, abs(top)))
        requests.append((p @ vh / np.where(total > 0, total, 1), (top + np.log(total)) / np.log(2), err,
                         np.full_like(err, abs(vh).max(initial=0))))
    return [np.concatenate(x, axis=1).swapaxes(0, 1) for x in zip(*requests)]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", action="store_true", help="write CASE")
    parser.add_argument("--unit", choices=UNIT, help="what the kernel rounds P to, if not its output's type")
    parser.add_argument("case")
    parser.add_argument("answer", nargs="?")
    args = parser.parse_args()
    if args.make:
        parser.exit(make(args.case))
    t, _, meta = read_safetensors(args.case)
    got, dtypes, _ = read_safetensors(args.answer or args.case)
    names, shares = (("o", "lse_log2") if args.answer else ("expected_o", "expected_lse_log2")), []
    if meta.get("pos_encoding_mode", "NONE") != "NONE" or not set(names) <= set(got):
        parser.error(f"needs tensors {names} and pos_encoding_mode NONE")
    np.seterr(divide="ignore", invalid="ignore")  # log(0) and inf - inf, of rows that see nothing
    o, lse, err, v_max = attention(t, meta)
    for name, want, size in zip(names, (o, lse), (v_max, 1 / np.log(2))):
        u, mine = UNIT[args.unit or dtypes[name]], got[name].reshape(want.shape)
        error = np.where(mine == want, 0, abs(mine - want))  # -inf twice: no error
        tolerance = size * (err * min(u, UNIT["F32"]) + 2 * u)
        shares.append((error / np.maximum(tolerance, 1e-300)).max())
        print(f"{name}: worst error {error.max():.2e}, error / tolerance <= {shares[-1]:.2g}")
    parser.exit(0 if all(share <= 1 for share in shares) else 1)  # NaN is a mismatch
