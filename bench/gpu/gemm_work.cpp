// The ceiling of arithmetic: an f16 matrix product by cuBLAS, which the program does not link. It is looked for when it is
// needed, in the toolkit's own folder too, and is left out where it is not there; its few functions are declared here.
#include <dlfcn.h>
#include <library_types.h>

#include <cmath>
#include <memory>

#include "bench/gpu/device_rows.hpp"
#include "bench/gpu/families.hpp"
#include "core/half.hpp"

namespace flashladder::bench {
namespace {

using gpu::DeviceBuffer;

constexpr int side = 8192;  // C [m, n] = A [m, k] B [n, k]^T, all of them square
constexpr double elements = double{side} * side;

// cublas_api.h of CUDA 12 and 13: enums are ints, and these values have not changed since CUDA 11.
constexpr int success = 0, op_n = 0, op_t = 1, compute_32f = 68, default_algorithm = -1;

class Cublas {
 public:
  Cublas() {
    for (const char* name : {"libcublas.so.13", "libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so"}) {
      if (library_ == nullptr) library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (library_ == nullptr) return;
    const auto create = function<int (*)(void**)>("cublasCreate_v2");
    destroy_ = function<int (*)(void*)>("cublasDestroy_v2");
    set_stream_ = function<int (*)(void*, void*)>("cublasSetStream_v2");
    gemm_ = function<Gemm*>("cublasGemmEx");
    const bool complete = create != nullptr && destroy_ != nullptr && set_stream_ != nullptr && gemm_ != nullptr;
    if (!complete || create(&handle_) != success) handle_ = nullptr;
  }
  // The library stays loaded: it may have threads and hooks of its own.
  ~Cublas() {
    if (handle_ != nullptr) destroy_(handle_);
  }
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  bool there() const { return handle_ != nullptr; }

  // Rows of A, B [side, side] are what is multiplied. cuBLAS counts columns first: c[i + j * side] = row i of A, row j of B.
  bool multiply(const DeviceBuffer& a, const DeviceBuffer& b, const DeviceBuffer& c, void* stream) const {
    const float one = 1, zero = 0;
    return set_stream_(handle_, stream) == success &&
           gemm_(handle_, op_t, op_n, side, side, side, &one, a.data(), CUDA_R_16F, side, b.data(), CUDA_R_16F, side, &zero,
                 c.data(), CUDA_R_16F, side, compute_32f, default_algorithm) == success;
  }

 private:
  using Gemm = int(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a,
                   int lda, const void* b, int type_b, int ldb, const void* beta, void* c, int type_c, int ldc, int compute,
                   int algorithm);
  template <class F>
  F function(const char* name) const {
    return reinterpret_cast<F>(dlsym(library_, name));
  }

  void *library_ = nullptr, *handle_ = nullptr;
  int (*destroy_)(void*) = nullptr;
  int (*set_stream_)(void*, void*) = nullptr;
  Gemm* gemm_ = nullptr;
};

struct GemmRun {
  Cublas cublas;
  DeviceBuffer a, b, c;

  void prepare() {
    constexpr auto count = static_cast<std::int64_t>(elements);
    a = random_halves(count, 1), b = random_halves(count, 2);
    c = DeviceBuffer(static_cast<std::size_t>(count) * sizeof(Half));
    c.poison();
  }

  // A sample of C against double: half a unit of f16, and the roundings of a float sum of `side` products, of which each
  // is at most 2^-24 of the sum of their sizes.
  std::string check(const GpuTimer& timer) const {
    if (!cublas.multiply(a, b, c, timer.stream())) return "cuBLAS refused the product";
    timer.synchronise();
    std::vector<std::int64_t> rows;  // of A, and the same of B
    for (int i = 0; i < 64; ++i) rows.push_back(std::int64_t{i} * (side - 1) / 63);
    const HostRows from_a(a.data(), rows, side), from_b(b.data(), rows, side), from_c(c.data(), rows, side);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t j = 0; j < rows.size(); ++j) {
        double sum = 0, sizes = 0;
        for (std::size_t k = 0; k < side; ++k) {
          const double x = double{float(from_a.values[i * side + k])} * double{float(from_b.values[j * side + k])};
          sum += x, sizes += std::abs(x);
        }
        const auto got = double{float(from_c.values[j * side + static_cast<std::size_t>(rows[i])])};
        const double tolerance = 0x1p-11 * std::abs(sum) + side * 0x1p-24 * sizes;
        if (!(std::abs(got - sum) <= tolerance)) {
          return "row " + std::to_string(rows[i]) + ", column " + std::to_string(rows[j]) + ": got " + std::to_string(got) +
                 ", want " + std::to_string(sum);
        }
      }
    }
    return "";
  }
};

}  // namespace

std::vector<TimedWork> prepare_gemm(const std::shared_ptr<GpuTimer>& timer) {
  const auto run = std::make_shared<GemmRun>();
  if (!run->cublas.there()) return {};
  run->prepare();
  return {{.line = {.family = "gemm", .work = "8192^3 f16", .backend = "cuBLAS"}, .flops = 2 * elements * side,
           .checked = "64 x 64 elements equal double", .failure = run->check(*timer),
           .time_us = [=] {
             return timer->event_us([&](void* stream) { run->cublas.multiply(run->a, run->b, run->c, stream); });
           }}};
}

}  // namespace flashladder::bench
