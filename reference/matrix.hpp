// The matrix types of the CPU rungs. Row major, so that a row (one query, one key) is contiguous as it is in the tensors.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#include <Eigen/Core>

namespace flashladder::reference {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
// A block of rows of somebody's matrix, read only: neighbouring rows may lie apart.
using RowsView = Eigen::Map<const Matrix<float>, Eigen::Unaligned, Eigen::OuterStride<>>;

// A Matrix<float> that keeps its memory when it gets smaller: what is used again and again, for tiles of any height, soon
// allocates nothing. Resizing loses the contents.
class Buffer : public Eigen::Map<Matrix<float>> {
 public:
  using Map = Eigen::Map<Matrix<float>>;

  Buffer() : Map(nullptr, 0, 0) {}
  Buffer(const Buffer& other) : Buffer() { *this = other; }
  Buffer& operator=(const Buffer& other) {
    if (this == &other) return *this;
    resize(other.rows(), other.cols());
    Map::operator=(other);
    return *this;
  }

  void resize(Eigen::Index rows, Eigen::Index cols) {
    const auto size = static_cast<std::size_t>(rows * cols);
    if (memory_.size() < size) memory_.resize(size);
    new (static_cast<Map*>(this)) Map(memory_.data(), rows, cols);  // how Eigen lets a Map look at other memory
  }
  Map& setZero(Eigen::Index rows, Eigen::Index cols) {
    resize(rows, cols);
    return Map::setZero();
  }

 private:
  std::vector<float> memory_;
};

}  // namespace flashladder::reference
