#!/usr/bin/env bash
# ./climb --model: fetches the weights (examples/smollm2/model.py), builds the library, installs it under build/model, builds
# examples/smollm2/ against that as its user would, and answers prompts. Arguments are the program's. Exit code 77, with the
# reason, where there are no weights and none can be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/setup.sh

here=build/model
weights=$here/smollm2.safetensors

# The commands that follow a name, with what they print in a log.
logged() {
  local log=$here/$1.log
  "${@:2}" >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "${*:2} failed; all that it said is in $log"; }
}

setup_tools eigen cli11 json pip
mkdir -p "$here" out
[ -f "$weights" ] || python3 examples/smollm2/model.py "$weights"

configure build/release -Dcpu=native -Dtests=false $(kernels_for_this_machine)
say "Building the library and the model's program with $(nproc) cores (the first time takes minutes)"
logged library ninja -C build/release installed-files
logged install meson install -C build/release --no-rebuild --destdir "$PWD/$here/tree"
libraries=$PWD/$(dirname "$(find "$here/tree" -name flashladder.pc)")/..
export PKG_CONFIG_PATH=$libraries/pkgconfig LD_LIBRARY_PATH=$libraries
again=""
[ -f "$here/out/build.ninja" ] && again=--reconfigure  # the library may have GPU code now, or none
logged setup meson setup $again "$here/out" examples/smollm2
logged program ninja -C "$here/out"

exec "$here/out/smollm2" "$weights" --picture out/model.svg "$@"
