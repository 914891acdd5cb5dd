"""What bench/peers compares and times, without a GPU: tensors and their check by torch on the CPU where it is installed, and
serving.py's cases.

  peers_work_test.py FLASHLADDER SOURCE_ROOT
"""
import math, pathlib, subprocess, sys, unittest

FLASHLADDER, ROOT = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
sys.path.insert(0, str(ROOT / "bench/peers"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from peers_run_test import case_of


class WithTorch(unittest.TestCase):
    """Tensors and their check on the CPU, against torch's own attention."""

    def setUp(self):
        try:
            import torch
        except ImportError:
            self.skipTest("needs torch")

    def test_the_check_takes_right_outputs_and_no_others(self):
        import torch
        from peers_torch import PEERS as torch_peers
        from work import Work
        for causal, contiguous in ((True, False), (True, True), (False, False)):
            case = case_of(qo_lens=[33, 33], kv_lens=[33, 33], causal=causal, page_size=0 if contiguous else 4, dtype="bf16")
            work = Work(case, "cpu")
            k, v = (torch.stack([torch.stack([work.tokens(x, b, h) for h in range(2)]) for b in range(2)])
                    for x in (work.k, work.v))  # [batch, heads, keys, dim]
            q = work.q.view(2, 33, 4, 8).transpose(1, 2)
            mask = torch.ones(33, 33).tril().bool() if causal else None
            attend = torch.nn.functional.scaled_dot_product_attention
            o = attend(q.float(), k.float(), v.float(), attn_mask=mask, scale=0.25, enable_gqa=True).transpose(1, 2)
            o = o.flatten(0, 1).to(torch.bfloat16)
            self.assertIsNone(work.wrong(o))
            self.assertIn("shape", work.wrong(o[:-1]))
            self.assertIn("is off by", work.wrong(o.roll(1, 0)))
            self.assertIn("is off by", work.wrong(torch.full_like(o, math.nan)))
            if contiguous:
                math_peer = torch_peers[-1]
                self.assertIsNone(work.wrong(math_peer.rows(math_peer.prepare(work)())))

    def attended(self, work, bias, extra=None):
        """o of one request in float, from [heads, qo_len, kv_len] that is added to the logits, and a logit without a value."""
        import torch
        case = work.case
        k, v = (torch.stack([work.tokens(x, 0, h // 2).double() for h in range(4)]) for x in (work.k, work.v))
        logits = torch.einsum("ihd,hjd->hij", work.q.double(), k) * case.sm_scale + bias
        if extra is not None:
            logits = torch.cat([logits, extra.double()[:, None, None].expand(-1, len(work.q), 1)], dim=2)
        o = torch.einsum("hij,hjd->ihd", logits.softmax(-1)[:, :, :k.shape[1]], v)
        return o.to(work.dtype)

    def test_the_check_knows_the_features(self):
        import torch
        from work import Work, tree_mask
        one = dict(qo_lens=[7], kv_lens=[40], causal=False, page_size=4, dtype="f16")
        below = torch.arange(40)[None, None, :] <= torch.arange(7)[None, :, None] + 33
        causal = torch.where(below, 0.0, -math.inf).double()
        work = Work(case_of(**{**one, "causal": True}, pos_encoding_mode="ALIBI"), "cpu")
        slopes = torch.tensor([2.0 ** -2, 2.0 ** -4, 2.0 ** -6, 2.0 ** -8])[:, None, None]
        distance = torch.arange(40)[None, None, :] - torch.arange(7)[None, :, None]
        self.assertIsNone(work.wrong(self.attended(work, causal + slopes * distance)))
        self.assertIn("is off by", work.wrong(self.attended(work, causal)))
        work = Work(case_of(**{**one, "causal": True}, sinks=True), "cpu")
        self.assertIsNone(work.wrong(self.attended(work, causal, work.sinks)))
        self.assertIn("is off by", work.wrong(self.attended(work, causal)))
        work, tree = Work(case_of(**one, custom_mask="tree"), "cpu"), tree_mask(7, 40)
        self.assertTrue(tree[:, :33].all() and tree[:, 33:].diagonal().all() and not tree[:, 33:].triu(1).any())
        self.assertIsNone(work.wrong(self.attended(work, torch.where(tree, 0.0, -math.inf).double()[None])))
        self.assertIn("is off by", work.wrong(self.attended(work, causal)))
        work = Work(case_of(**one, kv_dtype="f8_e4m3"), "cpu")
        self.assertEqual(work.k.dtype, torch.float8_e4m3fn)
        self.assertIsNone(work.wrong(self.attended(work, 0.0)))

    def test_the_check_rotates_as_a_complex_number_turns(self):
        import torch
        from work import ROPE_THETA, rotated
        x, positions = torch.randn(5, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 40, 1000])
        turn = torch.exp(1j * positions[:, None] * ROPE_THETA ** (-torch.arange(4, dtype=torch.float64) / 4))
        turned = torch.complex(x[:, :4], x[:, 4:]) * turn
        torch.testing.assert_close(rotated(x, positions), torch.cat([turned.real, turned.imag], dim=1))


class Serving(unittest.TestCase):
    """bench/peers/serving.py without torch and a GPU."""

    def test_its_cases_are_those_of_our_families(self):
        import serving
        for family in ("mla", "cascade", "plan", "lengths"):
            names = getattr(serving, family.upper())
            done = subprocess.run([FLASHLADDER, "bench", family, "--list"], text=True, stdout=subprocess.PIPE, check=True)
            self.assertEqual([line.split(None, 1)[1].strip() for line in done.stdout.splitlines()[1:]], names)

    def test_lengths_are_those_of_the_case_string(self):
        import serving
        self.assertEqual((sum(serving.lognormal64()), max(serving.lognormal64())), (106057, 9251))
        self.assertEqual(serving.lengths_of("B32 kv8192 h16 q4"), ([4] * 32, [8192] * 32))
        self.assertEqual(serving.lengths_of(serving.PLAN[3]), ([512] * 4 + [1] * 60, [4096] * 64))
        self.assertEqual(serving.lengths_of(serving.PLAN[2]), (serving.lognormal64(), serving.lognormal64()))
        self.assertEqual(serving.lengths_of("B4 S2048 32/8 p16 causal"), ([2048] * 4, [2048] * 4))
        self.assertEqual(serving.lengths_of("B8 q512 kv16384 32/8 p16 causal"), ([512] * 8, [16384] * 8))
        self.assertEqual(serving.lengths_of(serving.PLAN[1]), ([1] * 64, serving.lognormal64()))

    def test_a_wrong_output_has_no_line(self):
        import serving
        class Row(float):  # what timed() asks of a tensor
            def double(self): return self
            def norm(self): return self
            def item(self): return abs(self)
            def __sub__(self, other): return Row(float(self) - float(other))
            def __truediv__(self, other): return Row(float(self) / float(other))
        lines = []
        serving.report, serving.median_us = (lambda *line: lines.append(line)), (lambda call: 3.0)
        for o in (1.0, 1.5, math.nan):
            serving.timed("mla", "case", str(o), lambda: lambda: {(0, 1): Row(o)}, [((0, 1), Row(1.0))], 8)
        self.assertEqual(lines, [("mla", "case", "1.0", 3.0, 8, None)])


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    ran, failed, skipped = result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)
    print(f"test cases: {ran} | {ran - failed - skipped} passed | {failed} failed | {skipped} skipped")
    sys.exit(1 if failed or not ran else 0)
