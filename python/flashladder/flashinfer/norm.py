"""FlashInfer's flashinfer.norm. enable_pdl is a hint."""
from .. import operations as _operations

__all__ = ["fused_add_rmsnorm", "gemma_fused_add_rmsnorm", "gemma_rmsnorm", "layernorm", "rmsnorm"]


def rmsnorm(input, weight, eps=1e-6, out=None, enable_pdl=None):
    """input / rms(input) * weight over the last dimension: input [n, d] or [n, heads, d], weight [d]."""
    return _operations.rmsnorm(input, weight, eps, out)


def gemma_rmsnorm(input, weight, eps=1e-6, out=None, enable_pdl=None):
    """rmsnorm with 1 + weight in weight's place."""
    return _operations.gemma_rmsnorm(input, weight, eps, out)


def fused_add_rmsnorm(input, residual, weight, eps=1e-6, enable_pdl=None):
    """residual += input, then input = rmsnorm(residual), both in place; [n, d]."""
    _operations.fused_add_rmsnorm(input, residual, weight, eps)


def gemma_fused_add_rmsnorm(input, residual, weight, eps=1e-6, enable_pdl=None):
    """fused_add_rmsnorm with 1 + weight in weight's place."""
    _operations.gemma_fused_add_rmsnorm(input, residual, weight, eps)


def layernorm(input, gemma, beta, eps=1e-6):
    """(input - mean) / std * gemma + beta over the last dimension (FlashInfer calls gamma gemma)."""
    return _operations.layernorm(input, gemma, beta, eps)
