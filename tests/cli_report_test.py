#!/usr/bin/env python3
"""Tests `flashladder report` from outside:  cli_report_test.py PROGRAM SOURCE_ROOT    (helpers: cli_test.py)

The page, CSV and JSON of committed lines of an H200 and of lines made up here; verdicts on both sides of their limits; what
got slower, and what is not judged; refusals, which leave nothing behind.
"""
import csv, json, pathlib, re, subprocess, sys, unittest, xml.etree.ElementTree
import cli_test
from cli_test import ROOT, Cli

H200 = {"gpu": "NVIDIA H200", "driver": "580", "sm_mhz": 1980, "peak_TBps": 4.8, "date": "2026-11-21", "commit": "abc"}
MEASURED = [str(ROOT / "docs/measurements" / name) for name in ("h200-ours.jsonl", "h200-peers.jsonl", "h200-prefill.jsonl")]

def line(case="B32 kv2048 32/8 p16", us=100.0, rate=3.0, family="decode", backend="flashladder D6", **more):
    return {"family": family, "case": case, "backend": backend, "us": us, "TBps": rate, "TFLOPs": None, "run": 1, **more}

def write(name, *lines, machine=H200):
    pathlib.Path(name).write_text("".join(json.dumps(l) + "\n" for l in [machine, *lines]))
    return name

class Report(Cli):
    def report(self, *lines, out="r", code=0, args=(), machine=H200):
        """stdout, the page as XML, the JSON"""
        text = self.run_program("report", "--lines", write("lines.jsonl", *lines, machine=machine), "--out", out, *args,
                                code=code)[0]
        return text, self.page(out), json.loads(pathlib.Path(out + ".json").read_text())

    def page(self, out):
        text = pathlib.Path(out + ".html").read_text()
        self.assertNotRegex(text, r"<script|<link|@import|(src|href)=\"(?!#)|url\((?!#)", "something from elsewhere")
        self.assertIn("prefers-color-scheme: dark", text)
        self.assertNotRegex(text, r'="[^"]*\b(nan|inf)\b', "a number that is none, in an attribute")
        return xml.etree.ElementTree.fromstring(text.replace("<!DOCTYPE html>\n", ""))

    def rows(self, page, heading):
        """The cells of the tables of one section."""
        rows, inside = [], False
        for element in page.find("body"):
            if element.tag == "h2":
                inside = element.text == heading
            elif inside:
                rows += [["".join(cell.itertext()) for cell in row] for row in element.iter("tr")]
        return rows

    def measures(self, *args):
        """stdout of what measures this CPU: half a minute, on a busy machine minutes"""
        if self.run_any("bench", "decode", "--kv", "64", "--dim", "128", "--rounds", "1").returncode != 77:
            self.skipTest("here a GPU would be measured, for minutes")
        done = subprocess.run([cli_test.PROGRAM, *args], capture_output=True, text=True, timeout=280)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def everything_is_drawn(self, page, ladders):
        titles = [e.get("aria-label") for e in page.iter("{http://www.w3.org/2000/svg}svg")]
        for title in ("Roofline", "Decode over kv_len", "Decode over batch", "Decode, every case", "Prefill over sequence length",
                      "Error, in percent"):
            self.assertTrue(any(t.startswith(title) for t in titles), (title, titles))
        self.assertEqual(sum(t.startswith("The ladder on") for t in titles), len(ladders), titles)
        for policy in "balanced", "none":
            self.assertEqual(sum(t.endswith(f"policy {policy}") for t in titles), 1, titles)

class Measured(Report):
    def test_lines_of_an_h200_become_a_page_csv_and_json(self):
        text = self.run_program("report", "--lines", ",".join(MEASURED), "--out", "h200")[0]
        page, report = self.page("h200"), json.loads(pathlib.Path("h200.json").read_text())
        lines = [json.loads(l) for name in MEASURED for l in pathlib.Path(name).read_text().splitlines()]
        times = {}
        for l in lines:
            if "us" in l:
                times.setdefault((l["family"], l["case"], l["backend"]), []).append(l["us"])
        self.assertIn(f"NVIDIA H200: {sum(map(len, times.values()))} lines of {len(times)} works.", text)
        self.assertEqual(len(report["works"]), len(times))
        for work in report["works"]:
            runs = sorted(times[work["family"], work["case"], work["backend"]])
            self.assertEqual((work["us"], work["us_low"], work["us_high"], work["runs"]),
                             (runs[len(runs) // 2], runs[0], runs[-1], len(runs)))
        table = list(csv.DictReader(pathlib.Path("h200.csv").read_text().splitlines()))
        self.assertEqual([(r["family"], r["case"], r["backend"], float(r["us"])) for r in table],
                         [(w["family"], w["case"], w["backend"], w["us"]) for w in report["works"]])
        self.assertEqual(len(self.rows(page, "Every line")), 1 + len(times))
        self.assertEqual(report["ceilings"]["gemm"]["TFLOPs"],
                         max(w["TFLOPs"] for w in report["works"] if "8192^3" in w["case"]))
        titles = [e.get("aria-label") for e in page.iter("{http://www.w3.org/2000/svg}svg")]
        for title in ("Roofline", "Decode over kv_len", "Decode over batch", "Decode, every case",
                      "Prefill over sequence length", "RMSNorm, RoPE and append"):
            self.assertTrue(any(t.startswith(title) for t in titles), (title, titles))

    def test_points_of_the_roofline_are_rates_of_lines(self):
        _, page, _ = self.report(line(rate=3.0), line("B2 S8192 32/8 p16 causal", 1700, 0.04, "prefill", "FA3", TFLOPs=640),
                                 line("read 4 GiB", 1000, 4.3, "read"), line("8192^3 bf16", 1500, None, "gemm", TFLOPs=750))
        tooltips = [e.text for e in page.iter("{http://www.w3.org/2000/svg}title")]
        self.assertIn("flashladder D6, B32 kv2048 32/8 p16: 12 TFLOP/s", tooltips)  # 4 FLOP a byte: a group of 4, f16
        self.assertIn("FA3, B2 S8192 32/8 p16 causal: 640 TFLOP/s", tooltips)
        texts = [e.text for e in page.iter("{http://www.w3.org/2000/svg}text")]
        self.assertIn("read 4.3 TB/s", texts)
        self.assertIn("GEMM 750 TFLOP/s", texts)

    def test_a_plug_in_is_a_square_among_discs_and_rings(self):
        _, page, _ = self.report(line(rate=3.0), line(us=120, rate=2.5, backend="FlashInfer"),
                                 line(us=150, rate=2.0, backend="plug-in mine"), line("read 4 GiB", 1000, 4.3, "read"))
        svg = "{http://www.w3.org/2000/svg}"
        marks = {e.text: parent.tag for parent in page.iter() for e in parent if e.tag == svg + "title"}
        case = "B32 kv2048 32/8 p16"
        self.assertEqual([marks[f"{who}, {case}: {rate} TFLOP/s"] for who, rate in
                          (("flashladder D6", "12"), ("FlashInfer", "10"), ("plug-in mine", "8"))],
                         [svg + "circle", svg + "circle", svg + "rect"])

    def test_the_ladder_has_gains_and_the_registry_s_ideas(self):
        cpu = {"cpu": "some", "cores": 2, "compiler": "g++", "flags": "-O3", "date": "2026-01-01", "commit": "abc"}
        works = [line("decode B1 kv64 32/8 d64", us, 0.01, "cpu", f"flashladder {rung}, NHD p16")
                 for rung, us in (("C4", 100), ("C0", 800), ("C3", 200))]
        _, page, report = self.report(*works, machine=cpu)
        rows = self.rows(page, "The ladder")[1:]
        self.assertEqual([(r[0], r[2], r[3], r[4]) for r in rows],
                         [("C0", "800.0", "-", "1.000x"), ("C3", "200.0", "4.000x", "4.000x"),
                          ("C4", "100.0", "2.000x", "8.000x")])
        self.assertIn("page table", rows[1][1])
        self.assertEqual([t["measured"] for t in report["targets"]], [False] * 4)

    def test_measures_itself_where_there_is_no_gpu(self):
        self.measures("report", "--rounds", "1", "--out", "now")
        lines = [json.loads(l) for l in pathlib.Path("now.jsonl").read_text().splitlines()]
        lanes = [l for l in lines[1:] if l["family"] == "lanes"]
        attention = [l for l in lines[1:] if not l["case"].startswith(("copy", "read", "GEMM")) and l not in lanes]
        self.assertEqual({l["backend"].split()[1].strip(",") for l in attention}, set(self.cpu_rungs()))
        self.assertTrue(all(0 <= l["error"] <= l["tolerance"] for l in attention))
        self.run_program("report", "--lines", "now.jsonl", "--out", "again")
        self.assertEqual(pathlib.Path("now.csv").read_text(), pathlib.Path("again.csv").read_text())
        page = self.page("now")
        self.assertEqual(len(self.rows(page, "Errors")), 1 + len(attention))
        self.assertEqual({l["policy"] for l in lanes}, {"balanced", "none"})
        self.assertEqual([r[0] for r in self.rows(page, "The machine") if r[1][0].isdigit()], ["copy", "read", "GEMM"])
        self.everything_is_drawn(page, ["decode", "prefill"])

class Targets(Report):
    def verdicts(self, *lines, machine=H200):
        text, page, report = self.report(*lines, machine=machine)
        rows = self.rows(page, "The A100 targets")[1:]
        self.assertEqual([r[0] for r in rows], ["prefill", "decode", "RMSNorm", "RoPE"])
        told = {t["target"]: (t["pass_there"], t["pass_here"]) for t in report["targets"]}
        return {r[0]: (r[2], r[5]) for r in rows}, told

    def test_each_target_on_both_sides_of_its_limits(self):
        names = {"decode": ("decode", "B64 kv8192 32/8 p16", 1.6), "RMSNorm": ("norm", "rmsnorm 65536x4096", 1.8),
                 "RoPE": ("rope", "65536 tokens 32/8 neox", 1.5),
                 "prefill": ("prefill", "B64 q4 kv8192 32/8 p16 causal", 1.5)}
        ceilings = [line("read 4 GiB", 1000, 4.3, "read"), line("8192^3 bf16", 1500, None, "gemm", TFLOPs=750)]
        for target, (family, case, limit) in names.items():
            here = limit / 2.039 * 4.8
            for rate, there, scaled in ((limit - .01, False, False), (limit + .01, True, False), (here - .01, True, False),
                                        (here + .01, True, True)):
                with self.subTest(target=target, rate=rate):
                    shown, told = self.verdicts(line(case, 1000, rate, family), *ceilings)
                    self.assertEqual(told.pop(target), (there, scaled))
                    self.assertEqual(shown.pop(target), tuple("pass" if v else "fail" for v in (there, scaled)))
                    self.assertEqual(set(shown.values()), {("not measured", "not measured")})
                    self.assertEqual(set(told.values()), {(None, None)})

    def test_what_does_not_count(self):
        ceilings = [line("read 4 GiB", 1000, 4.3, "read"), line("8192^3 bf16", 1500, None, "gemm", TFLOPs=750)]
        for what, l in {"latency": line(us=15, rate=3.0), "L2": line("B32 kv2048 32/8 p16 warm", 100, 6.0, "graph"),
                        "others": line(backend="FlashInfer"),
                        "no target": line("B64 x 1 tokens 8 heads p16", 99, 3, "append"),
                        "arithmetic": line("B2 S8192 32/8 p16 causal", 900, 2, "prefill"),
                        "no rate": line(rate=None)}.items():
            with self.subTest(what=what):
                self.assertEqual(set(self.verdicts(l, *ceilings)[1].values()), {(None, None)})

    def test_a_gpu_whose_peak_is_not_known(self):
        shown, told = self.verdicts(line(rate=2.0), machine={"gpu": "GPU of tomorrow"})
        self.assertEqual((shown["decode"], told["decode"]), (("pass", "-"), (True, None)))

class Against(Report):
    def against(self, before, now, *args, code=0):
        """the words of each change"""
        self.report(*before, out="old")
        text, page, report = self.report(*now, out="new", args=("--against", "old.json", *args), code=code)
        self.assertIn("Against old.json:", text)
        changes = [w["change"] for w in report["against"]["works"]]
        self.assertEqual([r[0] for r in self.rows(page, "Against an older report")[1:]], changes)
        return changes

    def test_slower_faster_and_within_the_noise(self):
        runs = lambda *times: [line(us=us, run=i) for i, us in enumerate(times)]
        tight, slower, within = runs(100, 100.5, 101), runs(110, 110.5, 111), runs(101, 101.5, 102)
        self.assertEqual(self.against(tight, slower), ["slower"])
        self.assertEqual(self.against(tight, slower, "--strict", code=1), ["slower"])
        self.assertEqual(self.against(slower, tight, "--strict"), ["faster"])
        self.assertEqual(self.against(tight, within, "--strict"), ["within the noise"])
        self.assertEqual(self.against(tight, tight, "--strict"), ["within the noise"])
        wide = runs(95, 100.5, 106)  # a spread of 11: a change of 10 is not seen, on whichever side it is
        self.assertEqual(self.against(wide, slower, "--strict"), ["within the noise"])
        self.assertEqual(self.against(tight, runs(105, 110.5, 116), "--strict"), ["within the noise"])
        self.assertEqual(self.against(wide, runs(112, 112.5, 113), "--strict", code=1), ["slower"])

    def test_one_run_is_not_judged_and_strict_does_not_call_it_good(self):
        self.assertEqual(self.against([line(us=100)], [line(us=300)]), ["one run: not judged"])
        self.assertEqual(self.against([line(us=100)], [line(us=300)], "--strict", code=77), ["one run: not judged"])

    def test_new_and_gone_works(self):
        twice = [line(us=1), line(us=1)]
        changes = self.against([*twice, line("B1 kv1 32/8 p16")], [*twice, line("B1 kv2 32/8 p16")])
        self.assertEqual(changes, ["within the noise", "new", "gone"])

    def test_refusals(self):
        self.report(line(), out="old", machine={**H200, "gpu": "NVIDIA A100-SXM4-80GB"})
        write("lines.jsonl", line())
        report = ["report", "--lines", "lines.jsonl", "--against"]
        self.refuses(*report, "old.json", says=["--against", "NVIDIA A100", "NVIDIA H200", "two machines"])
        self.refuses(*report, "lines.jsonl", says=["--against", "lines.jsonl", "the JSON of a report"])
        self.refuses(*report, "missing.json", says=["missing.json"])
        for name, change in {"format": {"format": "flashladder report 2"}, "works": {"works": 3},
                             "machines": {"machines": None}}.items():
            pathlib.Path("bad.json").write_text(json.dumps(json.loads(pathlib.Path("old.json").read_text()) | change))
            self.refuses(*report, "bad.json", says=["bad.json", name])
        self.refuses("report", "--lines", "lines.jsonl", "--strict", says=["--strict", "--against"])

class Odd(Report):
    def test_one_line_says_what_was_not_measured(self):
        _, page, report = self.report(line("B1 kv77 32/8 p16", 1234.0, None))
        text = "".join(page.find("body").itertext())
        for words in ("No line of attention has a rate", "No case was run by two rungs",
                      "No two decode lines differ in kv_len", "No two prefill lines", "No line of RMSNorm",
                      "None of these lines carries an error"):
            self.assertIn(words, text)
        self.assertEqual(list(page.iter("{http://www.w3.org/2000/svg}svg")), [])
        self.assertEqual([r[1] for r in self.rows(page, "The machine")[3:6]], ["not measured"] * 3)
        self.assertEqual(set(report["ceilings"].values()), {None})
        numbers = re.findall(r"\d+(?:\.\d+)?", " ".join(sum(self.rows(page, "Every line"), [])))
        self.assertEqual(numbers, ["1", "77", "32", "8", "16", "6", "1234", "1234", "1234", "1"])

    def test_names_with_marks_of_html_csv_and_spreadsheets(self):
        evil = 'B1 <b>kv</b> & "9" \'p16\' `x` </svg><script>alert(1)</script> \u202e'
        _, page, report = self.report(line(evil, backend='=cmd|"x"'), line(evil, backend="flashladder D1"), line(evil, 50.0))
        self.assertEqual({w["case"] for w in report["works"]}, {evil})
        table = list(csv.DictReader(pathlib.Path("r.csv").read_text().splitlines()))
        self.assertEqual([r["backend"] for r in table], [' =cmd|"x"', "flashladder D1", "flashladder D6"])
        self.assertIn("<b>kv</b>", self.rows(page, "Every line")[1][1])

    def test_huge_and_tiny_numbers_break_no_picture(self):
        extremes = [line(f"B{n} kv{10 ** n} 32/8 p16", us, rate) for n, (us, rate) in
                    enumerate([(1e300, 1e300), (1e-300, 1e-300), (5.0, 1e-305), (1.5e308, 3.0)])]
        _, page, _ = self.report(*extremes, line("read 4 GiB", 1e-9, 1e250, "read"),
                                 line("8192^3", 1, None, "gemm", TFLOPs=1e308))
        self.assertEqual(len(self.rows(page, "Every line")), 7)

    def test_lines_without_a_time_are_counted_not_hidden(self):
        text, page, report = self.report(line(), line(us=None), {"target": "all", "cpu_s": 3})
        self.assertEqual((report["measurements"], report["left_out"]), (1, 2))
        self.assertIn("2 lines without a time left out", text)
        self.assertIn("2 lines without a time left out", "".join(page.itertext()))

    def test_bad_lines_are_refused_by_file_and_line(self):
        def refused(text, *says):
            pathlib.Path("bad.jsonl").write_text(text)
            self.refuses("report", "--lines", "bad.jsonl", "--out", "bad", says=["bad.jsonl", *says])
        machine, good = json.dumps(H200) + "\n", json.dumps(line())
        refused("", "holds no measurement")
        refused(machine, "holds no measurement")
        refused(machine + json.dumps(line(us=None)), "holds no measurement")
        refused(good, "line 1", "machine")
        refused(machine + good + "\n[1]", "line 3", "object")
        refused(machine + good[:-4], "line 2")
        for us in ("NaN", "Infinity", "0", "-3", '"12"', "1e999", "[1]", "true"):
            refused(machine + good.replace("100.0", us), "line 2")
        refused(machine + good.replace("3.0", "NaN"), "line 2")
        refused(machine + good.replace("3.0", '"fast"'), "line 2", "TBps")
        refused(machine + json.dumps(line(error=-1)), "line 2", "error")
        refused(machine + json.dumps({**line(), "case": 3}), "line 2", "case")
        refused(machine + good + "\n" + json.dumps({**H200, "gpu": "another"}) + "\n" + good, "line 3", "one machine")

    def test_bad_use_is_refused(self):
        write("lines.jsonl", line())
        self.refuses("report", "--lines", "missing.jsonl", says=["missing.jsonl"])
        self.refuses("report", "--lines", "lines.jsonl", "--rounds", "3", says=["--rounds", "--lines"])
        self.refuses("report", "--lines", "lines.jsonl", "--out", "", says=["--out"])
        self.refuses("report", "--lines", "lines.jsonl", "--out", "no/such/folder", says=["no/such/folder"])
        self.refuses("report", "--rounds", "0", says=["--rounds"])
        pathlib.Path("x.csv").write_text(pathlib.Path("lines.jsonl").read_text())
        self.refuses("report", "--lines", "x.csv", "--out", "x", says=["--out", "x.csv", "overwritten"])

    def test_an_error_near_its_tolerance_is_shown(self):
        _, page, _ = self.report(line(error=0.002, tolerance=0.004), line(run=2, error=0.003, tolerance=0.004))
        self.assertEqual(self.rows(page, "Errors")[1], ["B32 kv2048 32/8 p16", "flashladder D6", "0.003", "0.004"])


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    ran, failed, skipped = result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)
    print(f"test cases: {ran} | {ran - failed - skipped} passed | {failed} failed | {skipped} skipped")
    sys.exit(1 if failed or not ran else 0)
