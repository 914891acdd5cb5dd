#!/usr/bin/env python3
"""Figures on pages, by number and unit:  cli_figures_test.py PROGRAM SOURCE_ROOT    (helpers: cli_report_test.py)

Of `flashladder report`: rates, shares, percentages, times and their units, in tables and pictures. Of `climb`: times,
speed-ups and the shares of weights.
"""
import os, pathlib, re, sys, unittest
from cli_report_test import H200, Report, line

SVG = "{http://www.w3.org/2000/svg}"
CPU = {"cpu": "some", "cores": 2, "compiler": "g++", "flags": "-O3", "date": "2026-01-01", "commit": "abc"}
CEILINGS = [line("read 4 GiB", 1000, 4.0, "read"), line("copy 4 GiB", 1400, 3.0, "copy")]

class Figures(Report):
    def texts(self, page, title, tag="text"):
        """What is written in the picture of this title; tag title: its tooltips."""
        pictures = [e for e in page.iter(SVG + "svg") if e.get("aria-label").startswith(title)]
        self.assertEqual(len(pictures), 1, title)
        return [e.text for e in pictures[0].iter(SVG + tag)]

    def test_targets_count_what_is_above_them_and_name_the_best(self):
        lines = [line("B32 kv2048 32/8 p16", 100, 2.0), line("B64 kv8192 32/8 p16", 900, 4.0),
                 line("B1 kv131072 32/8 p16", 300, 3.0)]
        rows = lambda *more: self.rows(self.report(*more, *CEILINGS)[1], "The A100 targets")
        decode = lambda *more: next(r for r in rows(*more) if r[0] == "decode")
        self.assertEqual(decode(*lines)[2:], ["pass", "3 of 3", ">\u00a03.767", "pass", "1 of 3", "4.000",
                                              "B64 kv8192 32/8 p16, flashladder D6"])
        self.assertEqual(decode(line(rate=1.6))[2:4], ["fail", "0 of 1"], "what is just met is not passed")

    def test_bars_have_their_unit_and_a_share_of_the_read(self):
        page = self.report(line(rate=2.0), line(us=80, rate=2.5, backend="FlashInfer"), *CEILINGS)[1]
        self.assertIn("TB/s, 50 %; FlashInfer 2.5", " ".join(self.texts(page, "Decode, every case")))
        steps = [line("B32 kv2048 32/8 p16", us, 1.0, backend=f"flashladder {rung}") for rung, us in (("D1", 90), ("D2", 30))]
        written = " ".join(self.texts(self.report(*steps)[1], "The ladder on"))
        self.assertIn("90 \u00b5s", written)
        self.assertIn("30 \u00b5s", written)
        self.assertIn("3x", written)
        page = self.report(line(error=0.0011, tolerance=0.004))[1]
        self.assertIn("27.5 %", self.texts(page, "Error, in percent of the tolerance"))

    def test_every_line_has_the_spread_of_its_runs(self):
        page = self.report(*(line(us=us, run=i) for i, us in enumerate((100, 90, 120))))[1]
        self.assertEqual(self.rows(page, "Every line")[1][3:], ["100.0", "90.00 .. 120.0", "3", "3.000", "-"])
        page = self.report(line("decode B4 kv512 32/8 d128 f32", 100, 0.01, "cpu", "flashladder C4, NHD p16", TFLOPs=0.02),
                           machine=CPU)[1]
        rows = self.rows(page, "Every line")
        self.assertEqual((rows[0][6:], rows[1][6:]), (["GB/s", "GFLOP/s"], ["10.00", "20.00"]))

    def test_a_rate_that_is_missing_follows_from_the_case(self):
        page = self.report(line("B1 S8192 32/8 p16 causal", 900, 0.04, "prefill"), *CEILINGS)[1]
        self.assertIn("flashladder D6, B1 S8192 32/8 p16 causal: 655 TFLOP/s", self.texts(page, "Roofline", "title"))
        lines = [line(f"decode B4 kv{n} 32/8 d128 f32", n / 4, rate, "cpu", "flashladder C4, NHD p16")
                 for n, rate in ((512, 0.01), (1024, 0.02))]
        page = self.report(*lines, machine=CPU)[1]
        self.assertIn("flashladder C4, NHD p16, decode B4 kv512 32/8 d128 f32: 20 GFLOP/s",
                      self.texts(page, "Roofline", "title"))
        self.assertIn("flashladder C4, NHD p16, decode B4 kv1024 32/8 d128 f32: 20 GB/s",
                      self.texts(page, "Decode over kv_len", "title"))
        lines = [line(f"prefill B1 S{n} 32/8 d128 causal f32", n, None, "cpu", "flashladder C4, NHD p16", TFLOPs=0.05)
                 for n in (64, 128)]
        self.assertIn("flashladder C4, NHD p16, prefill B1 S128 32/8 d128 causal f32: 50 GFLOP/s",
                      self.texts(self.report(*lines, machine=CPU)[1], "Prefill over sequence length", "title"))

    def test_a_change_is_a_share_of_the_older_time(self):
        runs = lambda *times: [line(us=us, run=i) for i, us in enumerate(times)]
        self.report(*runs(100, 100, 101), out="old")
        page = self.report(*runs(125, 125, 126), out="new", args=("--against", "old.json"))[1]
        row = self.rows(page, "Against an older report")[1]
        self.assertEqual((row[0], row[4:]), ("slower", ["100.0", "125.0", "25 %", "2.000"]))
        text = pathlib.Path("old.json").read_text()
        for runs_said in ("0", "-1", "1.5", '"3"', "null"):
            pathlib.Path("bad.json").write_text(text.replace('"runs":3', f'"runs":{runs_said}'))
            self.refuses("report", "--lines", "lines.jsonl", "--against", "bad.json", says=["bad.json", "runs"])

    def test_a_file_that_is_written_again_keeps_its_mode(self):
        self.report(line())
        for mode in (0o600, 0o664):
            os.chmod("r.json", mode)
            self.report(line())
            self.assertEqual(os.stat("r.json").st_mode & 0o7777, mode)

class Climbed(Report):
    def climbed(self, *case):
        self.run_program("case", "make", *case, "--out", "c.safetensors")
        self.run_program("climb", "--in", "c.safetensors", "--html", "c.html")
        return self.page("c")

    def test_times_and_speed_ups_are_those_of_the_table(self):
        page = self.climbed("--kv", "300x2", "--dim", "64")
        rows = [r for r in self.rows(page, "The ladder") if r[0].startswith("C")]
        ms = [float(re.fullmatch(r"([\d.]+) ms", r[5])[1]) for r in rows]
        for r, t in zip(rows, ms):
            self.assertAlmostEqual(float(r[6].rstrip("x")), ms[0] / t, delta=0.02 * ms[0] / t + 0.006)
        picture = next(e for e in page.iter(SVG + "svg") if e.get("aria-label").startswith("Time of one run"))
        drawn = re.findall(r"([\d.]+) (s|ms|\u00b5s) ", " ".join(e.text + " " for e in picture.iter(SVG + "text")))
        drawn = [float(n) * {"s": 1e3, "ms": 1, "\u00b5s": 1e-3}[unit] for n, unit in drawn]
        for t in ms:
            self.assertTrue(any(abs(t - d) <= 0.02 * t + 0.001 for d in drawn), (t, drawn))

    def test_shares_of_weights_are_those_of_what_a_row_sees(self):
        shares = lambda page: re.findall(r"([\d.]+|nan) % (?:is )?on the (first token|token before|token itself)",
                                         "".join(page.find("body").itertext()))
        causal = ["--kv", "100", "--qo", "100", "--causal"]
        self.assertEqual(shares(self.climbed(*causal, "--window", "0")),
                         [("0", "first token"), ("0", "token before"), ("100", "token itself")])
        first, before, itself = (float(n) for n, _ in shares(self.climbed(*causal, "--window", "1")))
        self.assertEqual(first, 0)
        self.assertAlmostEqual(before + itself, 100, delta=0.2)
        self.assertNotEqual(before, itself)


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    ran, failed, skipped = result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)
    print(f"test cases: {ran} | {ran - failed - skipped} passed | {failed} failed | {skipped} skipped")
    sys.exit(1 if failed or not ran else 0)
