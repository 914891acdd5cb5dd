"""The broken kernels, as patches of the right ones. A patch's text must be in its file exactly once (tests hold that), so
that no mutant quietly stops being one. A mutant may be wrong, but must not read or write where it could end the process."""
import collections

from rotated_mutants import ROTATED

# A kernel's files, the one with attend() last; headers of gpu/ come with them. variant: what its one instance computes.
# entry: another name than attend, of a kernel that runs before the rung's.
Kernel = collections.namedtuple("Kernel", "files rung variant entry", defaults=["attend"])
MERGE = "gpu/attention/merge_partials.cu"
D5, D6, D7 = "gpu/decode/d5_tensor_cores.cu", "gpu/decode/d6_balanced.cu", "gpu/decode/d7_clusters.cu"
P1 = "gpu/prefill/p1_row_per_thread.cu"
P4, P5, P11 = "gpu/prefill/p4_swizzle.cu", "gpu/prefill/p5_pipeline.cu", "gpu/prefill/p11_hopper.cu"
COMPACT = "gpu/prefill/compact_pages.cu"
P6, P7, P8 = "gpu/prefill/p6_boxes.cu", "gpu/prefill/p7_producer.cu", "gpu/prefill/p8_turns.cu"
P9, P10 = "gpu/prefill/p9_persistent.cu", "gpu/prefill/p10_stale_reference.cu"
KERNELS = {
  "d5": Kernel([MERGE, D5], "d5", "Scaled"),
  "d6": Kernel([D6], "d6", "Scaled"),
  "d6_general": Kernel([D6], "d6", "General"),
  "d6_rotated": Kernel([D6], "d6", "Rotated"),
  "d7": Kernel([D7], "d7", "Scaled"),
  "p1": Kernel([MERGE, P1], "p1", "General"),
  "p4": Kernel([MERGE, P4], "p4", "Scaled"),
  "p5": Kernel([MERGE, P5], "p5", "Scaled"),
  "p5_general": Kernel([MERGE, P5], "p5", "General"),
  "p6": Kernel([P6], "p6", "Scaled"),
  "p7": Kernel([P7], "p7", "Scaled"),
  "p8": Kernel([P8], "p8", "Scaled"),
  "p9": Kernel([P9], "p9", "Scaled"),
  "p10": Kernel([P10], "p10", "Scaled"),
  "p11": Kernel([P11], "p11", "Scaled"),
  "compact": Kernel([COMPACT], "p11", "", "compact_pages"),
}

# patches: (file, text to find, text in its place). noticed_by: agree or racecheck.
Mutant = collections.namedtuple("Mutant", "name kernel patches noticed_by mistake")

TILES, RING, SLOTS = "gpu/decode/head_tiles.cuh", "gpu/decode/tile_ring.cuh", "gpu/attention/token_slots.cuh"
CLUSTER, ITEM_LOGITS = "gpu/decode/cluster_rows.cuh", "gpu/decode/item_logits.cuh"
ARRIVAL, PARTIALS = "gpu/attention/arrival.cuh", "gpu/attention/partial_merge.cuh"
WORK, VARIANTS = "gpu/attention/packed_work.cuh", "gpu/attention/variants.cuh"
WRITE = "gpu/attention/write_row.cuh"
COPIES, LOGITS, KEYS = "gpu/prefill/tile_copies.cuh", "gpu/prefill/row_logits.cuh", "gpu/prefill/row_keys.cuh"
PRODUCER, PRODUCTS = "gpu/prefill/hopper_producer.cuh", "gpu/prefill/hopper_products.cuh"
ROWS, STALE, BOXES = "gpu/prefill/hopper_rows.cuh", "gpu/prefill/stale_softmax.cuh", "gpu/prefill/box_copies.cuh"
OUTPUT = "gpu/prefill/row_output.cuh"
RUNNING, REQUESTS = "gpu/prefill/running_softmax.cuh", "gpu/prefill/box_requests.cuh"
LOWER, AHEAD = "gpu/prefill/lower_hopper.cuh", "gpu/prefill/work_ahead.cuh"
AFTER_PUT = "__syncthreads();  // every warp's partial is there"

MUTANTS = [
  Mutant("d5_lost_stage", "d5",
         [(D5, "for (std::uint32_t step = 0; step < S::stages - 1; ++step) {", "for (std::uint32_t step = 0; step < S::stages; ++step) {"),
          (D5, "if (step + S::stages - 1 < tiles) copy(step + S::stages - 1);",
           "if (step + S::stages < tiles) copy(step + S::stages);")],
         "agree", "one copy too many is under way, into the tile that is being read"),
  Mutant("d5_lost_tile", "d5", [(D5, "div_up<std::uint32_t>(end - first, warps * round)", "(end - first) / (warps * round)")],
         "agree", "a partly filled last round is left out"),
  Mutant("d5_merge_weight", "d5",
         [(MERGE, "value = value * weights.a + o * weights.b;", "value = value + o * weights.b;"),
          (D5, "  merge_partials(call, shape", "  gpu::merge_partials(call, shape")],  # the mutant's, not the library's
         "agree", "what was merged so far keeps its old weight"),
  Mutant("d5_no_rescale", "d5",
         [(TILES, "o[i][n][j] *= rescale, o[i][n][j + 2] *= rescale;", "o[i][n][j] *= 1, o[i][n][j + 2] *= 1;")],
         "agree", "o keeps its scale when the maximum grows"),
  Mutant("d5_half_rescaled", "d5",
         [(TILES, "o[i][n][j] *= rescale, o[i][n][j + 2] *= rescale;", "o[i][n][j] *= rescale;")],
         "agree", "half of the accumulators are rescaled"),
  Mutant("d5_lanes_not_summed", "d5",
         [(TILES, "for (int offset = 4; offset < 32; offset *= 2) sum +=",
           "for (int offset = 8; offset < 32; offset *= 2) sum +=")],
         "agree", "half of the lanes are missing in d"),
  Mutant("d5_weights_exchanged", "d5",
         [(TILES, "p[n][0] = movmatrix_trans(pack<typename S::Element>(s[n][0], s[n][1]));\n"
                  "      p[n][1] = movmatrix_trans(pack<typename S::Element>(s[n][2], s[n][3]));",
                  "p[n][1] = movmatrix_trans(pack<typename S::Element>(s[n][0], s[n][1]));\n"
                  "      p[n][0] = movmatrix_trans(pack<typename S::Element>(s[n][2], s[n][3]));")],
         "agree", "P of tokens 0-7 meets V of tokens 8-15"),
  Mutant("d5_no_swizzle", "d5",
         [(TILES, "&v[token][stored_chunk(token, 2 * i + lane / 8 % 2)]", "&v[token][2 * i + lane / 8 % 2]")],
         "agree", "V is read as if it lay unswizzled"),
  Mutant("d5_tail_read", "d5",
         [(SLOTS, "seen(token < end)",
           "seen(token < (end + kv.pages.page_size - 1) / kv.pages.page_size * kv.pages.page_size)")],
         "agree", "the unused slots of a last page are read, and 0 * NaN is NaN"),
  Mutant("d5_lost_page", "d5",
         [(SLOTS, "seen(token < end)", "seen(token < end / kv.pages.page_size * kv.pages.page_size)")],
         "agree", "a partly filled last page is not read"),
  Mutant("d5_neighbour_page", "d5",
         [(SLOTS, "kv.pages.locate_from(first_page, ", "kv.pages.locate_from(first_page - (first_page > 0), ")],
         "agree", "pages are counted from the end of the neighbour's"),
  Mutant("d5_row_too_far", "d5",
         [(TILES, "min(rows - n * heads_in_tile, heads_in_tile)", "min(rows + 1 - n * heads_in_tile, heads_in_tile)")],
         "agree", "one row more is written than the item has"),
  Mutant("d5_partials_read_early", "d5", [(TILES, AFTER_PUT, "")],
         "racecheck", "no barrier between writing and reading the warps' partials"),
  Mutant("d5_ring_overwritten", "d5",
         [(TILES, "__syncthreads();  // no thread reads what lay here before any more", "// no barrier")],
         "racecheck", "partials are written where other warps' rings are still in use"),

  Mutant("d6_lost_stage", "d6",
         [(D6, "for (int i = 0; i < S::stages - 1; ++i) stream", "for (int i = 0; i < S::stages; ++i) stream")],
         "agree", "one copy too many is under way, into the tile that is being read"),
  Mutant("d6_state_kept", "d6",
         [(D6, "    HeadTiles<S> heads;\n", ""),
          (D6, "  for (std::int32_t next = queue.begin;; ++next) {",
           "  HeadTiles<S> heads;\n  for (std::int32_t next = queue.begin;; ++next) {")],
         "agree", "the softmax goes on from one item of a queue into the next"),
  Mutant("d6_query_kept", "d6", [(D6, "q = holds_two ? upcoming_q : query_of(item);", "q = holds_two ? q : query_of(item);")],
         "agree", "every item of a queue meets the first one's query"),
  Mutant("d6_lost_item", "d6", [(D6, "if (next >= queue.end) break;", "if (next + 1 >= queue.end) break;")],
         "agree", "the last item of a queue is not run"),
  Mutant("d6_stale_counter", "d6", [(ARRIVAL, '"l"(counter), "r"(expected - 1)', '"l"(counter), "r"(0xffffffffu)')],
         "agree", "counters do not return to zero: the second run never merges"),
  Mutant("d6_merged_early", "d6", [(ARRIVAL, "return before + 1 ==", "return before + 2 ==")],
         "agree", "the last arriver but one merges"),
  Mutant("d6_wrong_slot", "d6",
         [(PARTIALS, "from += some.step * m.rows.size() * Column::vectors", "from += some.step * Column::vectors")],
         "agree", "a partial is taken for one row"),
  Mutant("d6_merge_weight", "d6", [(PARTIALS, "state.d = __fadd_rn(state.d, weight);", "state.d = __fadd_rn(state.d, 1);")],
         "agree", "partials are averaged as if they weighed the same"),
  Mutant("d6_lost_group", "d6", [(ARRIVAL, "some.first = group(m) * PackedMerge::group_size,", "some.first = 0,")],
         "agree", "of many partials only the first group is merged"),
  Mutant("d6_answer_read_early", "d6",
         [(ARRIVAL, "    Group::sync();  // the answer of the counter is in shared memory\n    bool last",
           "    bool last")],
         "racecheck", "no barrier between the counter's answer and its readers"),
  Mutant("d6_partials_read_early", "d6", [(TILES, AFTER_PUT, "")],
         "racecheck", "no barrier between writing and reading the warps' partials"),

  Mutant("d6_mask_ignored", "d6_general", [(D6, "if (variant.every_tile_is_edge()) {", "if (false) {")],
         "agree", "a custom mask is not asked"),
  Mutant("d6_mask_of_neighbour", "d6_general",
         [(D6, "variant.sees(logits.query, token + 8 * half)", "variant.sees(logits.query, token)")],
         "agree", "a key is asked about in the place of its neighbour"),
  Mutant("d6_slope_of_first_head", "d6_general",
         [(ITEM_LOGITS, "return variant.head(OneQueryRows{pack}(item, row).qo_head);",
           "return variant.head(OneQueryRows{pack}(item, 0 * row).qo_head);")],
         "agree", "every head of an item has the ALiBi slope of the first"),
  Mutant("d6_constant_lost", "d6_general",
         [(D6, "write_output(rows, place, feature, state, value, row_constant);",
           "write_output(rows, place, feature, state, value, 0 * row_constant);")],
         "agree", "the constant that ALiBi keeps out of a row's logits is not added to lse"),

  Mutant("d7_every_cta_first", "d7",
         [(CLUSTER, "return cluster_rank() * tile_warps + threadIdx.x / 32;", "return threadIdx.x / 32;")],
         "agree", "every CTA of a cluster computes the first one's tiles"),
  Mutant("d7_lost_cta", "d7", [(CLUSTER, "lane < cluster_ctas ? load_in_cluster(in_cta(&m[r], lane))",
                                "lane < cluster_ctas - 1 ? load_in_cluster(in_cta(&m[r], lane))")],
         "agree", "the last CTA of a cluster weighs nothing"),
  Mutant("d7_own_rows_only", "d7",
         [(CLUSTER, "load4_in_cluster(in_cta(&o[r][Lanes::feature(x)], first + i))",
           "load4_in_cluster(in_cta(&o[r][Lanes::feature(x)], cluster_rank()))")],
         "agree", "a CTA takes its own part for everybody's"),
  Mutant("d7_weight_of_first", "d7",
         [(CLUSTER, "row.add(part[i], __shfl_sync(all_lanes, weight, first + i));",
           "row.add(part[i], __shfl_sync(all_lanes, weight, 0));")],
         "agree", "all CTAs' parts weigh what the first one's does"),
  Mutant("d7_one_counter", "d7", [(D7, "std::int64_t{item.merge} * plan.counters + r;",
                                   "std::int64_t{item.merge} * plan.counters + 0 * r;")],
         "agree", "all rows of a tile count at one place: a row is merged when others have arrived"),
  Mutant("d7_merge_rotated", "d7", [(CLUSTER, "__shfl_sync(all_lanes, weight, (first + i) % 32)",
                                     "__shfl_sync(all_lanes, weight, (first + i + 1) % 32)")],
         "agree", "a cluster's partial has the weight of the next one's"),

  Mutant("p1_stale_claims", "p1", [(WORK, "atomicInc(&header.claimed, last)", "atomicInc(&header.claimed, last | 0xffffffffu)")],
         "agree", "the counter of claims does not return to zero: the second run finds no work"),
  Mutant("p1_rows_in_wrong_order", "p1",
         [(WORK, "row_of(tile.head, tile.rows.begin + r, pack)", "row_of(tile.head, tile.rows.begin, pack)")],
         "agree", "every row of a tile is taken for the first"),
  Mutant("p1_causal_off_by_one", "p1", [(P1, "if (!variant.sees(query, j)) continue;",
                                        "if (!variant.sees(query, j + (j + 1 < query.request.kv_len))) continue;")],
         "agree", "a mask is asked about the next key"),
  Mutant("p1_query_not_rotated", "p1",
         [(P1, "load_query(rope, from, p.head_dim_qk, item.request.diagonal + query.i, q);",
           "load_query(rope, from, p.head_dim_qk, query.i, q);")],
         "agree", "a query stands at its place among the queries, not among the keys"),
  Mutant("p1_answer_read_early", "p1",
         [(P1, "    __syncthreads();  // every thread has read it: the next claim may overwrite it\n", "")],
         "racecheck", "the next claim is written while others read this one"),

  Mutant("p4_no_swizzle", "p4",
         [(P4, "&shared.v[key][swizzled(key, 2 * n + lane / 16)]", "&shared.v[key][2 * n + lane / 16]")],
         "agree", "V is read as if it lay unswizzled"),

  Mutant("p5_mask_off_by_one", "p5", [(LOGITS, "size = keys.size();", "size = keys.size() + 1;")],
         "agree", "a row sees one key more than it may"),
  Mutant("p5_no_rescale", "p5", [(P5, "at[2 * h] *= rescale, at[2 * h + 1] *= rescale;", "at[2 * h] *= 1, at[2 * h + 1] *= 1;")],
         "agree", "o keeps its scale when the maximum grows"),
  Mutant("p5_lost_stage", "p5",
         [(P5, "      copies.copy_v(tile, shared.v);\n      cp_async_commit();\n",
           "      copies.copy_v(tile, shared.v);\n      if (tile + 1 < tiles) copies.copy_k(tile + 1, shared.k);\n"
           "      cp_async_commit();\n      cp_async_wait<0>();\n"),
          (P5, "      __syncthreads();  // V has arrived; all warps are done with K\n"
               "      if (tile + 1 < tiles) copies.copy_k(tile + 1, shared.k);\n",
               "      __syncthreads();\n")],
         "agree", "K of the next tile is copied to where this one is still to be read"),
  Mutant("p5_tail_read", "p5",
         [(COPIES, "return item_.keys.size();",
           "return (item_.keys.end + kv_.pages.page_size - 1) / kv_.pages.page_size * kv_.pages.page_size - item_.keys.begin;")],
         "agree", "the unused slots of a last page are read, and 0 * NaN is NaN"),
  Mutant("p5_lost_tile", "p5", [(KEYS, "(hull.end - 1 - begin) / size + 1}", "(hull.end - begin) / size}")],
         "agree", "a warp leaves out the partly filled last tile"),
  Mutant("p5_round_of_another", "p5", [(COPIES, "slots[tile / round % 2]", "slots[0]")],
         "agree", "every second round of tiles is copied from where another one lies"),

  Mutant("p5_mask_ignored", "p5_general", [(LOGITS, "variant.sees(logits.query[i], first_key + j)", "true")],
         "agree", "a custom mask is not asked"),
  Mutant("p5_slope_of_first_row", "p5_general",
         [(LOGITS, "lane_place<S>(item, place, i).qo_head", "lane_place<S>(item, place, 0 * i).qo_head")],
         "agree", "every row of a lane has the ALiBi slope of the first"),

  # Without a wait, or with a wrong parity, some of these would wait for ever: no such mutants. mbarrier_model.hpp, in
  # walkthroughs, has them.
  Mutant("p6_wrong_stride", "p6",
         [(PRODUCTS, "wgmma_operand(k, 0, S::atom_bytes * S::k_atoms)", "wgmma_operand(k, 0, S::atom_bytes)")],
         "agree", "the next eight keys are looked for where this eight's other features lie"),
  Mutant("p6_first_tiles_again", "p6", [(P6, "tiles, tiles.count - 1 - t, t);", "tiles, tiles.count - 1 - t % S::stages, t);")],
         "agree", "a stage is always filled with the tile that was its first"),
  Mutant("p6_no_rescale", "p6", [(RUNNING, "o[j] *= factor[j / 2 % 2];", "o[j] *= 1;")],
         "agree", "o keeps its scale when the maximum grows"),

  Mutant("p7_queries_in_one_place", "p7", [(BOXES, "copy_box(queries.q, q[group] + ", "copy_box(queries.q, q[0 * group] + ")],
         "agree", "both groups' queries are copied to where the first one's belong"),
  Mutant("p7_lost_stage", "p7", [(REQUESTS, "kv.box_rows, shared.v[at.stage],", "kv.box_rows, shared.v[0 * at.stage],")],
         "agree", "every tile of values is copied to the first stage"),
  Mutant("p7_tail_read", "p7",
         [(LOWER, "if (first_key + S::keys <= static_cast<std::uint32_t>(kv_len)) return;", "return;")],
         "agree", "values in the unused slots of a last page are not cleared, and 0 * NaN is NaN"),

  Mutant("p8_values_of_this_tile", "p8",
         [(P8, "shared_address(shared.v[before.stage]), n + 2", "shared_address(shared.v[at.stage]), n + 2")],
         "agree", "P of the tile before meets the values of this one"),
  Mutant("p8_last_tile_alone", "p8", [(P8, "shared_address(shared.v[last.stage]), tiles.count == 1);",
                                       "shared_address(shared.v[last.stage]), true);")],
         "agree", "the product behind the loop does not add to what the loop summed up"),

  Mutant("p9_queries_in_one_place", "p9", [(P9, "copy_queries<S>(queries, item, shared.q[place.stage],",
                                            "copy_queries<S>(queries, item, shared.q[0 * place.stage],")],
         "agree", "the next work's queries are copied to where this one's are in use"),
  Mutant("p9_work_of_first_head", "p9", [(AHEAD, "coming_).copy;", "coming_).copy * 0;")],
         "agree", "the record of every work is taken for that of head 0"),
  Mutant("p9_claims_too_often", "p9",
         [(AHEAD, "    if (work_ >= plan_.view.header->num_work) return false;\n    claimed_ = claim_by_one();\n",
           "    claimed_ = claim_by_one();\n    if (work_ >= plan_.view.header->num_work) return false;\n")],
         "agree", "a CTA that has found nothing claims once more: the counter does not return to zero"),

  Mutant("p10_reference_from_zero", "p10", [(STALE, "no_reference = -1e30f,", "no_reference = 0,")],
         "agree", "a row whose first tile is masked has a reference that may be above all that it sees"),
  Mutant("p10_never_raised", "p10", [(STALE, "most = 16384.0f;", "most = 1e38f;")],
         "agree", "weights overflow f16 before the reference is raised"),

  Mutant("p11_mask_off_by_one", "p11", [(ROWS, "x % 2 >= end[", "x % 2 > end[")], "agree", "a row sees one key more than it may"),
  Mutant("p11_window_off_by_one", "p11", [(ROWS, "x % 2 < begin[", "x % 2 <= begin[")], "agree", "a row does not see its first key"),
  Mutant("p11_edge_not_masked", "p11", [(ROWS, "(all.end - tiles.begin) / S::keys, 0)};", "div_up(all.end - tiles.begin, S::keys), 0)};")],
         "agree", "the tile with the diagonal is taken for one that all rows see"),
  Mutant("p11_no_rescale", "p11",
         [(STALE, "o[4 * j + 2 * i] *= factor, o[4 * j + 2 * i + 1] *= factor;", "o[4 * j + 2 * i] *= 1, o[4 * j + 2 * i + 1] *= 1;")],
         "agree", "o keeps its scale when the reference is raised"),
  Mutant("p11_sum_kept", "p11", [(STALE, "sum[i] *= factor;", "")],
         "agree", "the sum keeps its scale when the reference is raised"),
  Mutant("p11_never_raised", "p11", [(STALE, "most = 16384.0f;", "most = 1e38f;")],
         "agree", "weights overflow f16 before the reference is raised"),
  Mutant("p11_wrong_stride", "p11", [(PRODUCTS, "wgmma_operand(v, S::atom_bytes, ", "wgmma_operand(v, 2 * S::atom_bytes, ")],
         "agree", "the second 64 features of V are looked for behind the next eight keys"),
  Mutant("p11_lost_stage", "p11", [(PRODUCER, "kv.box_rows, shared.k[at.stage],", "kv.box_rows, shared.k[0 * at.stage],")],
         "agree", "every tile of keys is copied to the first stage"),
  Mutant("p11_tail_read", "p11", [(P11, "if (first_key + S::keys > kv_len) {", "if (first_key + S::keys > kv_len + S::keys) {")],
         "agree", "values in the unused slots of a last page are not cleared, and 0 * NaN is NaN"),
  Mutant("p11_o_kept", "p11", [(PRODUCTS, "step > 0 || !first);", "true);")],
         "agree", "an item adds to what the last one left in the accumulators"),
  Mutant("p11_start_of_page", "p11", [(BOXES, "return {(at - logical * kv.pages.page_size) / 8, ", "return {0, ")],
         "agree", "every box is taken from the start of its page"),
  Mutant("p11_box_of_first", "p11", [(BOXES, "const auto at = static_cast<std::int32_t>(token + mine);", "const auto at = static_cast<std::int32_t>(token);")],
         "agree", "all lanes ask for the tile's first box"),
  Mutant("p11_rows_exchanged", "p11", [(OUTPUT, "__shfl_sync(all_lanes, offset, row);", "__shfl_sync(all_lanes, offset, row ^ 1);"),
                                       (OUTPUT, "__shfl_sync(all_lanes, offset, lane / 4 * 4 + i);", "__shfl_sync(all_lanes, offset, lane / 4 * 4 + 1 - i);")],
         "agree", "rows are written in each other's place"),

  Mutant("compact_start_of_page", "compact",
         [(COMPACT, "rows.strides.offset(p.pages.locate_from(request.first_page, token), 0)",
           "rows.strides.offset({p.pages.locate_from(request.first_page, token).page, 0}, 0)")],
         "agree", "every token is copied from the first slot of its page"),
  Mutant("compact_lost_page", "compact",
         [(COMPACT, "static_cast<std::uint32_t>(p.requests[p.num_requests].first_copy);",
           "static_cast<std::uint32_t>(max(p.requests[p.num_requests].first_copy - p.pages.page_size, 0));")],
         "agree", "the last page of the last request is not copied"),
  Mutant("compact_first_head", "compact", [(COMPACT, "from[head * rows.strides.head + ", "from[0 * head * rows.strides.head + ")],
         "agree", "every KV head gets the keys and values of the first"),
  Mutant("compact_window_begin", "compact",
         [(COMPACT, "request.begin + copy - request.first_copy", "copy - request.first_copy")],
         "agree", "a request's first tokens are copied, and not those that a window shows"),
]
MUTANTS += [Mutant(name, "d6_rotated", patches, "agree", mistake) for name, patches, mistake in ROTATED]
