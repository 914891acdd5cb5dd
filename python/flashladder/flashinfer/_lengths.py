"""Page lists whose lengths are kv_len_arr: a request may have more pages than its tokens fill."""
from .._arrays import family_of, on_host
from .._library import refuse


def must_say_the_same(name, lengths, of, twin):
    """Refuses lengths that are not those of their twin: K and V, and q and o, lie alike here."""
    if lengths is not twin:
        have, wants = ([int(n) for n in x] for x in on_host([lengths, twin]))
        if have != wants:
            refuse(name, have, f"must be {of}, in tokens: {wants}")


def filled_pages(qo_indptr, kv_indptr, kv_indices, kv_len_arr, page_size):
    """(qo_indptr, kv_indptr, last_page_len, page ids) with those pages alone that hold tokens. Lengths on the device are
    copied together. kv_indptr may have more entries than requests need, as a buffer has."""
    qo, kv, lens = on_host([qo_indptr, kv_indptr, kv_len_arr])
    pages, lengths = [int(n) for n in kv], [int(n) for n in lens]
    if len(pages) <= len(lengths):
        refuse("kv_indptr size", len(pages), f"must be at least {len(lengths) + 1}: kv_len_arr has {len(lengths)} entries")
    pages = pages[:len(lengths) + 1]
    needs = [-(-n // page_size) for n in lengths]
    for i, n in enumerate(needs):
        if n > pages[i + 1] - pages[i]:
            refuse(f"kv_len_arr[{i}]", lengths[i], f"must fit the request's {pages[i + 1] - pages[i]} pages of {page_size} "
                   f"tokens (request {i})")
    last = [n - (needs[i] - 1) * page_size if needs[i] else 0 for i, n in enumerate(lengths)]
    if any(n != pages[i + 1] - pages[i] for i, n in enumerate(needs)):
        parts = [kv_indices[pages[i]:pages[i] + n] for i, n in enumerate(needs) if n]
        kv_indices = family_of(kv_indices).concatenate(parts) if parts else kv_indices[:0]
        pages = [sum(needs[:i]) for i in range(len(needs) + 1)]
    return qo, pages, last, kv_indices
