"""A case's tensors on the GPU, random and with shuffled pages, in every form in which a peer wants them; and the check of
what a peer computed, which comes before its time."""
import functools
import torch

ROWS = 48  # sampled rows and heads
ROUNDINGS = 16  # of the dtype: how far a sampled row may be from double, relative to its own size


def indptr(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).int()


class Work:
    """q [nnz_qo, num_qo_heads, head_dim]; k and v [pages, page_size, num_kv_heads, head_dim], two halves of `kv` where the
    head dims are equal; of a contiguous case [tokens, num_kv_heads, head_dim]."""

    def __init__(self, case, device="cuda"):
        self.case, self.device = case, device
        self.dtype = {"f16": torch.float16, "bf16": torch.bfloat16}[case.dtype]
        torch.manual_seed(1)
        rand = lambda *shape: torch.randn(*shape, device=device, dtype=self.dtype)
        self.q = rand(sum(case.qo_lens), case.num_qo_heads, case.head_dim_qk)
        self.pages = [-(-n // max(1, case.page_size)) for n in case.kv_lens]
        slots = [sum(self.pages)] + ([] if case.contiguous else [case.page_size])
        dims = case.head_dim_qk, case.head_dim_vo
        if case.contiguous or dims[0] != dims[1]:
            self.k, self.v = (rand(*slots, case.num_kv_heads, dim) for dim in dims)
            self.kv = self.k, self.v
        else:
            self.kv = rand(slots[0], 2, slots[1], case.num_kv_heads, dims[0])
            self.k, self.v = self.kv[:, 0], self.kv[:, 1]
        ids = torch.arange(slots[0]) if case.contiguous else torch.randperm(slots[0])
        self.page_ids = ids.int().to(device)
        self.page_indptr, self.qo_indptr, self.kv_indptr = indptr(self.pages), indptr(case.qo_lens), indptr(case.kv_lens)
        self.last_page_len = torch.tensor([n - (p - 1) * max(1, case.page_size) for n, p in zip(case.kv_lens, self.pages)],
                                          dtype=torch.int32)
        self.kv_lens = torch.tensor(case.kv_lens, dtype=torch.int32, device=device)
        self.cu_q, self.cu_k = self.qo_indptr.to(device), self.kv_indptr.to(device)
        self.max_q, self.max_k = max(case.qo_lens), max(case.kv_lens)

    @functools.cached_property
    def block_table(self):
        """[batch, max_pages], zeros behind a request's pages"""
        table = torch.zeros(len(self.pages), max(self.pages), dtype=torch.int32, device=self.device)
        for b, count in enumerate(self.pages):
            table[b, :count] = self.page_ids[self.page_indptr[b]:self.page_indptr[b] + count]
        return table

    def tokens(self, cache, b, head):
        """[kv_len, head_dim] of a request and KV head, in the order of tokens"""
        ids = self.page_ids[self.page_indptr[b]:self.page_indptr[b + 1]].long()
        rows = cache[ids, head] if self.case.contiguous else cache[ids, :, head].flatten(0, 1)
        return rows[:self.case.kv_lens[b]]

    def exact_row(self, b, i, head):
        """[head_dim_vo], in double"""
        case = self.case
        first, end = case.visible(b, i)
        kv_head = head // (case.num_qo_heads // case.num_kv_heads)
        keys, values = (self.tokens(x, b, kv_head)[first:end].double() for x in (self.k, self.v))
        logits = keys @ self.q[self.qo_indptr[b] + i, head].double() * case.sm_scale
        if case.logits_soft_cap > 0:
            logits = case.logits_soft_cap * torch.tanh(logits / case.logits_soft_cap)
        return torch.softmax(logits, 0) @ values

    @functools.cached_property
    def wanted(self):
        return [(row, self.exact_row(*row)) for row in self.case.sampled_rows(ROWS)]

    def wrong(self, o):
        """What is wrong with a peer's o [nnz_qo, num_qo_heads, head_dim_vo], or None."""
        shape = (self.q.shape[0], self.case.num_qo_heads, self.case.head_dim_vo)
        if tuple(o.shape) != shape:
            return f"o has shape {list(o.shape)}, not {list(shape)}"
        most = ROUNDINGS * torch.finfo(self.dtype).eps / 2
        for (b, i, head), want in self.wanted:
            off = ((o[self.qo_indptr[b] + i, head].double() - want).norm() / want.norm()).item()
            if not off <= most:  # NaN too
                return f"o of request {b} query {i} head {head} is off by {off:.2g} of its size, more than {most:.2g}"
        return None
