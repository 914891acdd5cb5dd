#!/usr/bin/env python3
"""Tests cases of latent attention from outside:  cli_mla_test.py PROGRAM SOURCE_ROOT    (helpers: cli_test.py)

A case is drawn into a file, run, verified with both ladders, and timed; what it may not have is refused by its name.
"""
import json, pathlib, sys, unittest
from cli_test import Cli

TABLE = [{"op": "mla", "qo_lens": [4, 1], "kv_lens": [70, 33], "num_qo_heads": 3, "page_size": 16, "dtype": "f16",
          "causal": True, "sm_scale": 0.0721688}]


class Latents(Cli):
    def test_a_case_as_a_file_is_run_and_verified_by_both_ladders(self):
        self.run_program("case", "make", "MLA block table of one tensor", "--out", "latents.safetensors")
        shown = self.json("case", "show", "latents.safetensors")
        self.assertEqual(shown["q_shape"], [12, 5, 576])
        self.assertEqual(self.json("run", "--in", "latents.safetensors")["rung"], "L3")
        self.assertEqual(self.json("run", "--in", "latents.safetensors", "--rung", "C4")["rung"], "C4")
        answer = self.json("verify", "--in", "latents.safetensors")
        cpu = [(r["rung"], r["must_equal"], r["verdict"]) for r in answer["rungs"] if r["device"] == "cpu"]
        rungs = [rung for rung, _, _ in cpu]
        self.assertEqual(rungs, sorted(rungs))
        self.assertLessEqual({"C0", "C1", "C2", "C3", "C4", "L0", "L1", "L2", "L3"}, set(rungs))
        self.assertIn(("L0", "C0", "ok"), cpu)
        self.assertTrue(all(verdict == "ok" for _, _, verdict in cpu))

    def test_a_table_is_verified_and_timed(self):
        pathlib.Path("latents.json").write_text(json.dumps(TABLE))
        answer = self.json("verify", "--cases", "latents.json", "--rung", "L3")
        self.assertEqual([(r["rung"], r["cases"]) for r in answer["rungs"]], [("L3", 1)])
        timed = self.json("bench", "--cases", "latents.json", "--rounds", "1", "--no-plan")
        self.assertEqual([line["backend"] for line in timed["lines"][2:]], ["flashladder C4, p16", "flashladder L3, p16"])
        self.assertTrue(all(line["case"].startswith("mla B2 q1..4") for line in timed["lines"][2:]))
        names = [line["case"] for line in self.json("bench", "mla", "--list")]
        self.assertEqual(names[:3], ["B128 kv4096 h16", "B128 kv4096 h64", "B128 kv4096 h128"])

    def test_without_a_latent_case_its_rungs_are_not_listed(self):
        self.assertNotIn("L0", [r["rung"] for r in self.json("verify", "--kv", "9")["rungs"]])

    def test_refusals(self):
        for change, says in [({"sm_scale": None}, "sm_scale: is missing"), ({"window_left": 3}, "window_left: is no key"),
                             ({"head_dim_ckv": 0}, "head_dim_ckv = 0")]:
            case = {k: v for k, v in {**TABLE[0], **change}.items() if v is not None}
            pathlib.Path("wrong.json").write_text(json.dumps([case]))
            self.refuses("verify", "--cases", "wrong.json", says=[says])


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    ran, failed, skipped = result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)
    print(f"test cases: {ran} | {ran - failed - skipped} passed | {failed} failed | {skipped} skipped")
    sys.exit(1 if failed or not ran else 0)
