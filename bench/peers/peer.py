"""What a peer is, and how peers are measured on a case: checked against double, then timed. No torch in here: the tests
measure peers of their own."""
import importlib, importlib.util

FP8_MOST = 0.08  # how far off a row of Peer.multiplies_fp8 may be: q and the weights are rounded by up to 2^-4 of themselves


class Peer:
    """One way to call one library."""
    name = ""        # the backend of its lines
    get = ""         # how to come by it
    module = None    # that must be there
    takes = ()       # of Case.features: what it can be called with
    multiplies_fp8 = False  # on an fp8 cache: then q and the weights are rounded to 4 bits too
    contiguous = False  # takes no pages, or not these: then it is measured without pages, under another case string

    def missing(self):
        """Why it can't be called on this machine, or None."""
        found = self.module is None or importlib.util.find_spec(self.module) is not None
        return None if found else f"There is no Python module {self.module}"

    def version(self):
        """(library, version) for the machine's line."""
        return self.module, getattr(importlib.import_module(self.module), "__version__", "?")

    def refuses(self, case):
        """Why it does not take the case, or None. From the case alone: no GPU is needed to ask."""
        return None

    def prepare(self, work):
        """A call without arguments, which is timed. What a user does once is done here."""
        raise NotImplementedError

    def wrong(self, work, o):
        """What is wrong with these rows, or None."""
        return work.wrong(o, FP8_MOST) if self.multiplies_fp8 and work.case.kv_dtype else work.wrong(o)

    def rows(self, o):
        """What the call returned, as [nnz_qo, num_qo_heads, head_dim_vo]."""
        return o[0] if isinstance(o, (tuple, list)) else o  # some return the lse as well


def missing_text(peers):
    """Which peers can't be called, why, and how to get them: a line for those of one reason; "" if all are here."""
    absent = {}
    for peer in peers:
        if why := peer.missing():
            absent.setdefault((why, peer.get), []).append(peer.name)
    return "\n".join(f"not here: {', '.join(names)}. {why}. To get it: {get}" for (why, get), names in absent.items())


def case_for(peer, case):
    """(the case as this peer is measured on it, None) or (None, why not)"""
    if case.why_not:
        return None, case.why_not
    if unknown := [feature for feature in case.features if feature not in peer.takes]:
        return None, "it is not called with " + ", ".join(unknown)
    reason = peer.refuses(case)
    if reason and peer.contiguous and not case.contiguous:
        case = case.without_pages()
        reason = peer.refuses(case)
    return (None, reason) if reason else (case, None)


def line_of(case, peer, us, run):
    """A line of docs/case_format.md."""
    flops = case.flops()
    return dict(family=case.family, case=case.name, backend=peer.name, us=round(us, 2),
                TBps=round(case.nbytes() / us / 1e6, 3), TFLOPs=round(flops / us / 1e6, 1) if flops else None, run=run)


def one_line(error):
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['-'])[0][:160]}"


def measure(cases, peers, make_work, clock, report, say, run):
    """Each case's peers, one after the other on the same tensors. run 0 warms up: it compiles and checks, reports no line,
    and says why a peer does not take a case. A peer that fails or is wrong does not stop the others. Returns whether all
    that were checked were right."""
    here, right = [peer for peer in peers if not peer.missing()], True
    for case in cases:
        on = {}  # the case, or the same without pages -> peers
        for peer in here:
            own_case, why_not = case_for(peer, case)
            if own_case:
                on.setdefault(own_case, []).append(peer)
            elif run == 0:
                say(f"{case.name}: {peer.name} does not take it: {why_not}")
        for own_case, takers in on.items():
            work = make_work(own_case)
            for peer in takers:
                try:
                    call = peer.prepare(work)
                    if wrong := peer.wrong(work, peer.rows(call())):
                        right = False
                        say(f"{own_case.name}: {peer.name} is WRONG and not timed: {wrong}")
                    elif run > 0:
                        report(line_of(own_case, peer, clock.median_us(call), run))
                except Exception as error:
                    say(f"{own_case.name}: {peer.name} failed: {one_line(error)}")
                call = None  # what it holds is given back before the next is prepared
            del work
    return right
