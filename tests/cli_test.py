#!/usr/bin/env python3
"""Tests the program `flashladder` from outside:  cli_test.py PROGRAM SOURCE_ROOT

Every example of every --help, exit codes, the planner's sample, JSON, files that appear whole or not at all, no escape codes
in a pipe. Everything runs in a directory of its own that has the source tree's data/ in it.
"""
import functools, json, os, pathlib, pty, shlex, struct, subprocess, sys, tempfile, unittest, xml.etree.ElementTree

PROGRAM, ROOT = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
DECODE = "data/smollm2_decode.safetensors"
SAMPLE = "512,1024,2048,4096,512,512,1024,2048,512,1024,1024,2048,4096,8192,8192,16384"

def read_safetensors(path):
    """metadata, {name: (dtype, shape, bytes)}"""
    raw = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    data = raw[8 + size:]
    metadata = header.pop("__metadata__", {})
    return metadata, {n: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for n, t in header.items()}

def write_safetensors(path, metadata, tensors):
    header, data = {"__metadata__": metadata}, b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:  # also of a name that is not UTF-8
        file.write(struct.pack("<Q", len(text)) + text + data)

def tampered(path, tensor, change):
    """A copy of the decode case at path, in which change(bytearray) was done to one tensor."""
    metadata, tensors = read_safetensors(DECODE)
    dtype, shape, values = tensors[tensor]
    values = bytearray(values)
    change(values)
    write_safetensors(path, metadata, {**tensors, tensor: (dtype, shape, bytes(values))})

class Cli(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)
        os.symlink(ROOT / "data", "data")

    def run_any(self, *args):
        return subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=60)

    def run_program(self, *args, code=0):
        """stdout, stderr; checks the exit code, and that a pipe gets no escape codes."""
        done = self.run_any(*args)
        self.assertEqual(done.returncode, code, (args, done.stdout[-2000:], done.stderr))
        self.assertNotIn("\x1b", done.stdout + done.stderr, args)
        if code == 2:
            self.assertTrue(done.stderr.startswith("flashladder: "), (args, done.stderr))
        return done.stdout, done.stderr

    def refuses(self, *args, says):
        before = sorted(os.listdir())
        message = self.run_program(*args, code=2)[1]
        for words in says:
            self.assertIn(words, message, args)
        self.assertEqual(sorted(os.listdir()), before, "left something behind")

    def json(self, *args, code=0):
        return json.loads(self.run_program(*args, "--json", code=code)[0])

    @functools.cache
    def cpu_rungs(self):
        """The names of the CPU's rungs, in the ladder's order: the program's own list."""
        return [r["rung"] for r in self.json("verify", "--kv", "1")["rungs"] if r["device"] == "cpu"]

class Help(Cli):
    def commands(self, path=()):
        """Every command as a tuple of words, the program itself as (), with its help."""
        text = self.run_program(*path, "--help")[0]
        yield path, text
        if "Subcommands:\n" in text:
            for line in text.split("Subcommands:\n")[1].split("\n\n")[0].splitlines():
                if line[:2].isspace() and not line[2].isspace():  # not the rest of a help text
                    yield from self.commands((*path, line.split()[0]))

    def test_every_example_of_every_help_works(self):
        paths = []
        for path, text in self.commands():
            examples = [line for line in text.split("Example:\n")[1].splitlines() if line.startswith("  flashladder ")]
            self.assertTrue(examples, path)
            paths.append(path)
            for example in examples:
                with self.subTest(example=example):
                    self.run_program(*shlex.split(example)[1:])
        for name in "climb", "plan", "verify", "run", "bench", "report", "case":
            self.assertIn((name,), paths)

    def test_every_command_knows_its_version(self):
        version = self.run_program("--version")[0]
        self.assertRegex(version, r"^flashladder \d+\.\d+\.\d+\n$")
        for path, _ in self.commands():
            if len(path) < 2:
                self.assertEqual(self.run_program(*path, "--version")[0], version)

class Plan(Cli):
    def test_the_sample_is_planned_and_executed(self):
        text = self.run_program("plan", "--policy", "target", "--heads", "32", "--kv", SAMPLE)[0]
        for line in ("  Batch size: 16", "  Number of heads: 32",
                     "  Sequence lengths: [512, 1024, 2048, 4096, 512, 512, 1024, 2048]...", "  Total KV tokens: 53248",
                     "--- Planning Phase ---", "  Optimal chunk size: 4096", "  Generated 672 work descriptors",
                     "  Chunk size: 4096", "  Total work units: 672", "    Tier 0: 128 (19.0%)", "    Tier 1: 128 (19.0%)",
                     "    Tier 2: 96 (14.3%)", "    Tier 3: 320 (47.6%)", "    min=1, max=4, avg=1.3",
                     "    [0] req=0 head=0 kv=[0,512) tier=0 flags=0x03", "--- Execution Phase ---",
                     "  Execution complete!"):
            self.assertIn("\n" + line + "\n", text)
        self.assertIn("It equals C3", text)

    def test_json_has_every_key_once_and_every_item_in_a_queue(self):
        lens = [700, 0, 3000]
        for policy in "none", "fixed", "count", "target", "balanced", "even":
            plan = self.json("plan", "--policy", policy, "--kv", "700,0,3000", "--heads", "4/2", "--no-run")["plans"][0]
            keys = {}
            for part in plan["parts"]:
                for item in part["items"]:
                    keys.setdefault((item["request"], item["head"]), []).extend(range(*item["keys"]))
                self.assertEqual(sorted(part["queue"]), list(range(len(part["items"]))))
            self.assertEqual(sorted(keys), [(r, h) for r in range(3) for h in range(2)])
            for (request, _), seen in keys.items():
                self.assertEqual(seen, list(range(lens[request])), policy)

    def test_explain_draws_and_compares(self):
        text = self.run_program("plan", "--policy", "all", "--kv", "100,9000", "--sms", "4", "--explain")[0]
        self.assertTrue(xml.etree.ElementTree.parse("plan.svg").getroot().tag.endswith("svg"))
        rows = [row.split()[0] for row in text.split("\npolicy ")[1].splitlines()[1:] if row[:1].isalpha()]
        self.assertEqual(rows, ["none", "fixed", "count", "target", "balanced", "even"])
        self.assertTrue(text.rstrip().endswith("plan.svg"))

    def test_bad_input_is_refused(self):
        self.refuses("plan", says=["--kv"])
        self.refuses("plan", "--kv", "12,minus", says=["--kv", '"minus"', "must be a length"])
        self.refuses("plan", "--kv", "9", "--heads", "9/4", says=["--heads", "multiple"])
        self.refuses("plan", "--kv", "9", "--policy", "best", says=["policy", "best", "balanced"])
        self.refuses("plan", "--kv", "9", "--policy", "fixed", "--chunk", "0", says=["--chunk", "1 .. "])
        self.refuses("plan", "--kv", "9", "--page", "0", says=["--page", "1 .. "])
        self.refuses("plan", "--kv", "9", "--sm-scale", "nan", says=["--sm-scale"])
        self.refuses("plan", "--kv", "9", "--threads", "-1", says=["--threads", "-1", "0 .. 1024"])
        self.refuses("plan", "--kv", "9", "--no-run", "--explain", "missing/plan.svg", says=["missing/plan.svg"])
        self.run_program("plan", "--kv", "1000000x1000", "--no-run")
        self.assertIn("of memory", self.run_program("plan", "--kv", "1000000x1000", code=2)[1])

class Verify(Cli):
    def test_the_table_and_json(self):
        answer = self.json("verify")
        self.assertTrue(answer["ok"])
        cases = json.loads(self.run_program("case", "list", "--json")[0])
        latent = [c for c in cases if c.get("op") == "mla"]
        self.assertGreaterEqual(len(self.cpu_rungs()), 5)
        for rung in (r for r in answer["rungs"] if r["device"] == "cpu"):  # those of a GPU need one, and take other cases
            taken = latent if rung["rung"].startswith("L") else cases
            self.assertEqual((rung["cases"], rung["failures"]), (len(taken), []))
            self.assertLessEqual(rung["worst_error"], rung["tolerance"])

    def test_missing_gpu_rungs_are_explained(self):
        rungs = [r["rung"] for r in self.json("verify")["rungs"]]
        said = "No GPU rung ran: this build has no GPU code: " in self.run_program("verify")[0]
        self.assertEqual(said, "D1" not in rungs)
        if said:
            self.refuses("verify", "--rung", "D1", says=("is none of C0, ", "no GPU code"))

    def test_sources_add_up(self):
        pathlib.Path("table.json").write_text(self.run_program("case", "list", "--json")[0])
        self.run_program("case", "make", "fp16", "--from", "table.json", "--out", "fp16.safetensors")
        answer = self.json("verify", "--rung", "C2", "--in", "fp16.safetensors", "--kv", "30", "--random", "3")
        self.assertEqual([(r["rung"], r["cases"]) for r in answer["rungs"]], [("C2", 5)])

    def test_no_random_cases_are_refused(self):
        for number in "0", "-1", "-2", "1e2", "9" * 30:
            self.refuses("verify", "--random", number, says=["--random", number, "whole number, 1 .. 1000000"])

    def test_what_the_file_expects_counts(self):
        tampered("wrong.safetensors", "expected_o", lambda b: b.__setitem__(slice(0, 8), struct.pack("<d", 1e3)))
        answer = self.json("verify", "--in", "wrong.safetensors", code=1)
        for rung in (r for r in answer["rungs"] if r["device"] == "cpu"):
            self.assertEqual(len(rung["failures"]), 1)
            self.assertIn("request 0 query 0 head 0 feature 0", rung["failures"][0]["message"])

    def test_bad_input_is_refused(self):
        self.refuses("verify", "--rung", "C9", says=["C9", ", ".join(self.cpu_rungs())])
        pathlib.Path("table.json").write_text('[{"kv_lens": [4], "num_qo_heads": 1, "head_dim": 8, "colour": 1}]')
        self.refuses("verify", "--cases", "table.json", says=["table.json", "colour"])

class Run(Cli):
    def test_the_answer_has_its_form(self):
        text = self.run_program("run", "--in", DECODE, "--rung", "C3", "--out", "answer.safetensors")[0]
        self.assertIn("expected_o: worst error", text)
        metadata, tensors = read_safetensors("answer.safetensors")
        self.assertEqual({n: t[:2] for n, t in tensors.items()}, {"o": ("F32", [3, 9, 64]), "lse_log2": ("F32", [3, 9])})
        self.assertEqual((metadata["rung"], metadata["causal"]), ("C3", "1"))
        expected = struct.unpack("<1728d", read_safetensors(DECODE)[1]["expected_o"][2])
        got = struct.unpack("<1728f", tensors["o"][2])
        self.assertLess(max(abs(a - b) for a, b in zip(got, expected)), 1e-5)

    def test_another_answer_than_expected_is_1(self):
        for name, form, value in (("expected_o", "<d", 7.0), ("expected_lse_log2", "<d", float("nan"))):
            tampered("wrong.safetensors", name, lambda b: b.__setitem__(slice(8, 16), struct.pack(form, value)))
            answer = self.json("run", "--in", "wrong.safetensors", "--out", "answer.safetensors", code=1)
            self.assertFalse(answer["ok"] or answer[name]["ok"])
            self.assertTrue(os.path.exists("answer.safetensors"))

    def test_a_bad_case_names_its_rule_and_leaves_no_answer(self):
        run = ("run", "--in", "bad.safetensors", "--out", "answer.safetensors")
        for tensor, value, says in (("paged_kv_indices", 99, ["paged_kv_indices[0] = 99", "request 0", "pool"]),
                                    ("paged_kv_last_page_len", 17, ["page_len[0] = 17", "request 0", "page_size"]),
                                    ("qo_indptr", 1, ["qo_indptr", "start"])):
            tampered("bad.safetensors", tensor, lambda b: b.__setitem__(slice(0, 4), struct.pack("<i", value)))
            self.refuses(*run, says=["bad.safetensors", *says])
        pathlib.Path("bad.safetensors").write_bytes(pathlib.Path(DECODE).read_bytes()[:-1])
        self.refuses(*run, says=["bad.safetensors"])
        self.refuses("run", "--in", DECODE, "--out", "missing/answer.safetensors", says=["missing/answer.safetensors"])
        self.refuses("run", "--in", DECODE, "--rung", "C7", "--out", "answer.safetensors", says=["C7"])
        self.refuses("run", "--in", "nowhere.safetensors", says=["nowhere.safetensors"])

class Cases(Cli):
    def test_make_then_show(self):
        self.run_program("case", "make", "--kv", "5,40", "--heads", "4/2", "--page", "4", "--dtype", "f32",
                         "--out", "a.safetensors")
        shown = self.json("case", "show", "a.safetensors")
        self.assertEqual((shown["kv_lens"], shown["page_size"], shown["pages_in_pool"]), ([5, 40], 4, 24))
        self.assertEqual(shown["paged_kv_last_page_len"], [1, 4])
        text = self.run_program("case", "show", "a.safetensors")[0]
        cache = struct.unpack("<24576f", read_safetensors("a.safetensors")[1]["kv_cache"][2])  # [24, 2, 4, 2, 64]
        self.assertEqual(sum(x == x for x in cache), 45 * 2 * 2 * 64, "slots without a token are NaN")
        self.assertIn("24 pages of 4 tokens", text)
        self.refuses("case", "show", "no such case", says=["no such case"])
        self.refuses("case", "make", "--out", "b.safetensors", says=["NAME", "--kv"])
        self.refuses("case", "make", "fp16", "--kv", "3", "--out", "b.safetensors", says=["NAME", "--kv"])

class Climb(Cli):
    def test_table_and_page(self):
        text = self.run_program("climb")[0]
        self.assertEqual([line.split()[0] for line in text.splitlines() if line.endswith(" ok")], self.cpu_rungs())
        page = pathlib.Path(text.splitlines()[-1])
        self.assertEqual(page, pathlib.Path("out/climb.html").resolve())
        self.assertEqual(os.listdir("out"), ["climb.html"])
        html = page.read_text()
        self.assertGreaterEqual(html.count("<svg"), 8)
        for words in "the token before", "the sink", "The page table", "policy balanced":
            self.assertIn(words, html)

    def test_another_case_and_json(self):
        self.run_program("case", "make", "sinks", "--out", "sinks.safetensors")
        answer = self.json("climb", "--in", "sinks.safetensors", "--html", "page.html")
        self.assertEqual((answer["ok"], len(answer["rungs"])), (True, len(self.cpu_rungs())))
        self.assertTrue(os.path.exists("page.html"))
        tampered("wrong.safetensors", "expected_o", lambda b: b.__setitem__(slice(0, 8), struct.pack("<d", 9.0)))
        self.assertFalse(self.json("climb", "--in", "wrong.safetensors", code=1)["ok"])

    def test_no_data_is_refused(self):
        self.refuses("climb", "--data", "nowhere", says=["nowhere/smollm2_layer18.safetensors"])

class Terminal(Cli):
    def on_a_terminal(self, *args, **environment):
        if not os.path.exists("/dev/pts/ptmx"):
            self.skipTest("no pseudo-terminals here")
        controller, terminal = pty.openpty()
        env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | environment
        program = subprocess.Popen([PROGRAM, *args], stdout=terminal, stderr=terminal, env=env)
        os.close(terminal)
        output = b""
        try:
            while chunk := os.read(controller, 65536):
                output += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(controller)
        self.assertEqual(program.wait(), 0)
        return output

    def test_colour_only_where_it_is_wanted(self):
        self.assertIn(b"\x1b[32mok", self.on_a_terminal("verify", "--rung", "C1"))
        plain = self.on_a_terminal("verify", "--rung", "C1", NO_COLOR="1")
        self.assertNotIn(b"\x1b", plain)
        self.assertIn(b"\r", plain)  # progress

    def test_a_full_disk_is_noticed(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, "case", "list"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual((done.returncode, "cannot write" in done.stderr), (2, True))

    def test_unknown_use_is_refused(self):
        self.refuses(says=["command", "is missing", "--help"])
        self.refuses("fly", says=["fly", "unknown"])
        self.refuses("plan", "--colour", says=["--colour"])


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    ran, failed, skipped = result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)
    print(f"test cases: {ran} | {ran - failed - skipped} passed | {failed} failed | {skipped} skipped")
    sys.exit(1 if failed or not ran else 0)
