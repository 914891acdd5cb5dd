#!/usr/bin/env python3
"""Tests `flashladder bench` from outside:  cli_bench_test.py PROGRAM SOURCE_ROOT    (helpers: cli_test.py)

The CPU's lines and their forms; of the families that want a GPU what can be held without one.
"""
import json, pathlib, sys, unittest
from cli_test import Cli

class Bench(Cli):
    def test_measurement_lines(self):
        self.run_program("bench", "--kv", "300", "--dim", "128", "--dtype", "f32", "--rounds", "1", "--no-plan",
                         "--commit", "abc", "--run", "3", "--jsonl", "lines.jsonl")
        machine, *lines = [json.loads(line) for line in pathlib.Path("lines.jsonl").read_text().splitlines()]
        self.assertEqual(list(machine), ["cpu", "cores", "compiler", "flags", "date", "commit"])
        self.assertEqual(machine["commit"], "abc")
        for line in lines:
            errors = ["error", "tolerance"] if line["case"].startswith("decode") else []
            self.assertEqual(list(line), ["family", "case", "backend", "us", "TBps", "TFLOPs", *errors, "threads", "run"])
            self.assertTrue(line["us"] > 0 and line["run"] == 3)
        self.assertEqual([line["case"].split()[0] for line in lines], ["copy", "read", "decode"])
        for line, wanted in zip(lines, (2 * 512 * 2 ** 20, 512 * 2 ** 20, 300 * 8 * 256 * 4)):  # what is moved
            self.assertAlmostEqual(line["TBps"] * line["us"] * 1e6 / wanted, 1, delta=2e-3)
        self.assertEqual(lines[2]["case"], "decode B1 kv300 32/8 d128 f32")
        self.assertEqual(lines[2]["backend"], "flashladder C4, NHD p16")

    def test_json_and_csv(self):
        answer = self.json("bench", "--kv", "64", "--rung", "C1", "--rounds", "1")
        self.assertEqual([(c["must_equal"], c["ok"]) for c in answer["checks"]], [("C0", True)])
        self.assertEqual(sum(line["family"] == "plan" for line in answer["lines"]), 6)
        csv = self.run_program("bench", "--kv", "64", "--rounds", "1", "--no-plan", "--csv")[0].splitlines()
        self.assertEqual((csv[0].split(",")[0], len(csv)), ("family", 4))
        self.refuses("bench", "--csv", "--json", says=["--csv"])
        self.refuses("bench", "--rounds", "0", says=["--rounds", "whole number, 1 .. 100000"])

class Families(Cli):
    def test_list_names_every_case_and_times_nothing(self):
        cases = self.json("bench", "decode", "graph", "append", "norm", "rope", "plan", "--list")
        self.assertEqual(len(cases), 14 + 22 + 4 + 10 + 6 + 4)
        self.assertEqual((cases[0]["family"], cases[0]["case"]), ("decode", "B32 kv2048 32/8 p16"))
        self.assertEqual((cases[0]["shape"]["kv_lens"], cases[0]["shape"]["page_size"]), ([2048] * 32, 16))
        self.assertTrue(all(("shape" in c) == (c["family"] in ("decode", "plan")) for c in cases))
        contiguous = [c for c in self.json("bench", "prefill", "--list") if "contiguous" in c["case"]]
        self.assertEqual({c["shape"]["page_size"] for c in contiguous}, {0})
        asked = self.json("bench", "prefill", "graph", "--kv", "64x2", "--qo", "8", "--dtype", "bf16", "--list")
        self.assertEqual([c["case"] for c in asked], ["B2 q8 kv64 32/8 p16 d64 full bf16"] +
                         ["B2 q8 kv64 32/8 p16 d64 full bf16" + end for end in (" cold", " warm")])
        self.assertEqual([c["case"] for c in self.json("bench", "prefill-ladder", "--list")],
                         ["B1 S2048 32/8 p16 causal", "B2 S8192 32/8 p16 causal"])
        text = self.run_program("bench", "rope", "--list")[0]
        self.assertIn("65536 tokens 32/8 interleaved", text)

    def test_without_a_gpu_a_sentence_and_77(self):
        program = self.run_any("bench", "decode", "--kv", "100", "--dim", "128", "--rounds", "1")
        self.assertIn(program.returncode, (0, 77))
        if program.returncode == 77:
            self.assertRegex(program.stdout, r"(?s)^Nothing was timed: .+\.\s--list\ssays\swhat\swould\sbe\.\n$")
            plans = self.json("bench", "plan", "--rounds", "1")["lines"]
            self.assertEqual([line["family"] for line in plans], ["plan"] * 6)

    def test_bad_use_is_refused(self):
        self.refuses("bench", "prefil", says=["FAMILY", "prefill", "decode, graph"])
        self.refuses("bench", "norm", "--kv", "3", says=["FAMILY = norm", "--kv"])
        self.refuses("bench", "rope", "--rung", "P5", says=["--rung", "prefill-ladder"])
        self.refuses("bench", "prefill", "--kv", "64", "--dtype", "f32", says=["B1 kv64", "takes f16 and bf16"])
        self.refuses("bench", "prefill", "--kv", "64", "--qo", "65", says=["a key for each query"])
        self.refuses("bench", "--list", says=["FAMILY", "missing"])
        self.refuses("bench", "decode", "--rounds", "0", says=["--rounds", "whole number, 1 .. 100000"])
        self.refuses("bench", "decode", "--csv", "--json", says=["--csv"])


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    ran, failed, skipped = result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)
    print(f"test cases: {ran} | {ran - failed - skipped} passed | {failed} failed | {skipped} skipped")
    sys.exit(1 if failed or not ran else 0)
