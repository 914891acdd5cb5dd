"""What FlashInfer's plan/run wrappers share: attention objects made and planned when something changes, and not before.

A wrapper keeps one attention object for what plan() said. Where run() says more (scales, sinks, another dtype, forward()'s
arguments), an object for that is made and planned with the same lengths, and kept until the next plan().

A CUDA graph replays the object whose run() was captured, and Python hears nothing of it. So a wrapper for graphs plans all its
objects in every plan(), and those of an earlier config stay where they are: planned again when that config is.
"""
from typing import Optional

from .. import _structs as s
from .. import torch_ops
from .._arrays import dtype_code, family_of, name_of_dtype
from .._library import InputError, refuse
from .._tensors import page_size_of
from ..attention import Attention, AttentionConfig, Limits
from ._fp8 import round_into, scaled_by_heads, wide_dtypes, widened
from ._hints import HINTS, layout_of, must_be, refuse_foreign

DTYPES = ("q_dtype", "kv_dtype", "o_dtype")


def positive(sm_scale):
    """An sm_scale as the config takes it."""
    return None if sm_scale is None else float(sm_scale)


class EarlierObjects:
    """What a wrapper made for earlier configs. A CUDA graph may replay it, so it lives, and is planned again when plan() says
    its config again. A wrapper that is for no graph keeps none."""

    def __init__(self, for_graphs):
        self._for_graphs, self._of = bool(for_graphs), {}

    def keep(self, said, objects):
        """objects: made for what was said; nothing if that is None."""
        if self._for_graphs and said is not None:
            self._of[said] = objects

    def take(self, said, make):
        return self._of.pop(said, None) or make()


class Wrapper:
    """Base of the batch wrappers. Subclasses say `_kind` and `_graph_kind`, and turn plan()'s arguments into a config."""
    _kind: int = s.PREFILL
    _graph_kind: Optional[int] = s.PREFILL

    def _start(self, float_workspace_buffer, kv_layout, use_cuda_graph, backend="auto", **hints):
        self._like, self._kv_layout = float_workspace_buffer, layout_of(kv_layout)
        self._family = family_of(float_workspace_buffer, "float_workspace_buffer")
        self._device = self._family.device(float_workspace_buffer)
        self._on_gpu = self._family.gpu(float_workspace_buffer)
        self._use_cuda_graph, self._backend = bool(use_cuda_graph), backend
        self._spare = max(int(float_workspace_buffer.shape[0]), 1 << 20)
        self._limits = None
        self._int_workspace_buffer = float_workspace_buffer[:0]
        self._hints = {"float_workspace_buffer": f"{self._spare} bytes"}
        self._note(backend=None if backend == "auto" else backend, **hints)
        self._said = self._attention = self._pending = self._page_ids = self._mask = None
        self._variants, self._plans, self._fp8_q, self._fp8_out = {}, 0, None, None
        self._earlier = EarlierObjects(use_cuda_graph)  # by what plan() said and the kind: (attention, variants)
        self._number = torch_ops.number_of(self)

    def _note(self, **hints):
        for name, value in hints.items():
            if value is not None and value is not False:
                self._hints[name] = value if isinstance(value, (int, float, str)) else "given"

    @property
    def is_cuda_graph_enabled(self):
        return self._use_cuda_graph

    def reset_workspace_buffer(self, float_workspace_buffer, int_workspace_buffer=None):
        """A hint: plans and partial results lie in memory of the wrapper's own."""
        if family_of(float_workspace_buffer).device(float_workspace_buffer) != self._device:
            refuse("float_workspace_buffer", "elsewhere", f"must lie on {self._device}")
        self._note(int_workspace_buffer=int_workspace_buffer)

    def prewarm_paged_kv_stride_variant(self, variant="independent"):
        """A hint: no code is compiled at run time."""
        if variant != "independent":
            raise ValueError(f"variant = {variant!r}: must be 'independent'")

    # --- plan ---------------------------------------------------------------------------------------------------------
    def _kernel(self):
        """The config's backend: of a prefill on the GPU what was asked for."""
        return self._backend if self._on_gpu and self._backend in ("fa2", "fa3") else "auto"

    def _policy(self, fixed_split_size, disable_split_kv, page_size):
        """(policy, chunk_size): how requests are cut."""
        if disable_split_kv:
            return "none", 0
        if fixed_split_size is not None and fixed_split_size > 0:
            return "fixed", -(-fixed_split_size * page_size // 64) * 64
        return "balanced", 0

    def _set_config(self, said, make_config, kind, limits=None):
        """The attention object of this plan(): the last one if `said` is what was said then."""
        if self._said != said or self._attention is None or self._attention.kind != kind:
            self._change_config(said, make_config, kind, limits)
        self._plans += 1
        self._current, self._q_dtype_seen = self._attention, None
        self._dim_vo = self._attention.config.head_dim_vo or self._attention.config.head_dim_qk
        return self._attention

    def _change_config(self, said, make_config, kind, limits):
        """Another object. What may have been captured stays."""
        if self._said is not None:
            self._earlier.keep((self._said, self._attention.kind), (self._attention, self._variants))
        self._said = None  # until all is well
        config = self._wide(make_config())
        self._attention, self._variants = self._earlier.take((said, kind), lambda: (self._make(kind, config, limits), {}))
        self._said = said

    def _plan_captured(self):
        """Behind the plan of a graph's object: the others with its lengths."""
        if not self._use_cuda_graph:
            return
        for config, (attention, _) in self._variants.items():
            attention.plan_like(self._attention)
            self._variants[config] = attention, self._plans

    def _wide(self, config):
        """The config of who computes: fp8 queries are widened, and an fp8 o is computed in f32."""
        codes = {name: None if getattr(config, name) is None else dtype_code(getattr(config, name), name) for name in DTYPES}
        self._asked = codes
        return config._replace(**self._computed_in(codes))

    def _computed_in(self, codes):
        """The dtypes of who computes what was asked for; and what is fp8 of it."""
        dtypes, self._fp8_q, self._fp8_out = wide_dtypes(*(codes[name] for name in DTYPES))
        return dtypes

    def _make(self, kind, config, limits):
        return Attention(kind, config, self._like, limits=limits, kv_layout=self._kv_layout, spare=self._spare)

    def _on_device(self, x):
        """int32 page ids where the kernels run."""
        owner = family_of(x, "page ids")
        if owner.device(x) != self._device and hasattr(self._family, "copy_to"):
            x = self._family.copy_to(x, self._device)
        return x

    # --- run ----------------------------------------------------------------------------------------------------------
    def _planned(self, kv):
        """The planned object; a plan() that left page_size open is carried out now."""
        if self._pending is not None:
            again, self._pending = self._pending, None
            again(page_size_of(kv, s.LAYOUTS[self._kv_layout]))
        if self._attention is None:
            raise InputError("run() must come after plan()")
        return self._current

    def _variant(self, **changes):
        """An object with these fields of the config in the place of the current one's, planned like it."""
        config = self._current.config._replace(**changes)
        if config == self._attention.config:
            return self._attention
        attention, planned = self._variants.get(config, (None, 0))
        if planned != self._plans:
            if attention is None:
                if len(self._variants) >= 8 and not self._use_cuda_graph:
                    self._variants.clear()
                attention = self._attention.again_with(config)
            else:
                attention.plan_like(self._attention)
            self._variants[config] = attention, self._plans
        return attention

    def _rebase(self, **changes):
        """The same, and plan() goes on with it: for what run() says anew in every call."""
        attention = self._current = self._variant(**changes)
        if attention is not self._attention:
            del self._variants[attention.config]
            self._variants[self._attention.config] = self._attention, self._plans
            self._attention = attention
        return attention

    def _scaled(self, attention, factor):
        """The object whose sm_scale is `factor` times that of the plan."""
        if factor == 1.0:
            return attention
        scale = attention.config.sm_scale
        return self._variant(sm_scale=factor * (attention.config.head_dim_qk ** -0.5 if scale is None else scale))

    def _with_dtypes(self, attention, q, kv):
        """(the object, q as it takes it). Where plan() said no dtypes, those of the arrays count; fp8 queries become wide."""
        family, planned, asked = self._family, attention.config, self._asked
        if self._open_dtypes:
            k = kv[0] if isinstance(kv, (tuple, list)) else kv
            have = {"q_dtype": family.code(q, "q"),
                    "kv_dtype": family.cache_code(k, "the k cache", dtype_code(planned.kv_dtype))}
            asked = {**asked, **{name: have[name] for name in self._open_dtypes}}
        changes = {name: value for name, value in self._computed_in(asked).items() if value != getattr(planned, name)}
        if changes:
            attention = self._rebase(**changes)
        self._q_dtype_seen = q.dtype if self._fp8_q is None else None
        return attention, q if self._fp8_q is None else widened(q, self._fp8_q, dtype_code(attention.config.q_dtype))

    def _by_heads(self, q, scales, others):
        """(q, q_scale, k_scale, v_scale) of run()'s scale_q, scale_k and scale_v, which fp8 queries have behind the cache:
        those of the logits that are arrays are multiplied into q."""
        if self._fp8_q is None or len(scales) != 3:
            refuse_foreign(args=scales)
        for name, value in zip(("q_scale", "k_scale", "v_scale"), others):
            must_be(name, value, None, "must be None beside scale_q, scale_k and scale_v")
        arrays = [x if hasattr(x, "shape") else None for x in scales[:2]]
        numbers = [None if hasattr(x, "shape") else x for x in scales[:2]]
        return scaled_by_heads(q, *arrays, self._current.config.num_kv_heads), *numbers, scales[2]

    def _run(self, attention, q, kv, out, lse, return_lse, *more):
        """run() of the object, into an fp8 o too: then it is computed in f32."""
        if self._fp8_out is None:
            return attention.run(q, kv, self._page_ids, out, lse, return_lse, *more)
        result = attention.run(q, kv, self._page_ids, None, lse, return_lse, *more)
        out = round_into(result[0] if return_lse else result, out, self._fp8_out)
        return (out, result[1]) if return_lse else out

    def _traced(self, q, kv, q_scale, k_scale, v_scale, sinks, out, lse, return_lse):
        """run() while torch.compile traces."""
        o_dtype = None if self._attention is None else self._attention.config.o_dtype
        if out is None and o_dtype is not None:
            code = dtype_code(o_dtype) if self._fp8_out is None else self._fp8_out
            out = self._family.empty((q.shape[0], q.shape[1], self._dim_vo), code, q.device)
        return torch_ops.traced_run(self._number, q, kv, self._dim_vo, q_scale, k_scale, v_scale, sinks, out, lse, return_lse)

    def _eager_run(self, q, kv, q_scale, k_scale, v_scale, sinks, **where):
        """run() of an op."""
        more = {} if sinks is None else {"sinks": sinks}
        arguments = (q, *kv) if self._kind in s.RAGGED else (q, kv)
        self.run(*arguments, q_scale=q_scale, k_scale=k_scale, v_scale=v_scale, **more, **where)

    def explain(self):
        """Who computes, why nobody faster, and what became of each hint that was given."""
        lines = [self._current.explain()] if self._attention is not None else ["Nothing is planned yet."]
        lines += [f"{name} = {value}: {HINTS[name]}." for name, value in self._hints.items() if name in HINTS]
        return "\n".join(lines)

    def end_forward(self):
        """Nothing to do; FlashInfer's old name."""


def config_of(num_qo_heads, num_kv_heads, head_dim, page_size, **more):
    """An AttentionConfig, with FlashInfer's Nones in place of defaults."""
    for name, default in (("rope_scale", 1.0), ("rope_theta", 1e4), ("logits_soft_cap", 0.0)):
        if more.get(name) is None:
            more[name] = default
    return AttentionConfig(int(num_qo_heads), int(num_kv_heads), int(head_dim), int(page_size), **more)


def dtypes_of(q_data_type, kv_data_type, o_data_type, data_type, default):
    """({q_dtype, kv_dtype, o_dtype}, names of those that nobody said)."""
    open_dtypes = set()
    kv = kv_data_type if kv_data_type is not None else data_type
    q = q_data_type if q_data_type is not None else data_type
    if q is None:
        open_dtypes.add("q_dtype")
    if kv is None:
        kv = q
        open_dtypes.add("kv_dtype")
    said = {"q_dtype": name_of_dtype(q if q is not None else default),
            "kv_dtype": name_of_dtype(kv if kv is not None else default)}
    if o_data_type is not None:
        said["o_dtype"] = name_of_dtype(o_data_type)
    if q is not None:  # kv follows a q that was said
        open_dtypes.discard("kv_dtype")
    return said, open_dtypes


def graph_limits(max_batch, max_pages, max_nnz_qo=0):
    return Limits(int(max_batch), int(max_pages), int(max_nnz_qo))
