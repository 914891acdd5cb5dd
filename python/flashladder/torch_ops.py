"""torch's custom ops: how torch.compile sees what the library computes.

Eager calls go past torch's dispatcher. While torch.compile traces, the same functions and wrappers give ops of the namespace
`flashladder` instead, with kernels that compute and fakes that know shapes alone; so a model that calls them compiles in one
graph, and captures as CUDA graphs. Needs torch 2.4; with an older one, or with none, nothing is registered.
"""
import itertools
import sys
import weakref
from typing import Optional

_wrappers: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
_numbers = itertools.count(1)
_registered: dict = {}


def never():
    return False


is_tracing = never  # torch.compiler.is_compiling, once torch is there


def number_of(wrapper):
    """A number by which an op finds a wrapper: tensors and numbers are all that an op takes."""
    number = next(_numbers)
    _wrappers[number] = wrapper
    return number


def register(torch):
    """Registers the ops with this torch module, once."""
    global is_tracing
    if id(torch) in _registered or not hasattr(getattr(torch, "library", None), "custom_op"):
        return
    _registered[id(torch)] = True
    _register_runs(torch)
    _register_operations(torch)
    is_tracing = torch.compiler.is_compiling


def _define(torch, name, mutates, function):
    op = torch.library.custom_op(f"flashladder::{name}", function, mutates_args=mutates)
    op.register_fake(lambda *arguments, **names: None)  # every op writes into its arguments, and returns nothing


def _register_runs(torch):
    Tensor = torch.Tensor

    def kv(k, v):
        return k if v is None else (k, v)

    def wrapper_run(number: int, q: Tensor, k: Tensor, v: Optional[Tensor], out: Tensor, q_scale: float, k_scale: float,
                    v_scale: float, sinks: Optional[Tensor]) -> None:
        _wrappers[number]._eager_run(q, kv(k, v), q_scale, k_scale, v_scale, sinks, out=out)

    def wrapper_run_lse(number: int, q: Tensor, k: Tensor, v: Optional[Tensor], out: Tensor, lse: Tensor, q_scale: float,
                        k_scale: float, v_scale: float, sinks: Optional[Tensor]) -> None:
        _wrappers[number]._eager_run(q, kv(k, v), q_scale, k_scale, v_scale, sinks, out=out, lse=lse, return_lse=True)

    _define(torch, "wrapper_run", ("out",), wrapper_run)
    _define(torch, "wrapper_run_lse", ("out", "lse"), wrapper_run_lse)


def _register_operations(torch):
    from . import operations as eager, quantised
    Tensor = torch.Tensor

    def norm(name):
        def function(input: Tensor, weight: Tensor, out: Tensor, eps: float) -> None:
            getattr(eager, name)(input, weight, eps, out)
        _define(torch, name, ("out",), function)

    def fused(name):
        def function(input: Tensor, residual: Tensor, weight: Tensor, eps: float) -> None:
            getattr(eager, name)(input, residual, weight, eps)
        _define(torch, name, ("input", "residual"), function)

    def rmsnorm_quant(input: Tensor, weight: Tensor, out: Tensor, scale: float, stored: Optional[Tensor], eps: float,
                      out_dtype: Optional[str]) -> None:
        quantised.rmsnorm_quant(out, input, weight, scale if stored is None else stored, eps, out_dtype)

    def fused_add_rmsnorm_quant(input: Tensor, residual: Tensor, weight: Tensor, out: Tensor, scale: float,
                                stored: Optional[Tensor], eps: float, out_dtype: Optional[str]) -> None:
        quantised.fused_add_rmsnorm_quant(out, input, residual, weight, scale if stored is None else stored, eps, out_dtype)

    def layernorm_quant(input: Tensor, gamma: Tensor, beta: Tensor, out: Tensor, scale: float, stored: Optional[Tensor],
                        eps: float, out_dtype: Optional[str]) -> None:
        quantised.layernorm_quant(out, input, gamma, beta, scale if stored is None else stored, eps, out_dtype)

    def layernorm(input: Tensor, gamma: Tensor, beta: Tensor, out: Tensor, eps: float) -> None:
        out.copy_(eager.layernorm(input, gamma, beta, eps))

    def rope_pos_ids(q: Tensor, k: Tensor, pos_ids: Tensor, rotary_dim: int, interleave: bool, rope_scale: float,
                     rope_theta: float, low: float, high: float, old_context_len: int) -> None:
        eager.apply_rope_pos_ids_inplace(q, k, pos_ids, eager.rope(rotary_dim, interleave, rope_scale, rope_theta, low, high,
                                                                   old_context_len))

    def rope_table(q: Tensor, k: Tensor, positions: Tensor, cos_sin_cache: Tensor, is_neox: bool) -> None:
        eager.apply_rope_with_cos_sin_cache_inplace(q, k, positions, cos_sin_cache, is_neox)

    def append(append_key: Tensor, append_value: Tensor, batch_indices: Tensor, positions: Tensor, k_cache: Tensor,
               v_cache: Tensor, kv_indices: Tensor, kv_indptr: Tensor, kv_last_page_len: Tensor, kv_layout: str) -> None:
        eager.append_paged_kv_cache(append_key, append_value, batch_indices, positions, (k_cache, v_cache), kv_indices,
                                    kv_indptr, kv_last_page_len, kv_layout)

    def merge(v_a: Tensor, s_a: Tensor, v_b: Tensor, s_b: Tensor, v_out: Tensor, s_out: Tensor) -> None:
        v, s = eager.merge_state(v_a, s_a, v_b, s_b)
        v_out.copy_(v)
        s_out.copy_(s)

    for name in ("rmsnorm", "gemma_rmsnorm"):
        norm(name)
    for name in ("fused_add_rmsnorm", "gemma_fused_add_rmsnorm"):
        fused(name)
    _define(torch, "layernorm", ("out",), layernorm)
    _define(torch, "layernorm_quant", ("out",), layernorm_quant)
    _define(torch, "rmsnorm_quant", ("out",), rmsnorm_quant)
    _define(torch, "fused_add_rmsnorm_quant", ("out", "residual"), fused_add_rmsnorm_quant)
    _define(torch, "rope_pos_ids", ("q", "k"), rope_pos_ids)
    _define(torch, "rope_table", ("q", "k"), rope_table)
    _define(torch, "append", ("k_cache", "v_cache"), append)
    _define(torch, "merge", ("v_out", "s_out"), merge)


def op(name):
    """An op, while torch.compile traces."""
    return getattr(sys.modules["torch"].ops.flashladder, name)


def traced_run(number, q, kv, dim_vo, q_scale, k_scale, v_scale, sinks, out, lse, return_lse):
    """A wrapper's run() as an op: o, or (o, lse)."""
    torch = sys.modules["torch"]
    k, v = kv if isinstance(kv, (tuple, list)) else (kv, None)
    if out is None:
        out = torch.empty((q.shape[0], q.shape[1], dim_vo), dtype=q.dtype, device=q.device)
    scales = tuple(1.0 if x is None else float(x) for x in (q_scale, k_scale, v_scale))
    if not return_lse:
        op("wrapper_run")(number, q, k, v, out, *scales, sinks)
        return out
    if lse is None:
        lse = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
    op("wrapper_run_lse")(number, q, k, v, out, lse, *scales, sinks)
    return out, lse
