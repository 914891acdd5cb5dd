"""The GPU's clock for the peers, as bench/gpu/timer.hpp has it for us: the L2 flushed by reading, events, the median."""
import time
import torch


class Clock:
    """Events around a call: 20 samples at once, the first 20 a warm-up, then 40 to 400 in at least 0.3 s."""

    def __init__(self):
        self.cache = torch.ones(64 << 20, device="cuda")  # 256 MB, read before each sample
        self.events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(20)]

    def median_us(self, call):
        call()
        torch.cuda.synchronize()
        samples, begin = [], time.monotonic()
        while len(samples) < 400 and (len(samples) < 40 or time.monotonic() - begin < 0.3):
            for before, after in self.events:
                self.cache.sum()
                before.record()
                call()
                after.record()
            torch.cuda.synchronize()
            samples += [1e3 * before.elapsed_time(after) for before, after in self.events]
        samples = sorted(samples[20:])
        return samples[len(samples) // 2]

    def graph_us(self, calls):
        for call in calls:
            call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        return self.median_us(graph.replay) / len(calls)
