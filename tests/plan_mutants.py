#!/usr/bin/env python3
"""Writes broken copies of the GPU's planner (gpu/plan/) as one C++ file that runs on the host: tests/plan_mutants.cpp requires
that each makes another plan than the host's planner. A copy is the planner's headers in a namespace of its own, patched.

  plan_mutants.py SOURCE_ROOT OUT.cpp"""
import pathlib, re, sys

FILES = ["block_sums.hpp", "write_records.hpp", "balanced_plan.hpp", "chunked_plan.hpp", "run_plan.hpp"]
SUMS, RECORDS, BALANCED, CHUNKED, _ = FILES
MUTANTS = [  # name, file, find, replacement, the mistake
    ("control", SUMS, "", "", "none"),
    ("lost_sum", SUMS, "if (t >= step) sum += from[t - step];", "if (t > step) sum += from[t - step];",
     "a stretch of requests is not counted in those behind it"),
    ("sums_in_place", SUMS, "*to = of_threads + Block::threads;", "*to = of_threads;",
     "a thread reads in a phase what another one writes in it: a race on the GPU"),
    ("stale_counter", RECORDS, "thread; i < counters; i += threads", "thread; i + 1 < counters; i += threads",
     "the last counter is not cleared"),
    ("queries_of_the_batch", RECORDS, "return request * queries;", "return request;",
     "a request's queries begin where they would if each had one"),
    ("diagonal_of_one_query", RECORDS, "{kv_len, kv_len - queries,", "{kv_len, kv_len - 1,",
     "the first of several queries stands on the last key"),
    ("lost_slot", BALANCED, "slot = from_cut ? sums.partial_rows : first_slot(lane);", "slot = sums.partial_rows;",
     "a lane that ends one cut tile and begins another writes both into one place"),
    ("one_piece_fewer", BALANCED, "== unit; }) - lane + 2;", "== unit; }) - lane + 1;", "a merge misses its last piece"),
    ("merges_are_cheap", BALANCED, "(rest.size() > many ? p_.per_many : 0)", "(rest.size() > many ? 0 : 0)",
     "what merging many pieces costs is left out"),
    ("merge_of_the_next", BALANCED, "merge = sums.merges - from_cut,", "merge = sums.merges,",
     "the piece with which a lane begins belongs to the next tile's merge"),
    ("cut_one_later", BALANCED, "rest.begin = at.key = end;", "rest.begin = end, at.key = end + 1;", "a key is in no item"),
    ("share_not_kept", BALANCED, "kept = false, end = rest.end;", "end = rest.end;",
     "a share that is too small counts as enough"),
    ("still_fresh", BALANCED, "at.unit = 0, fresh = false;", "at.unit = 0;",
     "a lane that has tiles already takes one more that is too much for it"),
    ("queue_not_emptied", BALANCED, "    p_.view.queues[cta] = queue;", "    if (items > 0) p_.view.queues[cta] = queue;",
     "a CTA without work finds what lay there"),
    ("lost_empty_request", CHUNKED, "return chunk_pieces(keys, p_.chunk, p_.chunk_align);",
     "return keys.empty() ? 0 : chunk_pieces(keys, p_.chunk, p_.chunk_align);", "a request without keys gets no item"),
    ("chunk_off_by_one", CHUNKED, "const PackedItem item = packed_item(p_.table, at, chunk_piece(keys,",
     "const PackedItem item = packed_item(p_.table, at, chunk_piece({keys.begin + (piece > 0), keys.end},",
     "chunks are counted from the wrong key"),
    ("heads_before_chunks", CHUNKED, "++copy) give_tile(ctas, keys, pieces, given + copy);",
     "++copy) give_tile(ctas, keys, pieces, given + (copies_ - 1 - copy));", "the last head is given its CTA first"),
    ("groups_of_one_tile", CHUNKED, "sums.groups + tile * groups_of(pieces) + copy", "sums.groups + copy",
     "the tiles of a request count their groups together"),
]


def headers(root, file, find, replacement):
  for name in FILES:
    text = (pathlib.Path(root) / "gpu" / "plan" / name).read_text()
    if name == file and find:
      if text.count(find) != 1:
        sys.exit(f"tests/plan_mutants.py: {find!r} is {text.count(find)} times in gpu/plan/{name}: change the mutant too")
      text = text.replace(find, replacement)
    yield re.sub(r"^#(pragma|include).*\n", "", text, flags=re.M)


def main(root, out):
  text = '// Written by tests/plan_mutants.py.\n#include "tests/plan_mutants.hpp"\n'
  table = ""
  for name, file, find, replacement, mistake in MUTANTS:
    text += (f"namespace mutant_{name} {{\nnamespace flashladder {{\nusing namespace ::flashladder;\nnamespace gpu {{\n"
             "using namespace ::flashladder::gpu;\n}\n}\n" + "".join(headers(root, file, find, replacement)) + "}\n")
    table += (f'  {{"{name}", "{mistake}", [](flashladder::test::SerialBlock& block, const auto&... rest) {{\n'
              f"    mutant_{name}::flashladder::gpu::run_plan(block, rest...); }}}},\n")
  text += ("std::span<const flashladder::test::PlanMutant> flashladder::test::plan_mutants() {\n"
           f"  static const PlanMutant all[] = {{\n{table}  }};\n  return all;\n}}\n")
  pathlib.Path(out).write_text(text)


if __name__ == "__main__":
  main(*sys.argv[1:])
