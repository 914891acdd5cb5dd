#!/usr/bin/env python3
"""fp8 caches through the program `flashladder`:  cli_fp8_test.py PROGRAM SOURCE_ROOT    (helpers: cli_test.py)

A real model's cache in fp8 gives the expected answer, and not with another scale; cases are drawn, shown, verified and written
with scales; what is wrong is refused.
"""
import struct, subprocess, sys, unittest
from cli_test import Cli, read_safetensors, write_safetensors

REAL = "data/smollm2_decode_fp8.safetensors"

class Fp8(Cli):
    def test_a_models_cache_gives_the_expected_answer(self):
        for rung in "C0", "C4":
            self.assertIn("expected_o: worst error", self.run_program("run", "--in", REAL, "--rung", rung)[0])
        self.run_program("verify", "--in", REAL)
        done = subprocess.run([sys.executable, "data/check_case.py", REAL], capture_output=True, text=True)
        self.assertTrue(done.returncode == 0 or "No module named 'numpy'" in done.stderr, done.stderr)

    def test_another_scale_gives_another_answer(self):
        metadata, tensors = read_safetensors(REAL)
        dtype, shape, values = tensors["v_scale"]
        first = struct.unpack("<f", values[:4])[0]
        tensors["v_scale"] = (dtype, shape, struct.pack("<f", first * 1.001) + values[4:])
        write_safetensors("changed.safetensors", metadata, tensors)
        self.assertFalse(self.json("run", "--in", "changed.safetensors", code=1)["expected_o"]["ok"])

    def test_cases_are_drawn_shown_and_verified(self):
        make = "case", "make", "--kv", "5,40", "--heads", "4/2", "--kv-dtype", "f8_e4m3", "--out", "a.safetensors"
        self.run_program(*make)
        metadata, tensors = read_safetensors("a.safetensors")
        self.assertEqual((tensors["q"][0], tensors["kv_cache"][0]), ("F16", "F8_E4M3"))
        self.assertLess(0, float(metadata["k_scale"]))
        shown = self.json("case", "show", "a.safetensors")
        self.assertEqual((shown["kv_dtype"], len(shown["k_scale"])), ("f8_e4m3", 1))
        self.assertIn("v_scale: ", self.run_program("case", "show", "a.safetensors")[0])
        self.run_program(*make, "--kv-scales", "per_head")
        self.assertEqual(read_safetensors("a.safetensors")[1]["v_scale"][:2], ("F32", [2]))
        self.run_program("verify", "--kv", "5,40", "--kv-dtype", "f8_e5m2", "--kv-scales", "none", "--dtype", "bf16")

    def test_what_is_wrong_is_refused(self):
        self.refuses("verify", "--kv", "5", "--kv-dtype", "f32",
                     says=["--kv-dtype", "must be f8_e4m3, f8_e5m2 or that of q, f16"])
        self.refuses("verify", "--kv", "5", "--kv-scales", "all", says=["--kv-scales", "none, number, per_head"])
        self.refuses("verify", "--kv", "5", "--dtype", "f8_e4m3", says=["--dtype", "must be f32, f16 or bf16"])

if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    ran, failed, skipped = result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)
    print(f"test cases: {ran} | {ran - failed - skipped} passed | {failed} failed | {skipped} skipped")
    sys.exit(1 if failed or not ran else 0)
