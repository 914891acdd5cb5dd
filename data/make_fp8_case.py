"""A real attention problem with its cache in fp8: that of smollm2_decode.safetensors,
quantised with a scale for each KV head.

    python3 data/make_fp8_case.py       # writes data/smollm2_decode_fp8.safetensors

The scale of a head is its largest number over 448, the largest of F8_E4M3, so that none saturates. expected_o and
expected_lse_log2 are float64 attention of what the stored numbers stand for: quantising is no part of the error that a
kernel shows. What it does to the model's own answer is printed.
"""
import os
import numpy as np
from check_case import attention
from safetensors_numpy import e4m3_values, read_safetensors, write_safetensors

HERE = os.path.dirname(os.path.abspath(__file__))


def quantise(x):
    """The nearest pattern of F8_E4M3, of two the even one; beyond 448 the largest. x: finite."""
    values = e4m3_values()[:127].astype(float)  # the patterns that are not negative, ascending
    size = np.minimum(np.abs(x), values[-1])
    above = np.searchsorted(values, size)       # values[above - 1] < size <= values[above]
    below = np.maximum(above - 1, 0)
    up, down = values[above] - size, size - values[below]
    bits = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    return (bits | np.where(np.signbit(x), 128, 0)).astype(np.uint8)


def used_slots(t):
    """[pages, page_size]: does a request use the slot?"""
    used = np.zeros(t["k_cache"].shape[:2], bool)
    for b, last in enumerate(t["paged_kv_last_page_len"]):
        pages = t["paged_kv_indices"][t["paged_kv_indptr"][b]:t["paged_kv_indptr"][b + 1]]
        used[pages] = True
        used[pages[-1:], last:] = False
    return used


def main():
    t, _, meta = read_safetensors(os.path.join(HERE, "smollm2_decode.safetensors"))
    used, stored, values = used_slots(t), dict(t), dict(t)  # values: what is stored, as numbers
    for half in "kv":
        name, x = half + "_cache", t[half + "_cache"].astype(float)  # [pages, page_size, num_kv_heads, head_dim]
        scale = (np.abs(x[used]).max(axis=(0, 2)) / 448).astype(np.float32)
        bits = quantise(np.where(used[..., None, None], x, 0) / scale[:, None])
        stored[name] = np.where(used[..., None, None], bits, 0x7f).astype(np.uint8)  # NaN where nothing lies
        values[name] = e4m3_values()[stored[name]]
        stored[half + "_scale"] = values[half + "_scale"] = scale
    o, lse, _, _ = attention(values, meta)
    moved = np.abs(o - t["expected_o"]).max()
    print(f"quantising K and V moves o by at most {moved:.3g}; the largest is {np.abs(o).max():.3g}")
    stored |= {"expected_o": o, "expected_lse_log2": lse.reshape(t["expected_lse_log2"].shape)}
    notes = {"x-what": meta["x-what"] + "; K and V in fp8, with a scale for each KV head",
             "x-made-by": "data/make_fp8_case.py"}
    path = os.path.join(HERE, "smollm2_decode_fp8.safetensors")
    write_safetensors(path, stored, meta | notes, fp8=("k_cache", "v_cache"))


if __name__ == "__main__":
    main()
