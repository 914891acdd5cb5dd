// In the place of the Hopper rungs, in a build without their architecture: why_no_hopper() says so before.
#include "core/error.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/mla/mla.hpp"
#include "gpu/prefill/prefill.hpp"

namespace flashladder::gpu {
namespace {

[[noreturn]] void no_code() {
  throw InputError("gpu_archs", "", "this build has no code for Hopper GPUs: configure it with 90 among -Dgpu_archs");
}

}  // namespace

std::int32_t d7::clusters(std::int32_t) { no_code(); }
void d7::attend(const AttentionCall&, const PackedShape&, std::byte*, void*, cudaStream_t) { no_code(); }
void p6::attend(const AttentionCall&, const PackedShape&, std::byte*, void*, cudaStream_t) { no_code(); }
void p7::attend(const AttentionCall&, const PackedShape&, std::byte*, void*, cudaStream_t) { no_code(); }
void p8::attend(const AttentionCall&, const PackedShape&, std::byte*, void*, cudaStream_t) { no_code(); }
void p9::attend(const AttentionCall&, const PackedShape&, std::byte*, void*, cudaStream_t) { no_code(); }
void p10::attend(const AttentionCall&, const PackedShape&, std::byte*, void*, cudaStream_t) { no_code(); }
void p11::attend(const AttentionCall&, const PackedShape&, std::byte*, void*, cudaStream_t) { no_code(); }
void l5::attend(const MlaCall&, const PackedShape&, std::byte*, void*, cudaStream_t) { no_code(); }

}  // namespace flashladder::gpu
