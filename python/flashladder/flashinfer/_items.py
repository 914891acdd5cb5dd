"""Several items in one sequence, which do not see each other: FlashInfer's multi-item scoring, as the bits of a custom mask.

A request is a prefix and items behind it, whose first tokens (or delimiters) have position 0. The query at p of its sequence
sees key j <= p of the prefix; of what comes behind the prefix, a query of the prefix sees j <= p too, and one of an item the
last token_pos[p - prefix_len] tokens, itself counted: its own item. A delimiter's position is 0, so it sees the prefix alone.
"""
from typing import NamedTuple

import numpy

from .._arrays import family_of, on_host
from .._library import refuse
from .._run import PackedMask

_BLOCK = 1 << 22  # bits that are made at a time


class Items(NamedTuple):
    """What plan() says of items, on the host."""
    prefix_len: numpy.ndarray   # [batch]
    token_pos: numpy.ndarray    # [batch, token_pos_in_items_len]: of each token behind the prefix, in its item


def items_of(prefix_len_ptr, token_pos_in_items_ptr, token_pos_in_items_len, max_item_len_ptr):
    """Items of plan()'s arguments, or None. prefix_len_ptr is what says that there are any."""
    if prefix_len_ptr is None:
        for name, value in (("token_pos_in_items_ptr", token_pos_in_items_ptr), ("max_item_len_ptr", max_item_len_ptr),
                            ("token_pos_in_items_len", token_pos_in_items_len or None)):
            if value is not None:
                refuse(name, "given", "needs prefix_len_ptr beside it: items stand behind a prefix")
        return None
    if token_pos_in_items_ptr is None:
        refuse("token_pos_in_items_ptr", "None", "must be given beside prefix_len_ptr: it says where items begin")
    prefix_len, token_pos = (numpy.asarray(x).reshape(-1) for x in on_host([prefix_len_ptr, token_pos_in_items_ptr]))
    batch, width = prefix_len.shape[0], int(token_pos_in_items_len)
    if width < 1 or token_pos.shape[0] != batch * width:
        refuse("token_pos_in_items_ptr size", token_pos.shape[0],
               f"must be batch * token_pos_in_items_len ({batch} * {width})")
    for name, numbers in (("prefix_len_ptr", prefix_len), ("token_pos_in_items_ptr", token_pos)):
        if (numbers < 0).any():
            refuse(f"{name}[{int(numpy.argmax(numbers < 0))}]", int(numbers.min()), "must not be negative")
    return Items(prefix_len, token_pos.reshape(batch, width))


def _check(items, b, qo_len, kv_len):
    """Each query behind the prefix has a position in its item. (Of a prefix that is longer than the sequence all are its.)"""
    behind = kv_len - int(items.prefix_len[b])
    if qo_len > 0 and behind > items.token_pos.shape[1]:
        refuse("token_pos_in_items_len", items.token_pos.shape[1],
               f"must be at least {behind}, the tokens behind the prefix (request {b})")


def _rows(items, b, first, last, qo_len, kv_len):
    """bool [last - first, kv_len]: the keys that queries first .. last - 1 of a request see."""
    prefix, p = int(items.prefix_len[b]), numpy.arange(first, last)[:, None] + (kv_len - qo_len)
    j = numpy.arange(kv_len)[None, :]
    position = items.token_pos[b][numpy.clip(p - prefix, 0, None)]
    return (j <= p) & ((p < prefix) | (j < prefix) | (j > p - position))


def mask_of_items(items, lengths, like):
    """The bits of a batch's mask, where the array `like` lies. lengths: (qo_len, kv_len) of each request."""
    if len(lengths) != items.prefix_len.shape[0]:
        refuse("prefix_len_ptr size", items.prefix_len.shape[0], f"must be {len(lengths)}, one for each request")
    bits = numpy.zeros(sum(-(-qo_len * kv_len // 8) for qo_len, kv_len in lengths), numpy.uint8)
    at = 0
    for b, (qo_len, kv_len) in enumerate(lengths):
        _check(items, b, qo_len, kv_len)
        step = max(_BLOCK // max(kv_len, 1) // 8, 1) * 8  # rows, whose bits then begin at a byte
        for first in range(0, qo_len, step):
            packed = numpy.packbits(_rows(items, b, first, min(first + step, qo_len), qo_len, kv_len), bitorder="little")
            bits[at:at + packed.shape[0]] = packed
            at += packed.shape[0]
    family = family_of(like)
    return PackedMask(family.from_numpy(bits, family.device(like)))
