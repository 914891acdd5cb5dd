#!/usr/bin/env python3
"""How far torch's flash and cuDNN backends are from double, on the very data on which `flashladder bench prefill` is.

  prefill_error.py [CASE...] [--jsonl FILE]      default: the cases below whose requests have as many queries as keys
  prefill_error.py --selftest

q, k, v, the pages' order and the sampled rows come from seeds (bench/prefill_inputs.hpp): they are made anew here. A line
has the case, the backend and, over all features of 160 sampled rows and heads, max_error, the largest |o - double|, and
rms_error, the root of the mean square: what our lines of family prefill have as well. Double is computed from the 16-bit
numbers that the programs read; o is rounded to 16 bits by each of them. prefill_table.py makes a table of both.
"""
import argparse, json, re, struct, sys

MASK, STEP = (1 << 64) - 1, 0x9e3779b97f4a7c15
Q_SEED, K_SEED, V_SEED, DRAWN, ROWS = 1, 2, 3, 3 << 20, 160
CASES = ["B2 S8192 32/8 p16 causal", "B2 S8192 32/8 p16 causal bf16", "B4 S2048 32/8 p16 causal",
         "B4 S2048 32/8 p16 causal bf16", "B2 S8192 32/8 causal contiguous", "B4 S2048 32/8 causal contiguous",
         "B2 S8192 32/8 full contiguous", "B4 S2048 32/8 full contiguous", "B1 S16384 32/32 d64 causal contiguous",
         "B1 S16384 32/32 d64 full contiguous", "B1 S16384 8/8 d256 causal contiguous",
         "B1 S16384 8/8 d256 full contiguous", "B1 S8192 32/32 d192/128 causal contiguous",
         "B1 S8192 32/32 d192/128 full contiguous"]


def mix(z):
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9 & MASK
    z = (z ^ z >> 27) * 0x94d049bb133111eb & MASK
    return z ^ z >> 31


class Random:
    """ladder/cases/drawn/random.hpp, number for number."""

    def __init__(self, seed, stream=0):
        self.state = mix(mix(seed) + stream & MASK)

    def next(self):
        self.state = self.state + STEP & MASK
        return mix(self.state)

    def below(self, n):
        return (self.next() >> 32) * n >> 32

    def normal(self):
        total = sum(bits >> shift & 0xffff for bits in (self.next(), self.next()) for shift in (0, 16, 32, 48))
        return (total - 4 * 65535) * (1 / 53509.919921450079)


def bits_of(x, bf16):
    """Rounded to float, then to 16 bits, as the C++ does."""
    single, = struct.unpack("<I", struct.pack("<f", x))
    if bf16:
        return (single + 0x7fff + (single >> 16 & 1)) >> 16
    return struct.unpack("<H", struct.pack("<e", struct.unpack("<f", struct.pack("<f", x))[0]))[0]


def elements(torch, count, seed, dtype, device):
    """The same numbers, all at once: element n is made of the numbers 2 n + 1 and 2 n + 2 of the stream."""
    signed = lambda x: x - (1 << 64) if x >> 63 else x
    shift = lambda z, by: z >> by & (1 << 64 - by) - 1  # a logical one

    def mixed(z):
        z = (z ^ shift(z, 30)) * signed(0xbf58476d1ce4e5b9)
        z = (z ^ shift(z, 27)) * signed(0x94d049bb133111eb)
        return z ^ shift(z, 31)

    drawn = min(count, DRAWN)
    step = torch.arange(1, 2 * drawn + 1, dtype=torch.int64, device=device)
    bits = mixed(step * signed(STEP) + signed(Random(seed).state)).view(drawn, 2)
    total = sum(shift(bits, by) & 0xffff for by in (0, 16, 32, 48)).sum(1)
    values = ((total - 4 * 65535).double() * (1 / 53509.919921450079)).float().to(dtype)
    return values.repeat(-(-count // drawn))[:count]


def shuffled_pages(pages):
    ids, random = list(range(pages)), Random(7)
    for i in range(pages, 1, -1):
        j = random.below(i)
        ids[i - 1], ids[j] = ids[j], ids[i - 1]
    return ids


def sampled_row(n, qo_lens, heads):
    random = Random(11, n)
    b = random.below(len(qo_lens))
    queries = qo_lens[b]
    query = 0 if n % 8 == 0 else queries - 1 if n % 8 == 1 else random.below(queries)
    return b, query, random.below(heads)


def parse(case):
    form = r"B(\d+) S(\d+) (\d+)/(\d+)(?: d(\d+)(?:/(\d+))?)?(?: p(\d+))? (causal|full)(?: contiguous)?( bf16)?"
    found = re.fullmatch(form, case)
    if not found:
        sys.exit(f"{case!r}: is no prefill of as many queries as keys, such as 'B2 S8192 32/8 p16 causal'")
    batch, length, heads, kv_heads, dim, dim_vo, page = (int(x) if x else None for x in found.groups()[:7])
    dim = dim or 128
    return batch, length, heads, kv_heads, dim, dim_vo or dim, page, found[8] == "causal", bool(found[9])


def tensors(torch, case, device="cuda"):
    """q, k, v [batch, heads, length, dim], in the order of tokens wherever the pages lie."""
    batch, length, heads, kv_heads, dim, dim_vo, page, _, bf16 = parse(case)
    dtype = torch.bfloat16 if bf16 else torch.float16
    pages = batch * -(-length // (page or length))
    slots = pages * (page or length)

    def cache(seed, d):
        stored = elements(torch, slots * kv_heads * d, seed, dtype, device).view(pages, -1, kv_heads, d)
        if page:
            stored = stored[torch.tensor(shuffled_pages(pages), device=device)]
        return stored.reshape(batch, -1, kv_heads, d)[:, :length].transpose(1, 2).contiguous()

    q = elements(torch, batch * length * heads * dim, Q_SEED, dtype, device).view(batch, length, heads, dim)
    return q.transpose(1, 2).contiguous(), cache(K_SEED, dim), cache(V_SEED, dim_vo)


def exact_row(torch, q, k, v, at, causal):
    b, i, h = at
    kv_head, keys = h // (q.shape[1] // k.shape[1]), i + 1 if causal else k.shape[2]
    logits = k[b, kv_head, :keys].double() @ q[b, h, i].double() * q.shape[-1] ** -0.5
    return torch.softmax(logits, 0) @ v[b, kv_head, :keys].double()


def measure(case, report):
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel
    batch, length, heads, kv_heads, *_, causal, _ = parse(case)
    q, k, v = tensors(torch, case)
    rows = [sampled_row(n, [length] * batch, heads) for n in range(ROWS)]
    wanted = torch.stack([exact_row(torch, q, k, v, at, causal) for at in rows])
    for name, backend in (("torch flash", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)):
        try:
            with sdpa_kernel([backend]):
                o = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=heads != kv_heads)
        except Exception as e:  # a backend that does not take the case
            print(f"{case}, {name}: {str(e).splitlines()[0][:160]}", flush=True)
            continue
        off = torch.stack([o[b, h, i].double() for b, i, h in rows]) - wanted
        report(dict(family="error", case=case, backend=name, max_error=float(off.abs().max()),
                    rms_error=float(off.pow(2).mean().sqrt())))


def selftest():
    """The numbers of tests/bench_gpu.cpp, "a prefill's inputs are those that the peers' script makes"."""
    draw = lambda seed, bf16: (lambda r: [bits_of(r.normal(), bf16) for _ in range(4)])(Random(seed))
    assert draw(Q_SEED, False) == [46422, 15840, 15512, 48275], draw(Q_SEED, False)
    assert draw(V_SEED, True) == [15524, 48871, 15975, 49068], draw(V_SEED, True)
    assert shuffled_pages(8) == [0, 1, 4, 6, 2, 7, 3, 5], shuffled_pages(8)
    lens = [2048 + 100 * b for b in range(7)]
    rows = [sampled_row(n, lens, 32) for n in range(4)]
    assert rows == [(0, 0, 16), (4, 2447, 7), (2, 1956, 18), (1, 1760, 4)], rows
    assert parse("B1 S8192 32/32 d192/128 full contiguous") == (1, 8192, 32, 32, 192, 128, None, False, False)
    assert parse("B2 S8192 32/8 p16 causal bf16") == (2, 8192, 32, 8, 128, 128, 16, True, True)
    assert all(parse(case) for case in CASES)
    try:
        import torch
    except ImportError:
        return 0
    random = Random(K_SEED)
    wanted = [bits_of(random.normal(), False) for _ in range(1000)]
    made = elements(torch, 1000, K_SEED, torch.float16, "cpu").view(torch.int16)
    assert [x & 0xffff for x in made.tolist()] == wanted
    q, k, v = tensors(torch, "B2 S40 4/2 d64 p16 causal", "cpu")
    o = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True, enable_gqa=True)
    for at in ((0, 0, 0), (1, 39, 3), (1, 17, 2)):
        assert (exact_row(torch, q, k, v, at, True) - o[at[0], at[2], at[1]]).abs().max() < 1e-12
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--jsonl")
    parser.add_argument("--selftest", action="store_true")
    args = parser.parse_args()
    if args.selftest:
        return selftest()
    out = open(args.jsonl, "a", encoding="utf-8") if args.jsonl else None

    def report(line):
        print(json.dumps(line), flush=True)
        if out:
            out.write(json.dumps(line) + "\n")
            out.flush()

    for case in args.cases:
        measure(case, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
