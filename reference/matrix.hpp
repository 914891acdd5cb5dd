// The matrix types of the CPU rungs. Row major, so that a row (one query, one key) is contiguous as it is in the tensors.
#pragma once

#include <Eigen/Core>

namespace flashladder::reference {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
// A block of rows of somebody's matrix, read only: neighbouring rows may lie apart.
using RowsView = Eigen::Map<const Matrix<float>, Eigen::Unaligned, Eigen::OuterStride<>>;

}  // namespace flashladder::reference
