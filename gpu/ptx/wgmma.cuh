// The tensor cores of sm_90a: a warp group (128 threads, four warps) multiplies a 64 x 16 tile by a 16 x n one, while its
// threads go on. PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions".
//
// Accumulator c[n / 2] of a thread: with w its warp in the group and l its lane, c[4 j + e] is row 16 w + l / 4 + e / 2 * 8,
// column 8 j + l % 4 * 2 + e % 2. An A operand in registers has the same form, 16 columns at a time, packed in pairs: so the
// product's accumulator, rounded, is the next product's A operand as it stands.
//
// The order is: fence, products, commit, wait. Until the wait returns, nobody touches the accumulators or the registers
// of A. What the group's products read from shared memory must have come by the copy engine, or be followed by
// fence_proxy_async().
#pragma once

#include <cstdint>

#include "core/half.hpp"

namespace flashladder::gpu {

// Registers that were written before may be read by the products that follow.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most `pending` of the committed groups are under way.
template <int pending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// An operand in shared memory, in swizzled rows of 128 bytes, as the hardware wants it described:
//   bits 0-13 address / 16    16-29 leading offset / 16    32-45 stride offset / 16    62-63 swizzle (1: 128 bytes)
// Eight rows make an atom of 1024 bytes. stride: from eight rows to the next eight. leading: for an operand whose rows run
// along k (a transposed one), from 64 columns to the next 64; else it is not read.
__device__ inline std::uint64_t wgmma_operand(std::uint32_t shared_address, std::uint32_t leading, std::uint32_t stride) {
  return std::uint64_t{(shared_address & 0x3ffffu) >> 4} | std::uint64_t{leading >> 4} << 16 |
         std::uint64_t{stride >> 4} << 32 | std::uint64_t{1} << 62;
}
// The same operand, so many bytes further on.
__device__ inline std::uint64_t further(std::uint64_t operand, std::uint32_t bytes) { return operand + (bytes >> 4); }

// c = a b, or c += a b if `add`. a [64, 16] in registers or in shared memory, b [16, n] in shared memory: rows of b's
// transpose (as keys lie), or, with along_k, rows of b itself (as values lie).
template <class Element, int n>
struct Wgmma;

// The operands of an instruction as text and as constraints. %0 .. are the accumulators.
#define FL_TEXT_32                                                                                                       \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define FL_TEXT_48 FL_TEXT_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define FL_TEXT_64 FL_TEXT_48 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define FL_TEXT_128                                                                                                      \
  FL_TEXT_64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89," \
             "%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112," \
             "%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define FL_C8(i) \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), "+f"(c[i + 6]), "+f"(c[i + 7])
#define FL_C32(i) FL_C8(i), FL_C8(i + 8), FL_C8(i + 16), FL_C8(i + 24)
#define FL_C48 FL_C32(0), FL_C8(32), FL_C8(40)
#define FL_C64 FL_C32(0), FL_C32(32)
#define FL_C128 FL_C64, FL_C32(64), FL_C32(96)

// half: accumulators of a thread, n / 2. o0 .. o6: the operands behind them, "%half", "%half + 1" ...
#define FL_WGMMA(Element, type, n, half, text, constraints, o0, o1, o2, o3, o4, o5, o6)                                    \
  template <>                                                                                                            \
  struct Wgmma<Element, n> {                                                                                             \
    template <bool along_k>                                                                                              \
    static __device__ void multiply(float (&c)[half], const std::uint32_t* a, std::uint64_t b, bool add) {                \
      asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " o5 ", 0;\n"                                                   \
                   "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" text "}, {" o0 "," o1 "," o2 "," o3 \
                   "}, " o4 ", add, 1, 1, " o6 ";\n}"                                                                    \
                   : constraints                                                                                         \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int{add}), "n"(int{along_k}));               \
    }                                                                                                                    \
    template <bool along_k>                                                                                              \
    static __device__ void multiply(float (&c)[half], std::uint64_t a, std::uint64_t b, bool add) {                       \
      asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " o2 ", 0;\n"                                                   \
                   "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" text "}, " o0 ", " o1              \
                   ", add, 1, 1, 0, " o3 ";\n}"                                                                          \
                   : constraints                                                                                         \
                   : "l"(a), "l"(b), "r"(int{add}), "n"(int{along_k}));                                                  \
    }                                                                                                                    \
  };
#define FL_WGMMA_SIZES(Element, type)                                                                               \
  FL_WGMMA(Element, type, 64, 32, FL_TEXT_32, FL_C32(0), "%32", "%33", "%34", "%35", "%36", "%37", "%38")           \
  FL_WGMMA(Element, type, 96, 48, FL_TEXT_48, FL_C48, "%48", "%49", "%50", "%51", "%52", "%53", "%54")              \
  FL_WGMMA(Element, type, 128, 64, FL_TEXT_64, FL_C64, "%64", "%65", "%66", "%67", "%68", "%69", "%70")             \
  FL_WGMMA(Element, type, 256, 128, FL_TEXT_128, FL_C128, "%128", "%129", "%130", "%131", "%132", "%133", "%134")
FL_WGMMA_SIZES(Half, "f16")
FL_WGMMA_SIZES(BFloat16, "bf16")
#undef FL_TEXT_32
#undef FL_TEXT_48
#undef FL_TEXT_64
#undef FL_TEXT_128
#undef FL_C8
#undef FL_C32
#undef FL_C48
#undef FL_C64
#undef FL_C128
#undef FL_WGMMA
#undef FL_WGMMA_SIZES

}  // namespace flashladder::gpu
