// Deliberately broken GPU kernels, to prove that the GPU's proof can fail: mutants.py lists them, generate.py writes them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <span>

#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/mla/mla.hpp"
#include "gpu/prefill/compact_pages.hpp"
#include "gpu/prefill/prefill.hpp"
#include "ladder/gpu_adapters.hpp"

namespace flashladder::test {

// Who must notice on a GPU: nobody (the control), the comparison, or compute-sanitizer's racecheck: such a race may well stay
// without consequence in a run. On a simulated GPU the comparison notices these too (tests/simulated/mutants.cpp).
enum class Notice { nobody, agree, racecheck };

using MutantAttend =
    std::function<void(const gpu::AttentionCall&, const gpu::PackedShape&, std::byte*, void*, cudaStream_t)>;
struct MutantKernels {
  MutantAttend attend;
  gpu::CompactPages compact = nullptr;  // or a rotated copy: runs before it
  ladder::MixedAttend mixed{};          // P12's, in its place
  ladder::PlannedMlaAttend latent{};    // that of a rung of latent attention
};
struct GpuMutant {
  const char* name;
  const char* mistake;
  Notice noticed_by;
  MutantKernels kernels;
};

// attend() of a rung; D6's has one argument more, which is for measurements.
inline MutantKernels as_mutant(void (*attend)(const gpu::AttentionCall&, const gpu::PackedShape&, std::byte*, void*,
                                              cudaStream_t)) {
  return {attend};
}
inline MutantKernels as_mutant(void (*attend)(const gpu::AttentionCall&, const gpu::PackedShape&, std::byte*, void*,
                                              cudaStream_t, std::uint64_t*)) {
  return {[attend](const gpu::AttentionCall& call, const gpu::PackedShape& shape, std::byte* packed, void* partials,
                   cudaStream_t stream) { attend(call, shape, packed, partials, stream, nullptr); }};
}
inline MutantKernels as_mutant(void (*attend)(const gpu::AttentionCall&, const gpu::MixedShape&, std::byte*, void*,
                                              cudaStream_t)) {
  return {.attend = {}, .mixed = attend};
}
inline MutantKernels as_mutant(void (*attend)(const gpu::MlaCall&, const gpu::PackedShape&, std::byte*, void*,
                                              cudaStream_t)) {
  return {.attend = {}, .latent = attend};
}
// The library's P11 behind another compaction, or another rotated copy.
inline MutantKernels as_mutant(gpu::CompactPages compact) { return {gpu::p11::attend, compact}; }

std::span<const GpuMutant> d5_mutants();
std::span<const GpuMutant> d6_mutants();
std::span<const GpuMutant> d7_mutants();
std::span<const GpuMutant> d6_general_mutants();
std::span<const GpuMutant> d6_rotated_mutants();
std::span<const GpuMutant> d6_narrow_mutants();
std::span<const GpuMutant> d6_few_mutants();
std::span<const GpuMutant> l4_mutants();
std::span<const GpuMutant> l4_narrow_mutants();
std::span<const GpuMutant> p1_mutants();
std::span<const GpuMutant> p4_mutants();
std::span<const GpuMutant> p5_mutants();
std::span<const GpuMutant> p5_general_mutants();
// In a build for Hopper:
std::span<const GpuMutant> l5_mutants();
std::span<const GpuMutant> p6_mutants();
std::span<const GpuMutant> p7_mutants();
std::span<const GpuMutant> p8_mutants();
std::span<const GpuMutant> p9_mutants();
std::span<const GpuMutant> p10_mutants();
std::span<const GpuMutant> p11_mutants();
std::span<const GpuMutant> p11_masked_mutants();
std::span<const GpuMutant> p12_mutants();
std::span<const GpuMutant> compact_mutants();
std::span<const GpuMutant> rotated_mutants();

}  // namespace flashladder::test
