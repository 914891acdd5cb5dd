#!/usr/bin/env python3
"""Tests what happens to bad input at the terminal:  cli_faults_test.py PROGRAM SOURCE_ROOT    (helpers: cli_test.py)

Batches of nothing, numbers that don't fit, options without effect, outputs that can't be written or are an input, text of a
file that would move the cursor, an interrupt, lines that are too long.
"""
import itertools, os, pathlib, re, signal, struct, subprocess, sys, time, unittest
from cli_test import PROGRAM, DECODE, SAMPLE, Cli, read_safetensors, write_safetensors

def integers(*values):
    return ("I32", [len(values)], struct.pack(f"<{len(values)}i", *values))

def write_case(path, requests=1, metadata={}, expected=False):
    """Zeros: `requests` requests of one query, 4 heads of 16, and 3 keys of 2 heads in a page of 4."""
    tensors = {"q": ("F16", [requests, 4, 16], bytes(128 * requests)), "kv_cache": ("F16", [1, 2, 4, 2, 16], bytes(512)),
               "qo_indptr": integers(*range(requests + 1)), "paged_kv_indptr": integers(*range(requests + 1)),
               "paged_kv_indices": integers(*[0] * requests), "paged_kv_last_page_len": integers(*[3] * requests)}
    if expected:
        tensors["expected_o"] = ("F32", [requests, 4, 16], bytes(256 * requests))
        tensors["expected_lse_log2"] = ("F32", [requests, 4], bytes(16 * requests))
    write_safetensors(path, metadata, tensors)

class Empty(Cli):
    def test_a_batch_of_nothing_is_shown_verified_and_drawn(self):
        for expected in False, True:
            write_case("none.safetensors", 0, {"x-tokens": "no list"}, expected)
            self.assertIn("B0 4/2 p4 d16", self.run_program("run", "--in", "none.safetensors", "--out", "a.safetensors")[0])
            self.assertEqual(read_safetensors("a.safetensors")[1]["o"][1], [0, 4, 16])
            for command in ("run", "--in"), ("case", "show"), ("verify", "--in"), ("climb", "--in"):
                self.run_program(*command, "none.safetensors")
                self.json(*command, "none.safetensors")
            self.assertEqual(self.json("case", "show", "none.safetensors")["case"], "B0 4/2 p4 d16")

    def test_requests_without_keys_or_queries_are_too(self):
        for lengths in ("--kv", "0,0"), ("--kv", "5,0", "--qo", "0,1"), ("--kv", "3", "--qo", "0"):
            self.run_program("case", "make", *lengths, "--heads", "2", "--out", "e.safetensors")
            for command in ("run", "--in"), ("case", "show"), ("verify", "--in"), ("climb", "--in"):
                self.run_program(*command, "e.safetensors")
            self.run_program("plan", *lengths, "--heads", "2", "--policy", "all", "--explain")
            self.run_program("plan", *lengths, "--heads", "2")
            self.run_program("bench", *lengths, "--heads", "2", "--rounds", "1", "--no-plan")
        self.refuses("plan", "--kv", "", says=["--kv", "must not be empty"])
        pathlib.Path("no.txt").write_text(" ,\n")
        self.refuses("plan", "--kv", "@no.txt", says=["--kv", "at least one length"])

class Numbers(Cli):
    def test_numbers_are_read_as_they_are_written_or_refused(self):
        for option, values in (("--seed", ["-1", "18446744073709551616", "9" * 23, "1e3", "0x1", "+1", " 1", "1 ", "01"]),
                               ("--page", ["010", "0", "-1", "2147483648", "4294967312", "1.0", "0x10", "16 "]),
                               ("--window", ["-2", "+3", "1e2", "99999999999"]),
                               ("--sm-scale", ["1e-50", "1e-40", "-1e-46", "1e39", "inf", "nan", "0x1p-3", "+1", "00.5"]),
                               ("--soft-cap", ["1e-50", "1e-400", "infinity", "30 "]),
                               ("--threads", ["-1", "1025", "99999999999", "02"])):
            for value in values:
                with self.subTest(option=option, value=value):
                    self.refuses("plan", "--kv", "5", option, value, says=[option, f'"{value}"'])
        for lengths in "0512", "5,+6", "0x1f", "1e3", "2147483648", "lognormal:03", "lognormal:3:-1", "7x02":
            self.refuses("plan", "--kv", lengths, "--no-run", says=["--kv"])
        self.run_program("plan", "--kv", "5", "--no-run", "--sm-scale", "0.125", "--seed", "18446744073709551615")

    def test_tables_keep_numbers_and_end_where_they_end(self):
        case = '[{"kv_lens": [5], "num_qo_heads": 2, "head_dim": 16%s}]%s'
        for more, end, says in (("", "\0 x", ["NUL"]), ("", "\0", ["NUL"]), ("", " x", ["not valid JSON"]),
                                (', "logits_soft_cap": 1e-50', "", ["logits_soft_cap", "too small"]),
                                (', "logits_soft_cap": 1e-400', "", ["too small"]), (', "page_size": 010', "", ["JSON"]),
                                (', "sm_scale": 1e-40', "", ["sm_scale", "too small"]), (', "hd": 3', "", ['"hd"']),
                                (', "name": "\x1b[2J"', "", ["not valid JSON"])):
            pathlib.Path("t.json").write_text(case % (more, end))
            self.refuses("verify", "--cases", "t.json", says=["t.json", *says])
        pathlib.Path("t.json").write_text(case % ("", "\n"))
        self.run_program("verify", "--cases", "t.json")

class Idle(Cli):
    def test_options_without_effect_are_refused(self):
        write_case("c.safetensors")
        for args in (("verify", "--in", "c.safetensors", "--causal", "--window", "3"), ("verify", "--causal"),
                     ("verify", "--seed", "3"), ("bench", "--dtype", "f16", "--heads", "4"), ("bench", "--policy", "none"),
                     ("bench", "--chunk", "64"), ("bench", "decode", "--no-plan"), ("bench", "norm", "--rung", "C4"),
                     ("bench", "decode", "--list", "--rounds", "3"), ("bench", "decode", "--chunk", "128"),
                     ("plan", "--kv", "5", "--chunk", "64"), ("plan", "--kv", "5", "--target", "64"),
                     ("plan", "--kv", "5", "--no-run", "--threads", "1"), ("plan", "--kv", "5", "--trace", "x.csv"),
                     ("plan", "--kv", "5", "--data", "data"), ("climb", "--in", "c.safetensors", "--data", "data"),
                     ("case", "make", "fp16", "--seed", "2", "--out", "x"), ("run", "--in", "c.safetensors", "--native"),
                     ("run", "--in", "c.safetensors", "--rung", "C1", "--threads", "2")):
            with self.subTest(args=args):
                self.refuses(*args, says=["--", "has no effect"])
        self.run_program("verify", "--random", "1", "--seed", "3", "--rung", "C1,C2")
        self.refuses("plan", "--kv", "5", "--kv", "6", says=["--kv", "more than once"])
        for option in "--in", "--out", "--rung":
            self.refuses("run", "--in", "c.safetensors", *([] if option == "--in" else [option, ""]),
                         *(["--in", ""] if option == "--in" else []), says=[option])

class Outputs(Cli):
    def test_an_input_is_never_overwritten(self):
        write_case("c.safetensors")
        os.symlink("c.safetensors", "soft")
        os.link("c.safetensors", "hard")
        before = pathlib.Path("c.safetensors").read_bytes()
        for name, out in itertools.product(("c.safetensors", "soft"), ("c.safetensors", "./c.safetensors", "soft", "hard")):
            self.refuses("run", "--in", name, "--out", out, says=["--out", "same file as --in"])
            self.refuses("climb", "--in", name, "--html", out, says=["--html", "same file as --in"])
        pathlib.Path("kv").write_text("3,4")
        self.refuses("plan", "--kv", "1,@kv", "--explain", "kv", says=["--explain", "same file as --kv"])
        self.refuses("case", "make", "--kv", "@kv", "--out", "kv", says=["--out", "same file as --kv"])
        pathlib.Path("t.json").write_text(self.run_program("case", "list", "--json")[0])
        self.refuses("case", "make", "fp16", "--from", "t.json", "--out", "t.json", says=["same file as --from"])
        self.refuses("bench", "--cases", "t.json", "--jsonl", "t.json", says=["--jsonl", "same file as --cases"])
        self.assertEqual(pathlib.Path("c.safetensors").read_bytes(), before)

    def test_what_cannot_be_written_is_found_before_the_work(self):
        write_case("c.safetensors")
        pathlib.Path("t.json").write_text('[{"kv_lens": [100000], "num_qo_heads": 32, "head_dim": 128}]')
        for path in "missing/x", ".", "-", "", "c.safetensors/x", "n" * 300:
            for args in (("run", "--in", "c.safetensors", "--out"), ("bench", "--cases", "t.json", "--jsonl"),
                         ("plan", "--kv", "2000000x8", "--explain"), ("case", "make", "--kv", "100000", "--out")):
                begin = time.monotonic()
                self.refuses(*args, path, says=[path or '""'])
                self.assertLess(time.monotonic() - begin, 2, args)
        for path in "", "-", "c.safetensors/x/y.html":
            self.refuses("climb", "--in", "c.safetensors", "--html", path, says=["--html"])
        self.run_program("climb", "--in", "c.safetensors", "--html", "new/folder/page.html")
        self.assertEqual(os.listdir("new/folder"), ["page.html"])

    def test_an_interrupt_leaves_no_half_a_file(self):
        for number in signal.SIGINT, signal.SIGTERM:
            program = subprocess.Popen([PROGRAM, "case", "make", "--kv", "60000", "--heads", "8", "--out", "big"])
            while program.poll() is None and not any(".writing-" in name for name in os.listdir()):
                time.sleep(0.001)
            program.send_signal(number)
            self.assertIn(program.wait(), (-number, 0))  # 0: the file was whole before the signal came
            self.assertEqual([name for name in os.listdir() if ".writing-" in name], [])

    def test_one_policy_that_cannot_plan_is_named(self):
        batch = ("plan", "--kv", "2147483647x8", "--page", "1024", "--no-run")
        for policy in "all", "balanced":
            text = self.run_program(*batch, "--policy", policy, "--explain", policy + ".svg")[0]
            self.assertIn("Policy fixed can't plan this batch: ", text)
            self.assertIn("\nbalanced ", text)
            self.assertTrue(os.path.exists(policy + ".svg"))
        plans = self.json("plan", "--kv", "500", "--policy", "all", "--chunk", "100")["plans"]
        self.assertEqual([p["policy"] for p in plans if "refused" in p], ["fixed"])
        self.refuses(*batch, "--policy", "fixed", says=["work items"])

class Quoting(Cli):
    def test_no_escape_code_and_no_new_line_of_a_file_reaches_the_terminal(self):
        name = "\x1b[2Jx\r\ny\x07\u202e\u0085"
        write_case("c.safetensors", 1, {"x-name": name, "x-model": name, "x-tokens": name, "x-\x1bkey": name}, expected=True)
        commands = [("run", "--in"), ("case", "show"), ("verify", "--in"), ("climb", "--in")]
        for command in commands:
            text, said = self.run_program(*command, "c.safetensors", code=1 if command[0] != "case" else 0)
            for bad in "\x1b", "\x07", "\r", "\u202e", "\u0085", "2Jx\n":
                self.assertNotIn(bad, text + said, command)
            self.assertIn("\\x1b[2Jx\\r\\ny\\x07\\u202e\\u0085", text)
        self.assertNotIn("\x1b", pathlib.Path("out/climb.html").read_text())
        write_safetensors("t.safetensors", {}, {"\x1b[31m": integers(1), **read_safetensors(DECODE)[1]})
        self.refuses("run", "--in", "t.safetensors", says=["\\x1b[31m"])
        self.refuses("plan", "--kv", "\x1b[31m\n", says=["\\x1b[31m\\n"])
        self.refuses("verify", "--\x1b[31m", says=["\\x1b[31m"])

    def test_a_file_name_that_is_not_utf8_runs(self):
        write_case(b"\xff\x1b.safetensors")
        self.assertIn("\\xff\\x1b", self.run_program("run", "--in", b"\xff\x1b.safetensors", "--out", b"\xfe")[0])
        self.assertTrue(os.path.exists(b"\xfe"))

class Plugin(Cli):
    def test_what_is_no_plugin_or_has_no_effect_is_refused(self):
        pathlib.Path("text.so").write_text("no library")
        pathlib.Path("taken").write_text("a file")
        self.refuses("verify", "--plugin", "none.so", says=["--plugin", "none.so", "can't be loaded"])
        self.refuses("verify", "--plugin", "text.so", says=["--plugin", "text.so", "can't be loaded", "a .so", "or a .py"])
        self.refuses("verify", "--time-limit", "3", says=["--time-limit", "without --plugin"])
        self.refuses("verify", "--failures", "x", says=["--failures", "without --plugin"])
        self.refuses("verify", "--plugin", "text.so", "--rung", "C1", says=["--rung", "beside --plugin"])
        self.refuses("verify", "--plugin", "text.so", "--threads", "2", says=["--threads", "beside --plugin"])
        self.refuses("verify", "--plugin", "text.so", "--time-limit", "0", says=["--time-limit", "more than 0"])
        self.refuses("verify", "--plugin", "text.so", "--failures", "taken", says=["--failures", "taken", "no folder"])
        for command in ("bench", "--kv", "3"), ("bench", "decode"), ("climb",):
            self.refuses(*command, "--plugin", "text.so", says=["--plugin", "text.so", "can't be loaded"])
            self.refuses(*command, "--plugin", "mine.py", says=["--plugin", "mine.py", "verified and not timed"])
            self.refuses(*command, "--time-limit", "3", says=["--time-limit", "without --plugin"])
            self.refuses(*command, "--plugin", "text.so", "--time-limit", "0", says=["--time-limit", "more than 0"])
        self.refuses("bench", "norm", "--plugin", "text.so", says=["FAMILY = norm", "plug-ins", "decode"])
        self.refuses("bench", "decode", "--list", "--plugin", "text.so", says=["--plugin", "has no effect with --list"])

    def library(self, name, which):
        """A library of tests/plugins, told which of its plug-ins it is."""
        os.environ["FLASHLADDER_TEST_PLUGIN"] = which
        self.addCleanup(os.environ.pop, "FLASHLADDER_TEST_PLUGIN", None)
        return str(pathlib.Path(PROGRAM).resolve().parent.parent / "tests/plugins" / f"plugin_{name}.so")

    def test_a_failure_s_page_says_what_it_looks_like_and_what_went_in(self):
        for name, which, says in (("mutant", "scale_lost", "It looks like scale_lost ("),
                                  ("wrong", "one key ahead", "It is none of the known mistakes: not recognised.")):
            text = self.run_program("verify", "--plugin", self.library(name, which), "--kv", "4", "--qo", "3", "--causal",
                                    "--heads", "1", "--dim", "2", "--dtype", "f32", code=1)[0]
            page = pathlib.Path(re.search(r"picture +(\S+)", text)[1]).read_text()
            self.assertIn(says, " ".join(text.split()))
            self.assertIn(f"<p>{says}", page)
            inputs = re.search(r"Inputs</h2>.*?</table>", page, re.S)[0]
            self.assertEqual(sorted(set(re.findall(r'<td class="s">(\w+)</td>', inputs))), ["k", "q", "v"])
            pictures = re.findall(r"<svg.*?</svg>", page, re.S)
            scales = [re.findall(r'<text [^>]*>([^<]+)</text>', p)[-5:] for p in pictures]
            self.assertEqual(scales[0], scales[1], "expected and got have one scale")
            self.assertNotEqual(scales[0], scales[2])
            for width in re.findall(r'<svg[^>]* width="(\d+)"', page):
                self.assertLess(int(width), 390 - 2 * 20, "wider than a phone's page without its edges")
            self.assertRegex(text, r"repeat .* --in failing/\S+  # in this folder\n")

    def test_a_slow_plug_in_with_a_long_name_fits_table_and_picture(self):
        self.run_program("case", "make", "--kv", "1", "--heads", "2", "--dim", "8", "--dtype", "f32", "--out",
                         "one.safetensors")
        for which in "nothing", "is slow and has a long name":
            text = self.run_program("climb", "--in", "one.safetensors", "--html", "c.html", "--plugin",
                                    self.library("ill_behaved", which))[0]
            rows = [l for l in text.splitlines() if re.match(r"(rung|C\d|slow_attention|ill) +(must|the|C\d)", l)]
            self.assertEqual(len({re.match(r"\S+ +", row).end() for row in rows}), 1, text)
            self.assertGreaterEqual(len(rows), 7, text)  # a head, C0 to C4 at least, the plug-in
            self.assertRegex(rows[-1], "^(slow_attention|ill) ")
        self.assertIn("The axis is logarithmic.", pathlib.Path("c.html").read_text())

class Width(Cli):
    def test_everything_fits_80_columns(self):
        self.run_program("case", "make", "fp16", "--out", "c.safetensors")
        for args in (("--help",), ("plan", "--help"), ("verify", "--help"), ("run", "--help"), ("bench", "--help"),
                     ("case", "--help"), ("case", "make", "--help"), ("case", "show", "--help"), ("climb", "--help"),
                     ("verify",), ("climb",), ("case", "list"), ("case", "show", "c.safetensors"), ("case", "show", DECODE),
                     ("run", "--in", DECODE), ("plan", "--kv", SAMPLE, "--explain"), ("plan", "--kv", "9x64", "--no-run"),
                     ("bench", "--kv", "64x3,5", "--rung", "C3,C4", "--rounds", "1"), ("bench", "decode", "--list")):
            for line in self.run_program(*args)[0].splitlines():
                if not line.startswith("/"):  # a path is kept in one piece
                    self.assertLessEqual(len(line), 80, (args, line))

    def test_unknown_words_are_named(self):
        self.refuses("-v", says=['"-v"', "unknown", "--help"])
        self.refuses("--versio", says=['"--versio"', "unknown"])
        self.refuses("case", "shw", says=['"shw"', "flashladder case --help"])
        self.refuses("plan", "--kv", says=["--kv", "wants a value"])
        self.refuses("run", says=["--in", "is missing"])
        self.refuses("plan", "--kv", "5", "--policy", "fixed", "--chunk", "100", says=["--chunk = 100", "multiple of 64"])


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    ran, failed, skipped = result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)
    print(f"test cases: {ran} | {ran - failed - skipped} passed | {failed} failed | {skipped} skipped")
    sys.exit(1 if failed or not ran else 0)
