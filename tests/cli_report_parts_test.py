#!/usr/bin/env python3
"""More of `flashladder report` from outside:  cli_report_parts_test.py PROGRAM SOURCE_ROOT    (helpers: cli_report_test.py)

Lanes of plans, ceilings, errors against double; the report at the end of `climb --bench`.
"""
import csv, json, pathlib, re, sys, unittest
from cli_report_test import H200, Report, line, write

SVG = "{http://www.w3.org/2000/svg}"

class Lanes(Report):
    # 2 us and 10 ns a key, but lane 3, which takes 9 us less, and lane 1, which has nothing to do
    LANES = {"family": "lanes", "case": "mixed16 32/8 p16", "backend": "flashladder D6", "policy": "balanced",
             "predicted": [1000, 0, 3000, 2000, 2000, 3000, 1000], "begin_us": [0, 0, 1, 0, 0, 0, 0],
             "end_us": [12, 0, 33, 13, 31, 32, 12]}

    def test_columns_are_measured_and_marks_predicted_lane_by_lane(self):
        text, page, report = self.report(line(), self.LANES)
        self.assertIn("1 line of 1 work.", text)
        self.assertEqual(report["lanes"], [self.LANES])
        chart = [e for e in page.iter(SVG + "svg") if "policy balanced" in e.get("aria-label")]
        self.assertEqual(len(chart), 1)
        bars = [e for e in chart[0].iter(SVG + "rect") if e.find(SVG + "title") is not None]
        bottom = float(bars[0].get("y")) + float(bars[0].get("height"))
        unit = float(bars[0].get("height")) / 12
        ends = [(bottom - float(b.get("y"))) / unit for b in bars]
        begins = [end - float(b.get("height")) / unit for b, end in zip(bars, ends)]
        self.assertEqual([round(t) for t in begins + ends], self.LANES["begin_us"] + self.LANES["end_us"])
        marks = [round((bottom - float(re.match(r"M[\d.]+ ([\d.]+)", m.get("d"))[1])) / unit) for m in chart[0].iter(SVG + "path")
                 if m.get("stroke") == "#d55e00"]
        # a line by least squares through (1000, 12) twice, (2000, 13), (2000, 31), (3000, 32) twice: 2 us + 10 ns a key
        self.assertEqual(marks, [12, 0, 33, 22, 22, 32, 12])
        self.assertEqual([b.find(SVG + "title").text.split(":")[0] for b in bars], [f"CTA {i}" for i in range(7)])

    def test_lanes_are_refused_by_line_and_key_and_are_no_report_alone(self):
        for key, value in (("predicted", [1, 2]), ("begin_us", 3), ("end_us", [0] * 7), ("policy", 1), ("end_us", ["x"] * 7)):
            write("lanes.jsonl", line(), {**self.LANES, key: value})
            self.refuses("report", "--lines", "lanes.jsonl", says=["lanes.jsonl", "line 3", "_us" if key == "predicted" else key])
        write("lanes.jsonl", self.LANES)
        self.refuses("report", "--lines", "lanes.jsonl", says=["no report"])
        write("lines.jsonl", line())
        self.run_program("report", "--lines", "lines.jsonl,lanes.jsonl", "--out", "both")
        self.assertEqual(len(json.loads(pathlib.Path("both.json").read_text())["lanes"]), 1)

class Ceilings(Report):
    def roofs(self, *lines, machine=H200):
        page = self.report(line(rate=3.0), line("read 4 GiB", 1000, 4.3, "read"), *lines, machine=machine)[1]
        texts = [e.text for e in page.iter(SVG + "text")]
        return [t for t in texts if t.endswith("TFLOP/s") and t != "TFLOP/s"], self.rows(page, "The machine")

    def test_a_computed_ceiling_is_named_so_and_stands_back_where_one_was_measured(self):
        computed, gemm = {**H200, "computed_TFLOPs": 1070.0}, line("8192^3 f16", 1500, None, "gemm", "cuBLAS", TFLOPs=750)
        self.assertEqual(self.roofs()[0], [])
        drawn, rows = self.roofs(machine=computed)
        self.assertEqual(drawn, ["computed, not measured: 1070 TFLOP/s"])
        self.assertIn(["GEMM", "not measured", "-", "-"], rows)
        self.assertIn(["tensor cores, computed from clock and SMs", "1070", "TFLOP/s", "not measured"], rows)
        drawn, rows = self.roofs(gemm, machine=computed)
        self.assertEqual(drawn, ["GEMM 750 TFLOP/s"])
        self.assertIn(["GEMM", "750.0", "TFLOP/s", "8192^3 f16"], rows)

class Errors(Report):
    def test_errors_against_double_are_drawn_with_those_of_others(self):
        _, page, report = self.report(line(max_error=3e-4, rms_error=1e-5), line(run=2, max_error=2e-4, rms_error=2e-5),
                                      {"family": "error", "case": "B32 kv2048 32/8 p16", "backend": "cuDNN", "max_error": 4e-4,
                                       "rms_error": 3e-5})
        self.assertEqual(report["errors"], [{"case": "B32 kv2048 32/8 p16", "backend": b, "max_error": m, "rms_error": r}
                                            for b, m, r in (("flashladder D6", 3e-4, 1e-5), ("cuDNN", 4e-4, 3e-5))])
        self.assertEqual((report["measurements"], report["left_out"]), (2, 0))
        self.assertEqual(self.rows(page, "Errors")[1:], [["B32 kv2048 32/8 p16", "flashladder D6", "3.0e-04", "1.0e-05"],
                                                         ["B32 kv2048 32/8 p16", "cuDNN", "4.0e-04", "3.0e-05"]])
        titles = [e.get("aria-label") for e in page.iter(SVG + "svg")]
        self.assertTrue(any(t.startswith("Largest distance of o from double") for t in titles), titles)
        table = list(csv.DictReader(pathlib.Path("r.csv").read_text().splitlines()))
        self.assertEqual((table[0]["max_error"], table[0]["rms_error"]), ("0.0003", "1e-05"))

class Ladders(Report):
    def test_both_ladders_of_a_gpu_and_rungs_of_one_case_are_no_curve(self):
        rung = lambda family, case, name, us: line(case, us, 1.0, family, f"flashladder {name}")
        ladder = [rung("prefill-ladder", f"B1 S{length} 32/8 p16 causal", name, us)
                  for length in (2048, 8192) for name, us in (("P1", 900), ("P2", 90), ("P10", 30))]
        ladder += [rung("decode", "B32 kv2048 32/8 p16", name, us) for name, us in (("D2", 60), ("D1", 90))]
        page = self.report(*ladder)[1]
        titles = [e.get("aria-label") for e in page.iter(SVG + "svg")]
        self.assertTrue(any(t.startswith("The ladder on B32 kv2048") for t in titles), titles)
        self.assertTrue(any(t.startswith("The ladder on B1 S2048") for t in titles), titles)
        self.assertFalse(any(t.startswith("Prefill over sequence length") for t in titles), titles)
        rungs = [r[0] for r in self.rows(page, "The ladder") if r[0] != "rung"]
        self.assertEqual(rungs, ["D1", "D2", "P1", "P2", "P10"])

    def test_a_plug_in_of_the_drawn_case_is_its_ladder_s_last_bar(self):
        named = lambda backend, us, case="B32 kv2048 32/8 p16": line(case, us, 1.0, "decode", backend)
        page = self.report(named("plug-in mine", 30), named("flashladder D2", 60), named("flashladder D1", 90),
                           named("plug-in mine", 45), named("plug-in elsewhere", 1, "B1 kv2048 32/8 p16"))[1]
        rows = [[r[0], r[2], r[3], r[4]] for r in self.rows(page, "The ladder")[1:]]
        self.assertEqual(rows, [["D1", "90.00", "-", "1.000x"], ["D2", "60.00", "1.500x", "1.500x"],
                                ["plug-in mine", "45.00", "1.333x", "2.000x"]])  # over D2, the highest rung
        chart = [e for e in page.iter(SVG + "svg") if e.get("aria-label").startswith("The ladder on")]
        self.assertEqual([t.text for t in chart[0].iter(SVG + "text") if t.text.startswith(("D", "plug-in"))],
                         ["D1", "D2", "plug-in mine"])

TEMPLATE = str(pathlib.Path(sys.argv[1]).resolve().parent.parent / "tests/plugins/plugin_template.so")

class Climb(Report):
    def test_climb_bench_ends_with_the_report(self):
        self.run_program("case", "make", "--kv", "40x2", "--out", "small.safetensors")
        answer = json.loads(self.measures("climb", "--in", "small.safetensors", "--html", "out/climb.html", "--bench",
                                          "--json", "--plugin", TEMPLATE))
        self.assertEqual(answer["report"], str(pathlib.Path("out/report.html").resolve()))
        self.everything_is_drawn(self.page("out/report"), ["decode", "prefill"])
        report = json.loads(pathlib.Path("out/report.json").read_text())
        self.assertEqual({w["runs"] for w in report["works"]}, {2})
        mine, top = ({w["case"]: w for w in report["works"] if w["backend"].startswith(who)}
                     for who in ("plug-in mine", "flashladder C4"))
        self.assertEqual(list(mine), list(top))
        self.assertTrue(all(0 <= w["error"] <= w["tolerance"] for w in mine.values()), mine)
        self.assertEqual([r[0] for r in self.rows(self.page("out/report"), "The ladder")].count("plug-in mine"), 2)
        self.assertNotIn("report", self.json("climb", "--in", "small.safetensors", "--html", "out/climb.html"))
        pathlib.Path("held/report.csv").mkdir(parents=True)
        self.refuses("climb", "--in", "small.safetensors", "--html", "held/climb.html", "--bench", says=["report.csv"])
        self.refuses("report", "--lines", "out/report.jsonl", "--plugin", TEMPLATE, says=["--plugin", "with --lines"])
        self.refuses("report", "--time-limit", "3", says=["--time-limit", "without --plugin"])


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    ran, failed, skipped = result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)
    print(f"test cases: {ran} | {ran - failed - skipped} passed | {failed} failed | {skipped} skipped")
    sys.exit(1 if failed or not ran else 0)
