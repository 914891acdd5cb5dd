"""FlashInfer's flashinfer.norm. enable_pdl is a hint."""
from .. import operations as _operations
from .. import quantised as _quantised

__all__ = ["fused_add_rmsnorm", "fused_add_rmsnorm_quant", "gemma_fused_add_rmsnorm", "gemma_rmsnorm", "layernorm",
           "layernorm_quant", "rmsnorm", "rmsnorm_quant"]


def rmsnorm(input, weight, eps=1e-6, out=None, enable_pdl=None):
    """input / rms(input) * weight over the last dimension: input [n, d] or [n, heads, d], weight [d]."""
    return _operations.rmsnorm(input, weight, eps, out)


def rmsnorm_quant(out, input, weight, scale, eps=1e-6, enable_pdl=None, out_dtype=None):
    """out = rmsnorm(input) / scale in fp8: input [n, d], weight [d], out [n, d] of a float8 dtype, or uint8, whose fp8
    out_dtype says. scale: a number, or an array of one, which is read where it lies."""
    _quantised.rmsnorm_quant(out, input, weight, scale, eps, out_dtype)


def gemma_rmsnorm(input, weight, eps=1e-6, out=None, enable_pdl=None):
    """rmsnorm with 1 + weight in weight's place."""
    return _operations.gemma_rmsnorm(input, weight, eps, out)


def fused_add_rmsnorm(input, residual, weight, eps=1e-6, enable_pdl=None):
    """residual += input, then input = rmsnorm(residual), both in place; [n, d]."""
    _operations.fused_add_rmsnorm(input, residual, weight, eps)


def fused_add_rmsnorm_quant(out, input, residual, weight, scale, eps=1e-6, enable_pdl=None, out_dtype=None):
    """residual += input in place, then out = rmsnorm(residual) / scale as rmsnorm_quant writes it; input keeps its bits."""
    _quantised.fused_add_rmsnorm_quant(out, input, residual, weight, scale, eps, out_dtype)


def gemma_fused_add_rmsnorm(input, residual, weight, eps=1e-6, enable_pdl=None):
    """fused_add_rmsnorm with 1 + weight in weight's place."""
    _operations.gemma_fused_add_rmsnorm(input, residual, weight, eps)


def layernorm(input, gemma, beta, eps=1e-6):
    """(input - mean) / std * gemma + beta over the last dimension (FlashInfer calls gamma gemma)."""
    return _operations.layernorm(input, gemma, beta, eps)


def layernorm_quant(out, input, gemma, beta, scale, eps=1e-6, out_dtype=None):
    """out = layernorm(input) / scale in fp8, as rmsnorm_quant writes it; input [n, d] of 16 bits (FlashInfer's: bfloat16)."""
    _quantised.layernorm_quant(out, input, gemma, beta, scale, eps, out_dtype)


def __getattr__(name):
    raise AttributeError(f"flashladder.flashinfer.norm has no {name}: it has RMSNorm, Gemma's, LayerNorm and fused adds, with "
                         "one scale where they write fp8, and neither gates, SiLU, scales of blocks nor fp4")
