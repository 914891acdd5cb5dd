#!/usr/bin/env python3
"""The peers' paged prefill in bf16: the first three rows of the prefill table, whose f16 is timed elsewhere.

  [FA3_DIR=DIR] prefill_bf16.py [--jsonl FILE]

FlashAttention-3 if FA3_DIR holds vLLM's _vllm_fa3_C.abi3.so; FlashInfer's fa3 and fa2 if it is installed. Events, L2 flushed
by reading before each sample, median; random data, shuffled pages, plans made before. Each output is compared with torch in
float32 on one request and head. Run it in turn with `flashladder bench prefill` (bench/peers/run.py says why).
"""
import argparse, json, os, sys

ROWS = [(2, 8192, 16), (4, 2048, 16), (2, 8192, 1)]  # requests, tokens of each, page size
HEADS, KV_HEADS, DIM = 32, 8, 128


def name(batch, length, page):
    return f"B{batch} S{length} {HEADS}/{KV_HEADS} p{page} causal bf16"


def flops(batch, length):
    return 4 * batch * HEADS * DIM * (length * (length + 1) // 2)  # of the visible pairs


class Work:
    """q, a shuffled paged cache, and the page table in both forms."""

    def __init__(self, torch, batch, length, page):
        self.torch, self.batch, self.length, self.page = torch, batch, length, page
        pages = length // page
        rand = lambda *shape: torch.randn(*shape, device="cuda", dtype=torch.bfloat16)
        self.q = rand(batch * length, HEADS, DIM)
        self.kv = rand(batch * pages, 2, page, KV_HEADS, DIM)
        self.table = torch.randperm(batch * pages, device="cuda").int().view(batch, pages)
        self.indptr = torch.arange(0, batch + 1, dtype=torch.int32) * pages
        self.cu_q = torch.arange(0, batch + 1, dtype=torch.int32, device="cuda") * length
        self.lens = torch.full((batch,), length, dtype=torch.int32, device="cuda")

    def check(self, o, who):
        b, h = self.batch - 1, HEADS - 1
        rows = slice(b * self.length, (b + 1) * self.length)
        k, v = (self.kv[self.table[b].long(), i, :, h * KV_HEADS // HEADS].reshape(-1, DIM).float() for i in (0, 1))
        wanted = self.torch.nn.functional.scaled_dot_product_attention(self.q[None, rows, h].float(), k[None], v[None],
                                                                       is_causal=True)[0]
        error = (o[rows, h].float() - wanted).abs().max().item()
        assert error < 0.05, (who, error)


def fa3(torch, work):
    if "FA3_DIR" not in os.environ:
        return None
    torch.ops.load_library(os.path.join(os.environ["FA3_DIR"], "_vllm_fa3_C.abi3.so"))
    k, v, n, length = work.kv[:, 0], work.kv[:, 1], None, work.length
    return lambda: torch.ops._vllm_fa3_C.fwd(
        work.q, k, v, n, n, n, n, work.cu_q, n, n, n, work.lens, length, length, work.table, n, n, n, n, n, n, n, n,
        DIM ** -0.5, True, -1, -1, 0.0, True, n, 0, n, 0, n, 1, 0, n)[0]


def flashinfer(torch, work, backend):
    try:
        import flashinfer as library
    except ImportError:
        return None
    wrapper = library.BatchPrefillWithPagedKVCacheWrapper(torch.zeros(512 << 20, dtype=torch.uint8, device="cuda"), "NHD",
                                                          backend=backend)
    last = torch.full((work.batch,), work.page, dtype=torch.int32)
    wrapper.plan(work.cu_q.cpu(), work.indptr, work.table.flatten(), last, HEADS, KV_HEADS, DIM, work.page, causal=True,
                 q_data_type=torch.bfloat16)
    return lambda: wrapper.run(work.q, work.kv)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jsonl")
    parser.add_argument("--list", action="store_true", help="only the case strings")
    args = parser.parse_args()
    if args.list:
        return print("\n".join(name(*row) for row in ROWS))
    import torch
    from clock import Clock
    clock, out = Clock(), open(args.jsonl, "a", encoding="utf-8") if args.jsonl else None
    for batch, length, page in ROWS:
        work = Work(torch, batch, length, page)
        for who, make in (("FA3", fa3), ("FlashInfer fa3", lambda t, w: flashinfer(t, w, "fa3")),
                          ("FlashInfer fa2", lambda t, w: flashinfer(t, w, "fa2"))):
            try:
                call = make(torch, work)
                if call is None:
                    continue
                work.check(call(), who)
                us = clock.median_us(call)
            except Exception as e:  # one peer that fails must not stop the others
                print(f"{name(batch, length, page)}, {who}: {str(e).splitlines()[0][:160]}", flush=True)
                continue
            line = json.dumps(dict(family="prefill", case=name(batch, length, page), backend=who, us=round(us, 2), TBps=None,
                                   TFLOPs=round(flops(batch, length) / us * 1e-6, 1)))
            print(line, flush=True)
            if out:
                out.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
