#!/usr/bin/env python3
"""Writes broken copies of the GPU's planners (gpu/plan/) as one C++ file that runs on the host: tests/plan_mutants.cpp
requires that each makes another plan than the host's planner. A copy is a planner's headers in a namespace of its own,
patched.

  plan_mutants.py SOURCE_ROOT OUT.cpp"""
import pathlib, re, sys

FILES = ["block_sums.hpp", "write_records.hpp", "even_plan.hpp", "chunked_plan.hpp", "run_plan.hpp"]
SUMS, RECORDS, EVEN, CHUNKED, _ = FILES
BLOCK = "flashladder::test::SerialBlock"
PREFILL_FILES = ["block_sums.hpp", "prefill_plan.hpp", "claimed_memory.hpp", "claimed_plan.hpp"]
_, PREFILL, MEMORY, CLAIMED = PREFILL_FILES
MUTANTS = [  # name, file, find, replacement, the mistake
    ("control", SUMS, "", "", "none"),
    ("lost_sum", SUMS, "if (before >= 0) sum", "if (before > 0) sum",
     "a stretch of requests is not counted in those behind it"),
    ("sums_in_place", SUMS, "*to = of_threads + Block::threads;", "*to = of_threads;",
     "a thread reads in a phase what another one writes in it: a race on the GPU"),
    ("stale_counter", RECORDS, "thread; i < counters; i += threads", "thread; i + 1 < counters; i += threads",
     "the last counter is not cleared"),
    ("queries_of_the_batch", RECORDS, "return request * queries;", "return request;",
     "a request's queries begin where they would if each had one"),
    ("diagonal_of_one_query", RECORDS, "{kv_len, kv_len - queries,", "{kv_len, kv_len - 1,",
     "the first of several queries stands on the last key"),
    ("lost_slot", EVEN, "slot = (from_cut ? sums.partial_rows : first_slot(lane)) +", "slot = sums.partial_rows +",
     "a lane that ends one cut tile and begins another writes both into one place"),
    ("one_piece_fewer", EVEN, ": multiples) + 2;", ": multiples) + 1;", "a merge misses its last piece"),
    ("a_piece_a_lane", EVEN, "(last - lane < multiples ?", "(multiples >= 0 ?",
     "lanes that begin at the same cut count as pieces of their own"),
    ("half_the_pieces", EVEN, "/ p_.chunk_align;", "/ (2 * p_.chunk_align);",
     "where lanes are close a tile has a cut at every other multiple"),
    ("merge_of_the_next", EVEN, "merge = sums.merges - from_cut +", "merge = sums.merges +",
     "the piece with which a lane begins belongs to the next tile's merge"),
    ("cut_one_later", EVEN, "return {request, unit, key};", "return {request, unit, key + 1};",
     "a cut is at no multiple of chunk_align"),
    ("not_of_its_own_lane", EVEN, "even_position(total, lane, lanes_)", "even_position(total, lane, lanes_ + 1)",
     "the last lane has two shares"),
    ("cut_though_whole_are_level", EVEN, "whole > 0 ? whole_from", "whole < 0 ? whole_from", "tiles are cut where whole ones are as level"),
    ("most_keys_of_the_last", EVEN, "static_cast<double>(std::int64_t{p_.per_item} + line.most_keys)",
     "static_cast<double>(p_.per_item)", "the dearest tile counts as one without keys"),
    ("whole_of_one_head", EVEN, "return {at / units_, at % units_, -1};", "return {at / units_, 0, -1};",
     "a lane of whole tiles begins in the first of a request's"),
    ("first_unit_only", EVEN, "units_ == 1 ? 0 :", "units_ > 0 ? 0 :", "a lane begins in the first of a request's tiles"),
    ("request_behind", EVEN, "return unit + 1 < units_ ? LaneBegin{request, unit + 1, -1} : LaneBegin{request + 1, 0, -1};",
     "return {request + 1, 0, -1};", "behind a tile comes the next request, whatever tiles this one has left"),
    ("work_for_nobody", EVEN, "if (inside(begin, end) && begin.key == end.key) return {};", "",
     "a lane that begins where the next one does has an item without keys"),
    ("queue_not_emptied", EVEN, "      queue = {};\n      if (items == 0) return;",
     "      if (items == 0) return;\n      queue = {};",
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

PREFILL_MUTANTS = [
    ("prefill_control", SUMS, "", "", "none"),
    ("lens_for_indptr", PREFILL, "std::int64_t{qo_indptr[request + 1]} - qo_indptr[request]",
     "std::int64_t{qo_indptr[request + 1]}",
     "where queries end is taken for how many there are"),
    ("tiles_of_queries", PREFILL, "div_up(queries * pack, query_tile)", "div_up(queries, query_tile)",
     "rows of packed heads are not counted"),
    ("no_window", PREFILL, ".window_left = window_left}", ".window_left = -1}", "keys before the window are read"),
    ("empty_request_first", CLAIMED, "before_[r].tiles <= index;", "before_[r].tiles < index || r == 0;",
     "an item belongs to the request before its own"),
    ("hull_of_first_query", CLAIMED, "(rows.end - 1) / p_.pack + 1};", "rows.begin / p_.pack + 1};",
     "a tile reads what its first query sees"),
    ("rows_beyond", CLAIMED, "begin + (left < p_.query_tile ? left", "begin + (left < 0 ? left",
     "a request's last tile has rows of the next"),
    ("mask_of_queries", CLAIMED, "mask_words(before.queries, before.pairs)", "mask_words(before.pairs, before.queries)",
     "a mask's words begin elsewhere"),
    ("tall_tiles_are_cheap", CLAIMED, "rows > bound ? static_cast<double>(rows) / bound : 1.0", "rows > bound ? 1.0 : 1.0",
     "rows beyond those that memory hides cost nothing"),
    ("cheapest_first", CLAIMED, "std::uint64_t{~bits} << 32", "std::uint64_t{bits} << 32", "the costliest comes last"),
    ("always_sorted", MEMORY, "return std::bit_cast<float>(cheapest) >= nearly *",
     "return cheapest == dearest || std::bit_cast<float>(cheapest) >= 2 * nearly *",
     "requests whose items cost nearly the same are torn apart"),
    ("least_of_first", MEMORY, "least_keys = least_keys < b.least_keys ? least_keys : b.least_keys;",
     "least_keys = b.least_keys;",
     "who has the fewest keys is forgotten: sections are too wide"),
    ("a_digit_less", CLAIMED, "for (; low < 32 && differing >> low != 0;", "for (; low < 28 && differing >> low > 15;",
     "the highest bits in which costs differ are not sorted by"),
    ("unstable", CLAIMED, "to[place(from[i], t)++] = from[i];",
     "to[place(from[i], t)++] = from[end_of(t) - 1 - i + t * stretch];",
     "items of equal cost change their order"),
    ("places_by_thread", CLAIMED, "(digits - 1)) * threads + t];", "(digits - 1)) + t * digits];",
     "sums run over digits first and threads then"),
    ("even_number_of_digits", CLAIMED, "return from;", "return memory_.order;",
     "the order is looked for where an odd number of digits does not leave it"),
    ("tokens_seen", CLAIMED, "return TileSums{keys, std::int64_t", "return TileSums{queries, std::int64_t",
     "keys of the batch are counted as its queries"),
]


def headers(root, files, file, find, replacement):
  for name in files:
    text = (pathlib.Path(root) / "gpu" / "plan" / name).read_text()
    if name == file and find:
      if text.count(find) != 1:
        sys.exit(f"tests/plan_mutants.py: {find!r} is {text.count(find)} times in gpu/plan/{name}: change the mutant too")
      text = text.replace(find, replacement)
    yield re.sub(r"^#(pragma|include).*\n", "", text, flags=re.M)


def copies(root, files, mutants, run, params):
  """(the copies, and the table of their names). params: a parameter type that a copy has of its own."""
  text, table = "", ""
  for name, file, find, replacement, mistake in mutants:
    text += (f"namespace mutant_{name} {{\nnamespace flashladder {{\nusing namespace ::flashladder;\nnamespace gpu {{\n"
             "using namespace ::flashladder::gpu;\n}\n}\n" + "".join(headers(root, files, file, find, replacement)) + "}\n")
    there = f"mutant_{name}::flashladder::gpu"
    given = f"std::bit_cast<{there}::{params}>(params)" if params else "params"
    table += (f'  {{"{name}", "{mistake}", []({BLOCK}& block, const auto& params, const auto&... rest) {{\n'
              f"    {there}::{run}(block, {given}, rest...); }}}},\n")
  return text, table


def main(root, out):
  decode, of_decode = copies(root, FILES, MUTANTS, "run_plan", "")
  prefill, of_prefill = copies(root, PREFILL_FILES, PREFILL_MUTANTS, "run_claimed_plan", "PrefillPlanParams")
  text = '// Written by tests/plan_mutants.py.\n#include <bit>\n\n#include "tests/plan_mutants.hpp"\n' + decode + prefill
  for kind, table in (("PlanMutant", of_decode), ("PrefillMutant", of_prefill)):
    function = "plan_mutants" if kind == "PlanMutant" else "prefill_mutants"
    text += (f"std::span<const flashladder::test::{kind}> flashladder::test::{function}() {{\n"
             f"  static const {kind} all[] = {{\n{table}  }};\n  return all;\n}}\n")
  pathlib.Path(out).write_text(text)


if __name__ == "__main__":
  main(*sys.argv[1:])
