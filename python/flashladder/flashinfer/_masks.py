"""Custom masks as bytes or bits, and the forms in which an lse is given back."""
from .._arrays import family_of
from .._library import refuse
from .._run import PackedMask


def packed_mask_of(packed, bits_of_each):
    """A mask whose bits are packed little-endian, each request's padded to a byte: as many of them as the batch has."""
    family_of(packed, "packed_custom_mask")
    wants = sum(-(-bits // 8) for bits in bits_of_each)
    if packed.shape[0] < wants:
        refuse("packed_custom_mask size", packed.shape[0], f"must be at least {wants}: each request's bits begin at a byte")
    return PackedMask(packed[:wants])


def bits_of(mask, bits_of_each):
    """The mask's bits, for who keeps them, whatever form it has."""
    if isinstance(mask, PackedMask):
        return mask.bits
    family, wants = family_of(mask, "custom_mask"), sum(bits_of_each)
    mask = family.mask(mask)
    if mask.shape[0] != wants:
        refuse("custom_mask size", mask.shape[0], f"must be {wants}, the sum of qo_len * kv_len")
    padding, parts, at = family.bytes(0, family.device(mask))[:7], [], 0
    padding[...] = 0
    for bits in bits_of_each:
        parts += [mask[at:at + bits], padding[:-bits % 8]]
        at += bits
    return family.pack(family.concatenate(parts) > 0, "little") if wants else mask


def custom_mask_of(custom_mask, packed_custom_mask, bits_of_each):
    """The mask of a batch; bits count where both are given, as FlashInfer has it."""
    if packed_custom_mask is not None:
        return packed_mask_of(packed_custom_mask, bits_of_each())
    return custom_mask


def check_lse_form(lse_base, lse_layout):
    if lse_base not in ("log2", "ln"):
        refuse("lse_base", lse_base, "must be log2 or ln")
    if lse_layout not in ("NH", "HN"):
        refuse("lse_layout", lse_layout, "must be NH or HN")


def in_form(family, result, lse_layout, given):
    """(o, lse) with lse [heads, rows] where HN is asked for."""
    if lse_layout == "NH":
        return result
    o, lse = result
    turned = family.swapped(lse)
    if given is None:
        return o, family.dense(turned)
    family.copy_into(given, turned)
    return o, given
