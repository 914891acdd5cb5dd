// The model's own operations on the CPU, with Eigen. In f32 weights are read where the file is mapped. In f16 every weight
// and every result is rounded to f16 and computed in float, as on the GPU: that shows here what 16 bits do to the tokens.
#include <Eigen/Core>
#include <chrono>
#include <cmath>
#include <deque>
#include <vector>

#include "backend.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Rows = Eigen::Map<const Matrix>;

// The rows of a tensor [n, d] as floats: its own memory, or a copy in `room`.
Rows read(const fl::ConstTensor& t, Matrix& room) {
  if (t.dtype == fl::DType::f32) return {t.data_as<const float>(), t.shape[0], t.shape[1]};
  room.resize(t.shape[0], t.shape[1]);
  for (Eigen::Index i = 0; i < room.size(); ++i) room.data()[i] = static_cast<float>(t.data_as<const fl::Half>()[i]);
  return {room.data(), t.shape[0], t.shape[1]};
}
void write(const Matrix& values, const fl::Tensor& t) {
  if (t.dtype == fl::DType::f32) {
    Eigen::Map<Matrix>(t.data_as<float>(), t.shape[0], t.shape[1]) = values;
  } else {
    for (Eigen::Index i = 0; i < values.size(); ++i) t.data_as<fl::Half>()[i] = fl::Half(values.data()[i]);
  }
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(fl::DType dtype) : dtype_(dtype) {}

  std::string name() const override { return std::string("the CPU, ") + name_of(dtype_); }
  api::On on() const override { return {}; }
  fl::DType dtype() const override { return dtype_; }
  std::span<std::byte> memory(std::size_t bytes) override { return memory_.emplace_back(bytes); }
  api::Workspace workspace(const api::WorkspaceBytes& bytes) override { return {.device = memory(bytes.device)}; }
  void upload(std::span<std::byte> to, const void* from) override {
    std::copy_n(static_cast<const std::byte*>(from), to.size(), to.begin());
  }
  std::vector<std::int32_t> download(std::span<const std::int32_t> from) override { return {from.begin(), from.end()}; }

  fl::ConstTensor matrix(const fl::ConstTensor& stored) override {
    if (dtype_ == fl::DType::f32) return stored;
    fl::Tensor rounded = fl::contiguous(memory(static_cast<std::size_t>(stored.size()) * sizeof(float)).data(),
                                        fl::DType::f32, {stored.shape[0], stored.shape[1]});
    for (std::int64_t i = 0; i < stored.size(); ++i) {
      rounded.data_as<float>()[i] = static_cast<float>(fl::Half(stored.data_as<const float>()[i]));
    }
    return rounded;
  }
  fl::ConstTensor vector(const fl::ConstTensor& stored) override {
    if (dtype_ == fl::DType::f32) return stored;
    const fl::Tensor rounded = fl::contiguous(memory(static_cast<std::size_t>(stored.size()) * sizeof(fl::Half)).data(),
                                              fl::DType::f16, {stored.shape[0]});
    for (std::int64_t i = 0; i < stored.size(); ++i)
      rounded.data_as<fl::Half>()[i] = fl::Half(stored.data_as<const float>()[i]);
    return rounded;
  }

  void multiply(const fl::ConstTensor& x, const fl::ConstTensor& w, const fl::Tensor& y) override {
    const Rows rows = read(x, x_), weights = read(w, w_);
    if (y.dtype == fl::DType::f32) {
      Eigen::Map<Matrix>(y.data_as<float>(), y.shape[0], y.shape[1]).noalias() = rows * weights.transpose();
    } else {
      y_.noalias() = rows * weights.transpose();
      write(y_, y);
    }
  }
  void gather(const fl::ConstTensor& table, std::span<const std::int32_t> rows, const fl::Tensor& out) override {
    const Rows all = read(table, x_);
    y_.resize(out.shape[0], out.shape[1]);
    for (std::size_t i = 0; i < rows.size(); ++i) y_.row(static_cast<Eigen::Index>(i)) = all.row(rows[i]);
    write(y_, out);
  }
  void silu(const fl::ConstTensor& gate_up, const fl::Tensor& out) override {
    const Rows all = read(gate_up, x_);
    const auto gate = all.leftCols(out.shape[1]).array(), up = all.rightCols(out.shape[1]).array();
    y_ = (gate / (1 + (-gate).exp()) * up).matrix();
    write(y_, out);
  }
  void argmax(const fl::ConstTensor& logits, std::span<std::int32_t> ids) override {
    const Rows all = read(logits, x_);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      Eigen::Index best = 0;
      all.row(static_cast<Eigen::Index>(i)).maxCoeff(&best);
      ids[i] = static_cast<std::int32_t>(best);
    }
  }

  void step(Repeat, const std::function<void()>& work) override {
    times_ = {};
    last_ = Clock::now();
    work();
  }
  void mark(Part part) override {
    const Clock::time_point now = Clock::now();
    times_[static_cast<std::size_t>(part)] += std::chrono::duration<double, std::milli>(now - last_).count();
    last_ = now;
  }
  bool measures_parts() const override { return true; }
  Milliseconds times() override { return times_; }

 private:
  fl::DType dtype_;
  std::deque<std::vector<std::byte>> memory_;
  Matrix x_, w_, y_;  // floats of operands and results that are f16
  Milliseconds times_{};
  Clock::time_point last_{};
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(fl::DType dtype) { return std::make_unique<CpuBackend>(dtype); }
