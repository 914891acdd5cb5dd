# Sourced by ./climb and ./check: what they need, how it gets there, and how the build is configured.
# setup_tools WHAT...   checks for compiler, Meson, Ninja and the named libraries; says what is missing and installs it.
# configure DIR ARGS... configures DIR unless it is; again if it was with other ARGS. What you configured yourself stays.
# mutants_for_this_machine   the option that compiles the GPU's mutants quickly where there is no GPU to run them.
# kernels_for_this_machine   the options that build kernels for the GPUs that are here, and none where there is no GPU.

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 2; }

has_header() { printf '#include <%s>\n' "$1" | "${CXX:-c++}" -std=c++20 -I/usr/include/eigen3 -E -x c++ - >/dev/null 2>&1; }

missing_packages() {
  local packages=""
  command -v "${CXX:-c++}" >/dev/null || packages+=" g++"
  command -v meson >/dev/null || packages+=" meson"
  command -v ninja >/dev/null || packages+=" ninja-build"
  command -v pkg-config >/dev/null || packages+=" pkg-config"
  command -v python3 >/dev/null || packages+=" python3"
  local library
  for library in "$@"; do
    case $library in
      eigen) has_header Eigen/Core || packages+=" libeigen3-dev" ;;
      cli11) has_header CLI/CLI.hpp || packages+=" libcli11-dev" ;;
      json) has_header nlohmann/json.hpp || packages+=" nlohmann-json3-dev" ;;
      pip) python3 -m pip --version >/dev/null 2>&1 || packages+=" python3-pip" ;;
      doctest) has_header doctest/doctest.h || packages+=" doctest-dev" ;;
    esac
  done
  printf '%s' "${packages# }"
}

setup_tools() {
  local packages
  packages=$(missing_packages "$@")
  [ -z "$packages" ] && return
  local install="apt-get install --no-install-recommends -y $packages" sudo=""
  command -v apt-get >/dev/null || fail "Missing here (Debian's names): $packages. Install them with your package manager, then run this again."
  if [ "$(id -u)" != 0 ]; then
    sudo="sudo"
    command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; } ||
      fail "Missing: $packages. Without root or sudo this can't install them. Ask for:  $install"
  fi
  say "To be installed from your distribution: $packages"
  # The lists first: a machine that was never updated knows no packages.
  { $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive $install -q; } >"${TMPDIR:-/tmp}/flashladder-install.log" 2>&1 ||
    { tail -n 5 "${TMPDIR:-/tmp}/flashladder-install.log" >&2; fail "Installing failed (no network?). When it works, run:  $install"; }
  packages=$(missing_packages "$@")
  [ -z "$packages" ] || fail "Still missing after installing: $packages"
}

configure() {
  local dir=$1 again=""
  shift
  if [ -f "$dir/build.ninja" ]; then
    [ -f "$dir/configured_with" ] && [ "$(cat "$dir/configured_with")" != "$*" ] || return 0
    again=--reconfigure
  fi
  say "Configuring $dir"
  # nofallback: what is missing is an error here, never a download.
  meson setup $again "$dir" --wrap-mode=nofallback "$@" >"$dir.log" 2>&1 || { tail -n 15 "$dir.log" >&2; fail "Configuring failed; all of it is in $dir.log"; }
  printf '%s\n' "$*" >"$dir/configured_with"
}

# 8.0 or newer: the kernels use what came with it.
gpus_here() {
  nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | awk '/^[0-9]+$/ && $1 >= 80' | sort -un | paste -sd, || true
}

mutants_for_this_machine() { [ -n "$(gpus_here)" ] || echo "-Dquick_mutants=true"; }

kernels_for_this_machine() {
  local archs
  archs=$(gpus_here)
  if [ -n "$archs" ]; then echo "-Dcuda=auto -Dgpu_archs=$archs"; else echo "-Dcuda=disabled"; fi
}
