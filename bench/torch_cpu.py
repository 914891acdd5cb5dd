#!/usr/bin/env python3
"""torch's CPU scaled_dot_product_attention on the two shapes that FlashLadder's C4 is compared with (needs torch, numpy).

  torch_cpu.py [--threads N] [--rounds N] [--jsonl FILE]

fp32, random data, contiguous tensors (torch has no pages), the same work: prefill B1 S2048 32/8 d128 causal, and decode
B32 kv2048 32/8. Torch is given every way in which its users write GQA, and each is a line of its own: enable_gqa, K and V
repeated beforehand (outside of the timing), and for decode the group folded into the query length, which reads K and V once.
The median of several runs, as `flashladder bench` takes it; every way is checked against a float64 softmax first.
"""
import argparse, json, statistics, time
import torch
import torch.nn.functional as F

H, HK, D = 32, 8, 128


def ways(batch, qo, kv, causal):
    """name -> a call that returns o as [batch, H, qo, D]; and q, k, v."""
    torch.manual_seed(1)
    q = torch.randn(batch, H, qo, D)
    k, v = torch.randn(batch, HK, kv, D), torch.randn(batch, HK, kv, D)
    repeated = [t.repeat_interleave(H // HK, 1).contiguous() for t in (k, v)]
    calls = {"enable_gqa": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True),
             "repeated K/V": lambda: F.scaled_dot_product_attention(q, *repeated, is_causal=causal)}
    if qo == 1:
        folded = q.view(batch, HK, H // HK, D)
        calls["folded group"] = lambda: F.scaled_dot_product_attention(folded, k, v).view(batch, H, 1, D)
    return calls, (q, *repeated)


def oracle(q, k, v, causal, head):
    s = q[:, head].double() @ k[:, head].double().transpose(-1, -2) * D ** -0.5
    if causal:
        s = s.masked_fill(torch.ones_like(s, dtype=torch.bool).triu(1), float("-inf"))
    return s.softmax(-1) @ v[:, head].double()


def median_ms(call, rounds):
    call()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--jsonl")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lines = []
    for case, batch, qo, kv, causal in [("prefill B1 S2048 32/8 d128 causal f32", 1, 2048, 2048, True),
                                        ("decode B32 kv2048 32/8 d128 f32", 32, 1, 2048, False)]:
        calls, (q, k, v) = ways(batch, qo, kv, causal)
        pairs = batch * H * (qo * (qo + 1) // 2 if causal else qo * kv)
        for name, call in calls.items():
            error = max((call()[:, h].double() - oracle(q, k, v, causal, h)).abs().max().item() for h in (0, H - 1))
            assert error < 1e-4, (case, name, error)
            ms = median_ms(call, args.rounds)
            lines.append(dict(family="cpu", case=case, backend=f"torch {torch.__version__} {name}", us=round(ms * 1e3, 1),
                              TBps=round(2 * batch * HK * kv * D * 4 / ms / 1e9, 4) if qo == 1 else None,
                              TFLOPs=round(4 * pairs * D / ms / 1e9, 4), threads=args.threads))
            print(json.dumps(lines[-1]), flush=True)
    if args.jsonl:
        with open(args.jsonl, "a") as f:
            f.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    main()
