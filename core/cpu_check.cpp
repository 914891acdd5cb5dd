// A program of ours that was built with vector code for a better CPU than it meets says so, instead of dying of an illegal
// instruction. Linked into the programs, never into the library: that may not end the program of its user.
// Runs before main and before other constructors; this file alone is compiled for any x86-64 (core/meson.build), with
// FLASHLADDER_NEEDS_... telling what the others were compiled for.
#include <cstdio>
#include <cstdlib>

namespace {

#if defined(__x86_64__) && defined(__GNUC__)
[[gnu::constructor(101)]] void check_cpu() {
  __builtin_cpu_init();
  const char* missing = nullptr;
#ifdef FLASHLADDER_NEEDS_AVX2
  if (!__builtin_cpu_supports("avx2")) missing = "AVX2";
  if (!__builtin_cpu_supports("fma")) missing = "FMA";
#endif
#ifdef FLASHLADDER_NEEDS_AVX512F
  if (!__builtin_cpu_supports("avx512f")) missing = "AVX-512";
#endif
#ifdef FLASHLADDER_NEEDS_AVX512BF16
  if (!__builtin_cpu_supports("avx512bf16")) missing = "AVX-512 BF16";
#endif
  if (missing == nullptr) return;
  std::fprintf(stderr, "flashladder: this program was built for a CPU with %s, which this one lacks. "
                       "Build it here, or with -Dcpu=v3 or -Dcpu=baseline.\n", missing);
  std::_Exit(2);
}
#endif

}  // namespace
