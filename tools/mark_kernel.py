#!/usr/bin/env python3
"""Puts marks into P11, so that it records when its warp groups pass them, and makes lines of what it recorded.

  mark_kernel.py SOURCE_ROOT OUT_ROOT      the kernel's two files with the marks, under OUT_ROOT/gpu/prefill: of a tree's copy,
                                           which may be SOURCE_ROOT itself
  mark_kernel.py --lines RAW KEY=VALUE..   JSON lines (docs/measurements) of what such a kernel wrote; KEY: gpu, driver ..
  mark_kernel.py --check SOURCE_ROOT       do all marks still find their places? (needs no CUDA)

A mark is the SM's clock when thread 0 of a warp group passes a line. One CTA records, number 5, and of all launches the
last one stays. A program that is linked with the marked kernel writes `group clock mark` lines to the file
$FLASHLADDER_MARKS when it ends. How to record, from a copy of the tree on a machine with a Hopper GPU:

  python3 tools/mark_kernel.py . .
  meson setup build/marked --buildtype=release -Dgpu_archs=90 && ninja -C build/marked cli/flashladder
  FLASHLADDER_MARKS=raw.txt build/marked/cli/flashladder verify --rung P11 --kv 2048x4 --qo 2048 --dim 128 --causal
  python3 tools/mark_kernel.py --lines raw.txt gpu="NVIDIA H200" driver=.. date=.. case=.. > marks.jsonl
"""
import json, pathlib, sys

CONSUMER, KERNEL = "gpu/prefill/hopper_consumer.cuh", "gpu/prefill/p11_hopper.cu"  # where a warp group passes marks; P11
LAST_STORE = "store_output<S>(o, ends.scale, mine, item, rows, plan, shared.o[group]);"
FIRST_MASK = "mask_scores<S>(s, variant, item, mine, first_key_mask, tiles.count - 1, seen, mask_of(tiles.count - 1));"
LAST_OUTPUT = "start_output<S>(o, p, address(shared.v[last.stage]), tiles.count == 1);"
NEXT_SCORES = "start_scores<S>(s, q, q_address(), address(shared.k[next.stage]));"
NEXT_STARTED = "wgmma_wait<1>();\n      release(barriers.v_empty[last.stage]);\n      store_output"
NEXT_QUERIES = "barriers.q_full.wait((turn + 1) % 2);"

# number, place, text that stands in the consumer once, what has happened when a group passes the mark
MARKS = [
  (1, "before", "const KeyTiles<S::keys> tiles(item.keys, first_key_mask);", "the work before is done"),
  (4, "before", FIRST_MASK, "S of the first tile is there, and which keys each row sees"),
  (5, "after", FIRST_MASK, "the first tile is masked"),
  (6, "after", "softmax.template begin<Element, S::keys>(s, scale, p);", "the first P is made"),
  (11, "before", "barriers.k_full[at.stage].wait(at.parity);\n      start_scores", "a turn of the loop begins"),
  (8, "before", "const RingSlot<S::stages> last(tile - 1);", "the loop has ended"),
  (20, "after", LAST_OUTPUT, "the last P V is started"),
  (9, "before", NEXT_QUERIES, "the softmax is finished"),
  (10, "after", NEXT_QUERIES, "the next work's queries are there"),
  (12, "before", NEXT_SCORES, "they are loaded, and its first keys there"),
  (13, "before", NEXT_STARTED, "its first product is started"),
  (14, "before", LAST_STORE, "the last P V is done"),
  (15, "after", LAST_STORE, "the rows are on their way to memory"),
  (16, "before", "wgmma_wait<0>();\n    } else {\n", "lse_log2 is stored"),
]

# In the consumer's header: each kernel that includes it has marks of its own, and P11 writes them.
RECORDER = """namespace flashladder::gpu {
struct Marks {
  static constexpr int cta = 5, most = 4096;
  long long passed[2][most];  // clock * 256 + mark
  int count[2];
};
static __device__ Marks marks;
static __device__ void mark(int group, int& count, int number) {
  if (blockIdx.x != Marks::cta || threadIdx.x % 128 != 0 || group > 1 || count == Marks::most) return;
  marks.passed[group][count++] = clock64() << 8 | number;
  marks.count[group] = count;
}
"""
WRITER = """namespace flashladder::gpu::p11 {
struct MarksAtExit {
  ~MarksAtExit() {
    static Marks host;
    const char* path = std::getenv("FLASHLADDER_MARKS");
    if (path == nullptr || cudaMemcpyFromSymbol(&host, marks, sizeof(host)) != cudaSuccess) return;
    std::FILE* file = std::fopen(path, "w");
    for (int g = 0; file != nullptr && g < 2; ++g) {
      for (int i = 0; i < host.count[g]; ++i) {
        std::fprintf(file, "%d %lld %d\\n", g, host.passed[g][i] >> 8, static_cast<int>(host.passed[g][i] & 255));
      }
    }
    if (file != nullptr) std::fclose(file);
  }
};
"""
FIRST_INCLUDE = '#include "gpu/attention/merge_partials.hpp"\n'
LAST_CALL = "  merge_partials(call, capacity, plan, stream);\n"
OTHER = [  # in which file: find once, put in its place
  (CONSUMER, "namespace flashladder::gpu {\n", RECORDER),
  (CONSUMER, "  std::uint32_t tile = 0;   // of keys, the next to come\n", "  std::uint32_t tile = 0;\n  int marked = 0;\n"),
  (KERNEL, FIRST_INCLUDE, "#include <cstdio>\n#include <cstdlib>\n\n" + FIRST_INCLUDE),
  (KERNEL, "namespace flashladder::gpu::p11 {\n", WRITER),
  (KERNEL, LAST_CALL, LAST_CALL + "  static const MarksAtExit write;\n"),
]


def replaced(name, text, find, replacement, what):
  if text.count(find) != 1:
    sys.exit(f"tools/mark_kernel.py: {what} wants to find this once in {name}, but it is there {text.count(find)} times. "
             f"The kernel has changed: change the tool too.\n{find}")
  return text.replace(find, replacement)


def marked(root, marks=MARKS):
  """{file: its text with the marks}. All places are looked for in the text as it was."""
  texts = {name: (pathlib.Path(root) / name).read_text() for name in (CONSUMER, KERNEL)}
  for number, _, find, _ in marks:
    replaced(CONSUMER, texts[CONSUMER], find, find, f"mark {number}")
  for number, place, find, _ in marks:
    call = f"mark(group, marked, {number});"
    texts[CONSUMER] = texts[CONSUMER].replace(find, f"{call} {find}" if place == "before" else f"{find} {call}")
  for name, find, replacement in OTHER:
    texts[name] = replaced(name, texts[name], find, replacement, "the recorder")
  return texts


def lines(raw, facts):
  """JSON lines: the machine and what the marks mean; then a line a group and work, clocks from the first mark of all."""
  passed = [tuple(map(int, line.split())) for line in raw.splitlines() if line.strip()]
  if not passed or any(len(p) != 3 for p in passed):
    sys.exit("tools/mark_kernel.py: expected lines `group clock mark`")
  start = min(clock for _, clock, _ in passed)
  works = []
  for group, clock, number in passed:
    if number == 1:
      works.append({"group": group, "work": sum(w["group"] == group for w in works), "marks": [], "clocks": []})
    if not works or works[-1]["group"] != group:
      sys.exit(f"tools/mark_kernel.py: group {group} begins with mark {number}, not with 1")
    works[-1]["marks"].append(number)
    works[-1]["clocks"].append(clock - start)
  head = facts | {"marks": {str(number): meaning for number, _, _, meaning in MARKS}}
  return "".join(json.dumps(line) + "\n" for line in [head, *works])


def check(root):
  calls = marked(root)[CONSUMER].count("mark(group, marked, ")
  assert calls == len(MARKS) == len({number for number, *_ in MARKS}), calls
  for stale in [(99, "before", "no such text", ""), (99, "after", "tile", "")]:
    try:
      marked(root, [*MARKS, stale])
    except SystemExit as refusal:
      assert "mark 99 wants to find this once" in str(refusal), refusal
    else:
      sys.exit("a mark without a place of its own was taken")
  got = lines("0 70 1\n0 90 4\n0 95 1\n1 60 1\n", {"gpu": "none"}).splitlines()[1:]
  assert [json.loads(line)["clocks"] for line in got] == [[10, 30], [35], [0]], got
  assert [json.loads(line)["work"] for line in got] == [0, 1, 0], got
  print(f"{len(MARKS)} marks find their places")


def main(arguments):
  if len(arguments) == 2 and arguments[0] == "--check":
    check(arguments[1])
  elif len(arguments) >= 2 and arguments[0] == "--lines" and all("=" in a for a in arguments[2:]):
    sys.stdout.write(lines(pathlib.Path(arguments[1]).read_text(), dict(a.split("=", 1) for a in arguments[2:])))
  elif len(arguments) == 2 and not arguments[0].startswith("-"):
    for name, text in marked(arguments[0]).items():
      out = pathlib.Path(arguments[1]) / name
      out.parent.mkdir(parents=True, exist_ok=True)
      out.write_text(text)
  else:
    sys.exit(__doc__)


if __name__ == "__main__":
  main(sys.argv[1:])
