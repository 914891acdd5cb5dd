"""torch's scaled_dot_product_attention on each of its backends. It takes no pages: paged cases are measured without them."""
from peer import Peer

MOST_SCORES = 16 << 30  # bytes; the math backend keeps all scores, in float


class TorchSdpa(Peer):
    get = "pip install torch, built for CUDA"
    module, contiguous = "torch", True

    def __init__(self, name, backend):
        self.name, self.backend = name, backend

    def refuses(self, case):
        if not case.contiguous:
            return "it takes no pages"
        if not case.one_length:
            return "it takes requests of one length"
        if case.window_left >= 0 or case.logits_soft_cap > 0:
            return "it takes no window and no soft cap"
        if case.causal and not case.decode and case.qo_lens != case.kv_lens:
            return "its causal mask is aligned at the other corner where there are more keys than queries"
        scores = 4 * sum(q * k for q, k in zip(case.qo_lens, case.kv_lens)) * case.num_qo_heads
        return f"all scores would take {scores >> 30} GiB" if self.backend == "math" and scores > MOST_SCORES else None

    def prepare(self, work):
        import torch
        case, batch = work.case, len(work.case.qo_lens)
        for backend, enable in {"flash": torch.backends.cuda.enable_flash_sdp, "math": torch.backends.cuda.enable_math_sdp,
                                "efficient": torch.backends.cuda.enable_mem_efficient_sdp,
                                "cudnn": torch.backends.cuda.enable_cudnn_sdp}.items():
            enable(backend == self.backend)  # until the next peer: a context around each call would take longer than it
        q, k, v = (x.view(batch, -1, *x.shape[1:]).transpose(1, 2) for x in (work.q, work.k, work.v))
        options = dict(is_causal=case.causal and not case.decode, scale=case.sm_scale,
                       enable_gqa=case.num_qo_heads != case.num_kv_heads)
        attend = torch.nn.functional.scaled_dot_product_attention
        return lambda: attend(q, k, v, **options)

    def rows(self, o):
        return o.transpose(1, 2).flatten(0, 1)  # of [batch, heads, qo_len, head_dim]


PEERS = [TorchSdpa("torch flash", "flash"), TorchSdpa("cuDNN", "cudnn"), TorchSdpa("torch efficient", "efficient"),
         TorchSdpa("torch math", "math")]
