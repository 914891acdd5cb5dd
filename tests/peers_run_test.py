"""bench/peers/run.py with peers and a program that are not real: cases, what is said of missing peers, checks before times,
rounds in turn, lines and table. Needs no torch and no GPU; what needs torch alone runs where it is.

  peers_run_test.py FLASHLADDER SOURCE_ROOT
"""
import json, math, os, pathlib, subprocess, sys, tempfile, unittest

FLASHLADDER, ROOT = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
PEERS = ROOT / "bench/peers"
sys.path.insert(0, str(PEERS))
from cases import Case, family_of
from peer import Peer, case_for, line_of, measure, missing_text

SHAPE = dict(name="n", seed=1, qo_lens=[2, 1], kv_lens=[5, 3], num_qo_heads=4, num_kv_heads=2, head_dim=8, page_size=2,
             dtype="f16", kv_layout="NHD", causal=True, sm_scale=0.25, window_left=-1, logits_soft_cap=0.0,
             pos_encoding_mode="NONE", sinks=False, custom_mask="none", values="normal")


def case_of(family="prefill", **changes):
    return Case.of(dict(family=family, case="name", shape={**SHAPE, **changes}))


# What stands in for libraries, a GPU and our program: PEERS and environment() of --peers, and a bench that notes its rounds.
FAKE_PEERS = '''
import json, os, pathlib
from peer import Peer
NOTES = pathlib.Path(os.environ["NOTES"])
class Fake(Peer):
    def __init__(self, name, o): self.name, self.o = name, o
    def version(self): return "fakes", "1.5"
    def prepare(self, work): return lambda: self.o
class Gone(Peer):
    name, module, get = "gone", "no_such_module", "pip install gone"
class Work:
    def __init__(self, case): pass
    def wrong(self, o): return None if o == 1 else "o is not 1"
class Clock:
    def median_us(self, call):
        NOTES.open("a").write("theirs ")
        return 50.0
PEERS = [Fake("right", 1), *([Fake("false", 2)] if "ONE_IS_WRONG" in os.environ else []), Gone()]
def environment(): return Work, Clock(), dict(gpu="G", cuda="13")
'''
FAKE_FLASHLADDER = '''#!/bin/sh
"exec" "PYTHON" "$0" "$@"
import json, os, pathlib, sys
families = [a for a in sys.argv[2:] if a in ("decode", "prefill")]
table = json.loads(pathlib.Path(sys.argv[sys.argv.index("--cases") + 1]).read_text()) if "--cases" in sys.argv else None
shape = json.loads(os.environ["SHAPE"])
cases = [(f, s) for f in families for s in (table or [{**shape, "name": f + " case"}])]
if "--list" in sys.argv:
    print(json.dumps([dict(family=f, case=s["name"], shape=s) for f, s in cases]))
else:
    value = lambda name: sys.argv[sys.argv.index(name) + 1]
    pathlib.Path(os.environ["NOTES"]).open("a").write("ours ")
    lines = [dict(gpu="G", cuda="13.0", peak_TBps=4.8)]
    lines += [dict(family=f, case=s["name"], backend="flashladder X", us=40.0, TBps=1.0, TFLOPs=None,
                   run=int(value("--run"))) for f, s in cases]
    pathlib.Path(value("--jsonl")).write_text("".join(json.dumps(line) + "\\n" for line in lines))
    sys.exit(os.environ.get("OURS_FAILS") in families)
'''


class Cases(unittest.TestCase):
    def test_what_a_query_sees_is_the_rule_of_conventions(self):
        for causal in (True, False):
            for window in (-1, 0, 1, 3):
                case = case_of(causal=causal, window_left=window)
                for b, (queries, keys) in enumerate(zip(case.qo_lens, case.kv_lens)):
                    for i in range(queries):
                        diagonal = i + keys - queries
                        seen = [j for j in range(keys) if (not causal or j <= diagonal) and
                                (window < 0 or j >= diagonal - window)]
                        self.assertEqual(list(range(*case.visible(b, i))), seen)

    def test_bytes_and_flops_are_those_of_our_own_lines(self):
        case = case_of(qo_lens=[2048] * 4, kv_lens=[2048] * 4, num_qo_heads=32, num_kv_heads=8, head_dim=128)
        self.assertEqual(case.nbytes(), 4 * 2048 * 8 * 256 * 2)
        self.assertEqual(case.flops(), 4 * 4 * 128 * 32 * 2048 * 2049 // 2)
        self.assertIsNone(case_of("decode", qo_lens=[1, 1]).flops())
        two_dims = case_of(causal=False, head_dim=None, head_dim_qk=192, head_dim_vo=128)
        self.assertEqual((two_dims.nbytes(), two_dims.flops()), (8 * 2 * 320 * 2, 2 * 4 * 320 * (2 * 5 + 1 * 3)))

    def test_one_length_is_that_of_queries_and_of_keys(self):
        lengths = (([2, 2], [5, 5], True), ([2, 1], [5, 5], False), ([2, 2], [5, 3], False), ([2, 1], [5, 3], False))
        for qo_lens, kv_lens, one in lengths:
            self.assertEqual(case_of(qo_lens=qo_lens, kv_lens=kv_lens).one_length, one)

    def test_what_the_peers_are_not_called_with_is_said(self):
        for change, word in ((dict(dtype="f32"), "dtype f32"), (dict(kv_layout="HND"), "HND"), (dict(sinks=True), "sinks"),
                             (dict(custom_mask="tree"), "custom mask"), (dict(pos_encoding_mode="ALIBI"), "position"),
                             (dict(kv_lens=[5, 0]), "without a query or a key")):
            case, why_not = case_for(Peer(), case_of(**change))
            self.assertTrue(case is None and word in why_not, (change, why_not))
        self.assertEqual(case_for(Peer(), case_of()), (case_of(), None))

    def test_a_peer_without_pages_is_measured_without_under_another_name(self):
        class Contiguous(Peer):
            contiguous = True
            def refuses(self, case):
                return None if case.contiguous else "no pages"
        case, why_not = case_for(Contiguous(), case_of())
        self.assertEqual((case.name, case.page_size, why_not), ("name, K and V contiguous", 0, None))

    def test_sampled_rows_are_in_the_case_and_have_both_ends(self):
        rows = case_of().sampled_rows(40)
        self.assertEqual((rows[0], rows[1], len(rows)), ((0, 0, 0), (1, 0, 3), 40))
        self.assertTrue(all(i < (2, 1)[b] and h < 4 for b, i, h in rows))

    def test_family_of_a_table_s_case(self):
        self.assertEqual([family_of(dict(qo_lens=q)) for q in ([1, 1], [1, 2])], ["decode", "prefill"])


class Measure(unittest.TestCase):
    def run_peers(self, peers, run):
        lines, said = [], []
        class Work:
            def __init__(self, case): self.case = case
            def wrong(self, o): return None if o == 1 else "o is not 1"
        clock = type("Clock", (), {"median_us": lambda self, call: (call(), 20.0)[1]})()
        right = measure([case_of()], peers, Work, clock, lines.append, said.append, run)
        return right, lines, said

    def peer(self, name, o=1, **members):
        def prepare(self, work):
            if isinstance(o, Exception):
                raise o
            return lambda: o
        return type(name, (Peer,), dict(name=name, prepare=prepare, **members))()

    def test_lines_have_the_documented_form(self):
        right, lines, said = self.run_peers([self.peer("good")], run=2)
        self.assertTrue(right and not said)
        self.assertEqual(lines, [line_of(case_of(), self.peer("good"), 20.0, 2)])
        self.assertEqual(list(lines[0]), ["family", "case", "backend", "us", "TBps", "TFLOPs", "run"])
        self.assertEqual((lines[0]["us"], lines[0]["TBps"], lines[0]["run"]), (20.0, round(8 * 2 * 16 * 2 / 20 / 1e6, 3), 2))

    def test_a_line_has_hundredths_of_us_and_tenths_of_tflops(self):
        case = case_of(qo_lens=[2048], kv_lens=[2048], num_qo_heads=32, head_dim=128)
        line = line_of(case, self.peer("good"), 123.456, 1)
        self.assertEqual((line["us"], line["TFLOPs"]), (123.46, round(4 * 128 * 32 * 2048 * 2049 / 2 / 123.456 / 1e6, 1)))

    def test_a_wrong_output_is_said_and_not_timed(self):
        for o in (2, math.nan):
            right, lines, said = self.run_peers([self.peer("bad", o), self.peer("good")], run=1)
            self.assertEqual((right, [line["backend"] for line in lines]), (False, ["good"]))
            self.assertIn("bad is WRONG and not timed", said[0])

    def test_a_peer_that_fails_or_refuses_does_not_stop_the_others(self):
        refusing = self.peer("picky", refuses=lambda self, case: "heads are odd")
        peers = [self.peer("broken", RuntimeError("no kernel\nmore")), refusing, self.peer("good")]
        right, lines, said = self.run_peers(peers, run=0)
        self.assertEqual((right, lines), (True, []))
        self.assertEqual(said, ["name: picky does not take it: heads are odd",
                                "name: broken failed: RuntimeError: no kernel"])
        self.assertEqual([line["backend"] for line in self.run_peers(peers, run=1)[1]], ["good"])

    def test_missing_peers_are_said_once_for_each_reason_with_how_to_get_them(self):
        gone = dict(module="no_such_module", get="pip install it")
        peers = [self.peer("a", **gone), self.peer("b", **gone), self.peer("c")]
        self.assertEqual(missing_text(peers),
                         "not here: a, b. There is no Python module no_such_module. To get it: pip install it")
        self.assertEqual([line["backend"] for line in self.run_peers(peers, run=1)[1]], ["c"])
        self.assertEqual(missing_text(peers[2:]), "")


class Program(unittest.TestCase):
    def run_py(self, *arguments, flashladder=None, **environment):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            self.notes, program, peers = folder / "notes", folder / "flashladder", folder / "fakes.py"
            self.notes.touch()
            program.write_text(FAKE_FLASHLADDER.replace("PYTHON", sys.executable))
            program.chmod(0o755)
            peers.write_text(FAKE_PEERS)
            (folder / "table.json").write_text(json.dumps([{**SHAPE, "name": "one", "qo_lens": [1, 1]},
                                                           {**SHAPE, "name": "two"}]))
            paths = {"OUT": folder / "out", "TABLE": folder / "table.json", "FAKES": peers}
            words = [str(paths.get(word, word)) for word in arguments]
            env = {**os.environ, "NOTES": str(self.notes), "SHAPE": json.dumps(SHAPE), "PYTHONPATH": str(PEERS),
                   "CUDA_VISIBLE_DEVICES": "", **environment}
            done = subprocess.run([sys.executable, PEERS / "run.py", flashladder or program, *words], env=env, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            lines = folder / "out/lines.jsonl"
            self.lines = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
            self.turns = self.notes.read_text().split()
            ours = folder / "out/ours.jsonl"
            self.ours = [json.loads(line) for line in ours.read_text().splitlines()] if ours.exists() else []
            return done

    def test_rounds_are_in_turn_and_all_lines_stand_under_one_machine(self):
        done = self.run_py("OUT", "--peers", "FAKES", "--rounds", "2")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(self.turns, ["ours", "theirs", "theirs"] * 2)
        machine, *lines = self.lines
        self.assertEqual({key: machine[key] for key in ("gpu", "peak_TBps", "cuda", "fakes", "not_installed")},
                         dict(gpu="G", peak_TBps=4.8, cuda="13.0", fakes="1.5", not_installed="gone"))
        self.assertTrue(all("family" in line for line in lines))
        self.assertEqual(sorted((line["backend"], line["run"]) for line in lines),
                         sorted([("flashladder X", 1), ("flashladder X", 2), ("right", 1), ("right", 2)] * 2))
        self.assertEqual([line["backend"] for line in lines], ["flashladder X"] * 4 + ["right"] * 4)
        self.assertIn("not here: gone. There is no Python module no_such_module. To get it: pip install gone", done.stdout)
        self.assertIn("| decode | decode case | X 40 | 40 | right 50 | 1.25 |", done.stdout)

    def test_a_table_s_cases_go_to_decode_and_to_prefill(self):
        done = self.run_py("OUT", "--peers", "FAKES", "--rounds", "1", "--cases", "TABLE")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(self.turns, ["ours", "ours", "theirs", "theirs"])
        self.assertEqual({(line["family"], line["case"]) for line in self.lines[1:]},
                         {("decode", "one"), ("prefill", "two")})
        self.assertEqual(["family" in line for line in self.ours], [False, True, True])  # one machine's line

    def test_one_of_our_processes_that_fails_makes_exit_code_1(self):
        done = self.run_py("OUT", "--peers", "FAKES", "--rounds", "1", "--cases", "TABLE", OURS_FAILS="decode")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertEqual(len(self.lines), 5)  # all are timed nevertheless

    def test_only_the_chosen_backends_are_called(self):
        done = self.run_py("OUT", "--peers", "FAKES", "--rounds", "1", "--backends", "right", ONE_IS_WRONG="1")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertNotIn("false", done.stdout)

    def test_a_wrong_peer_makes_exit_code_1_and_has_no_line(self):
        done = self.run_py("OUT", "--peers", "FAKES", "--rounds", "1", ONE_IS_WRONG="1")
        self.assertEqual(done.returncode, 1, done.stdout)
        said = "case: false is WRONG and not timed: o is not 1"
        self.assertEqual(done.stdout.count(said), 2 * 2)  # of both cases, before the first round and in it
        self.assertNotIn("false", [line.get("backend") for line in self.lines])

    def test_without_a_gpu_a_sentence_and_77(self):
        done = self.run_py("OUT")
        self.assertEqual(done.returncode, 77, done.stdout)
        self.assertRegex(done.stdout, r"^Nothing was timed: (Python has no torch|torch sees no CUDA GPU)")
        self.assertEqual(self.turns, [])

    def test_list_says_who_takes_each_case_of_ours(self):
        done = self.run_py("--list", flashladder=FLASHLADDER)
        self.assertEqual(done.returncode, 0, done.stdout)
        takers = dict(line.split(": ", 1) for line in done.stdout.split("\n\n")[1].splitlines())
        decode, prefill = takers["decode B64 lognormal 32/8 p16"], takers["prefill B1 S8192 32/32 d192/128 full contiguous"]
        for name in ("FlashInfer tensor-core", "FlashInfer cuda-core", "FlashInfer xqa", "FlashInfer BatchAttention", "FA3",
                     "cuDNN paged"):
            self.assertIn(name, decode)
        for name in ("torch flash", "cuDNN", "torch efficient", "torch math", "FlashInfer fa3", "FlashInfer fa2", "FA3"):
            self.assertIn(name, prefill)
        self.assertNotIn("cuDNN paged", prefill)
        self.assertIn("torch flash (K and V contiguous)", takers["decode B32 kv2048 32/8 p16"])
        self.assertNotIn("xqa", takers["decode B32 kv2048 32/8 p1"])
        self.assertEqual(len(takers), 14 + 24)

    def test_bad_use_is_refused(self):
        for words, said in ((["OUT", "--families", "decode,norms"], "norms"), (["OUT", "--families", "norm"], "--script"),
                            (["OUT", "--backends", "FA9"], "FA9"), ([], "OUT_DIR is missing")):
            done = self.run_py(*words)
            self.assertTrue(done.returncode not in (0, 77) and said in done.stdout, (words, done.stdout))


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    ran, failed, skipped = result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)
    print(f"test cases: {ran} | {ran - failed - skipped} passed | {failed} failed | {skipped} skipped")
    sys.exit(1 if failed or not ran else 0)
