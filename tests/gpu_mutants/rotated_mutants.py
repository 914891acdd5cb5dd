"""The mutants of D6 with RoPE inside attention: (name, patches, mistake), as mutants.py has them. All are for the comparison."""
QUEUE, ROTATION = "gpu/decode/queue_run.cuh", "gpu/decode/tile_rotation.cuh"
TURN = "if (rotation.turn_to(tile)) rotation.rotate_query(item.request.diagonal, q);"

ROTATED = [
  ("d6_keys_of_neighbours", [(ROTATION, "rotation_by(token + Place::token(", "rotation_by(token + 1 + Place::token(")],
   "every key is rotated by the position of the next"),
  ("d6_query_not_rotated", [(QUEUE, TURN, "rotation.turn_to(tile);")], "q is left as it came"),
  ("d6_query_rotated_each_tile",
   [(QUEUE, TURN, "rotation.turn_to(tile), rotation.rotate_query(item.request.diagonal, q);")],
   "q is rotated once more for each tile"),
  ("d6_neighbours_paired",
   [(ROTATION, "rotate({at.cos[i], at.sin[i]}, x.at[i], y.at[i]);",
     "rotate({at.cos[i], at.sin[i]}, i < 4 ? x.at[2 * i] : y.at[2 * i - 8], i < 4 ? x.at[2 * i + 1] : y.at[2 * i - 7]);")],
   "features 2 i and 2 i + 1 are taken for a pair"),
  ("d6_first_tile_again", [(ROTATION, "      walk(of_lane(steps_.tile), at_);\n", "")],
   "every tile of an item is rotated as the warp's first"),
  ("d6_tile_stands_still", [(ROTATION, "      if (u > 0) walk(step, at);\n", "")],
   "a lane's tokens of a tile are all rotated as its first"),
  ("d6_walk_too_far",
   [(ROTATION, "tile ? Warps::count * tile_tokens : Place::at_once",
     "tile ? (Warps::count + 1) * tile_tokens : Place::at_once")],
   "a warp's next tile is taken for one further away"),
]
