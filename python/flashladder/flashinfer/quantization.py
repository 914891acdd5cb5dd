"""FlashInfer's packbits: a custom mask as bits."""
from .._arrays import family_of
from .._library import refuse

__all__ = ["packbits", "segment_packbits"]


def packbits(x, bitorder="big"):
    """uint8 [ceil(n / 8)] of bool [n]."""
    if bitorder not in ("big", "little"):
        refuse("bitorder", bitorder, "must be big or little")
    return family_of(x, "x").pack(x, bitorder)


def segment_packbits(x, indptr, bitorder="big"):
    """(bits, their indptr): each segment of bool x padded to a byte. indptr int32 [n + 1] counts elements, cumulative."""
    family = family_of(x, "x")
    at = [int(n) for n in family_of(indptr, "indptr").host([indptr])[0]]
    parts = [packbits(x[a:b], bitorder) for a, b in zip(at, at[1:])]
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + part.shape[0])
    numbers = family.empty_int32(len(ends), family.device(x))
    for i, end in enumerate(ends):
        numbers[i] = end
    return (family.concatenate(parts) if parts else packbits(x[:0])), numbers
