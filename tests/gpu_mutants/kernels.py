"""The kernels that are broken on purpose, their files, and what a patch of one is."""
import collections

# A kernel's files, the one with attend() last; headers of gpu/ come with them. variant: what its one instance computes.
# entry: another name than attend, of a kernel that runs before the rung's. stored: the elements of K and V, of D6, or of
# latent rows, of L4; fragments: of 8 rows, of D6's tile.
Kernel = collections.namedtuple("Kernel", "files rung variant entry stored fragments", defaults=["attend", "Half", 1])
MERGE = "gpu/attention/merge_partials.cu"
D5, D6, D7 = "gpu/decode/d5_tensor_cores.cu", "gpu/decode/d6_balanced.cu", "gpu/decode/d7_clusters.cu"
P1 = "gpu/prefill/p1_row_per_thread.cu"
P4, P5, P11 = "gpu/prefill/p4_swizzle.cu", "gpu/prefill/p5_pipeline.cu", "gpu/prefill/p11_hopper.cu"
COMPACT, P12 = "gpu/prefill/compact_pages.cu", "gpu/prefill/p12_mixed.cu"
ROTATED_COPY = "gpu/prefill/rotated_copy.cu"
P6, P7, P8 = "gpu/prefill/p6_boxes.cu", "gpu/prefill/p7_producer.cu", "gpu/prefill/p8_turns.cu"
P9, P10 = "gpu/prefill/p9_persistent.cu", "gpu/prefill/p10_stale_reference.cu"
L4, L5, MERGE_MLA = "gpu/mla/l4_tensor_cores.cu", "gpu/mla/l5_hopper.cu", "gpu/mla/merge_mla.cu"
KERNELS = {
  "d5": Kernel([MERGE, D5], "d5", "Scaled"),
  "d6": Kernel([D6], "d6", "Scaled"),
  "d6_general": Kernel([D6], "d6", "General"),
  "d6_rotated": Kernel([D6], "d6", "Rotated"),
  "d6_narrow": Kernel([D6], "d6", "Scaled", stored="Float8E4M3"),
  "d6_few": Kernel([D6], "d6", "Scaled", fragments=2),
  "d7": Kernel([D7], "d7", "Scaled"),
  "l4": Kernel([MERGE_MLA, L4], "l4", ""),
  "l4_narrow": Kernel([MERGE_MLA, L4], "l4", "", stored="Float8E4M3"),
  "l5": Kernel([L5], "l5", ""),
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
  "p11_masked": Kernel([P11], "p11", "Masked"),
  "p12": Kernel([P12], "p12", "Scaled"),
  "compact": Kernel([COMPACT], "p11", "", "compact_pages"),
  "rotated": Kernel([ROTATED_COPY], "rotated", "", "copy"),
}

# patches: (file, text to find, text in its place). noticed_by: agree or racecheck.
Mutant = collections.namedtuple("Mutant", "name kernel patches noticed_by mistake")

QUEUE, CONSUMER = "gpu/decode/queue_run.cuh", "gpu/prefill/hopper_consumer.cuh"
TILES, RING, SLOTS = "gpu/decode/head_tiles.cuh", "gpu/decode/tile_ring.cuh", "gpu/attention/token_slots.cuh"
OPERANDS = "gpu/decode/tile_operands.cuh"
FEW = "gpu/decode/few_queries.cuh"
CLUSTER, ITEM_LOGITS = "gpu/decode/cluster_rows.cuh", "gpu/decode/item_logits.cuh"
ARRIVAL, PARTIALS = "gpu/attention/arrival.cuh", "gpu/attention/partial_merge.cuh"
WORK, VARIANTS, WRITE = "gpu/attention/packed_work.cuh", "gpu/attention/variants.cuh", "gpu/attention/write_row.cuh"
COPIES, LOGITS, KEYS = "gpu/prefill/tile_copies.cuh", "gpu/prefill/row_logits.cuh", "gpu/prefill/row_keys.cuh"
PRODUCER, PRODUCTS = "gpu/prefill/hopper_producer.cuh", "gpu/prefill/hopper_products.cuh"
ROWS, STALE, BOXES = "gpu/prefill/hopper_rows.cuh", "gpu/prefill/stale_softmax.cuh", "gpu/prefill/box_copies.cuh"
OUTPUT, RUNNING, REQUESTS = "gpu/prefill/row_output.cuh", "gpu/prefill/running_softmax.cuh", "gpu/prefill/box_requests.cuh"
LOWER, AHEAD = "gpu/prefill/lower_hopper.cuh", "gpu/prefill/work_ahead.cuh"
L4_COPIES, L5_PRODUCER, WORK_STREAM = "gpu/mla/l4_copies.cuh", "gpu/mla/l5_producer.cuh", "gpu/mla/work_stream.cuh"
L5_CONSUMER, L5_OUTPUT = "gpu/mla/l5_consumer.cuh", "gpu/mla/l5_output.cuh"
AFTER_PUT = "Group::sync();  // every warp's partial is there"
