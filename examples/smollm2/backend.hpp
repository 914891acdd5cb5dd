// What a model needs besides the library: memory, products of matrices, three small operations, and a clock. There are two:
// cpu_backend.cpp (Eigen) and gpu_backend.cpp (cuBLAS, small kernels, a CUDA graph).
#pragma once

#include <array>
#include <flashladder/flashladder.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace fl = flashladder;
namespace api = flashladder::api;

// Where the time of a step goes.
enum class Part { matrices, logits, silu, attention, rope_append, norm, tokens, host };
constexpr std::array<const char*, 8> part_names{
    "matrices", "logits", "SiLU", "attention", "RoPE + append", "RMSNorm", "embedding + argmax", "plan + launch"};
using Milliseconds = std::array<double, part_names.size()>;  // [Part]

enum class Repeat { no, same_launches };  // same_launches: on the GPU captured once and then replayed

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;
  virtual api::On on() const = 0;                              // where the library's operations run
  virtual fl::DType dtype() const = 0;                         // of activations, norms' weights, K and V
  virtual std::span<std::byte> memory(std::size_t bytes) = 0;  // lives as long as the backend
  virtual api::Workspace workspace(const api::WorkspaceBytes& bytes) = 0;
  virtual void upload(std::span<std::byte> to, const void* from) = 0;
  virtual std::vector<std::int32_t> download(std::span<const std::int32_t> from) = 0;  // waits for all that was enqueued

  // A stored f32 tensor where this backend computes; of a matrix the dtype is the backend's own choice.
  virtual fl::ConstTensor matrix(const fl::ConstTensor& stored) = 0;
  virtual fl::ConstTensor vector(const fl::ConstTensor& stored) = 0;

  // y [n, out] = x [n, in] w^T, w [out, in] a matrix(). y may be f32.
  virtual void multiply(const fl::ConstTensor& x, const fl::ConstTensor& w, const fl::Tensor& y) = 0;
  // out [n, d] = rows of table [any, d], a matrix() or an activation.
  virtual void gather(const fl::ConstTensor& table, std::span<const std::int32_t> rows, const fl::Tensor& out) = 0;
  // out [n, d] = silu(gate) * up of gate_up [n, 2 d]; silu(x) = x / (1 + e^-x).
  virtual void silu(const fl::ConstTensor& gate_up, const fl::Tensor& out) = 0;
  // The first largest of each row of logits [n, vocabulary], f32.
  virtual void argmax(const fl::ConstTensor& logits, std::span<std::int32_t> ids) = 0;

  // Does the work of a step: all its launches go through here, and each mark() says what those since the last one were for.
  virtual void step(Repeat repeat, const std::function<void()>& work) = 0;
  virtual void mark(Part part) = 0;
  virtual bool measures_parts() const = 0;
  virtual Milliseconds times() = 0;  // of the last step, after download(); without what the host did
};

std::unique_ptr<Backend> make_cpu_backend(fl::DType dtype);  // f32, or f16: the numbers that a GPU has
// f16; std::runtime_error without a GPU. To measure the parts puts an event between them, and takes time of its own.
std::unique_ptr<Backend> make_gpu_backend(bool measure_parts);
