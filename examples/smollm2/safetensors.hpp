// Reads the file that model.py writes: named tensors and notes, in the safetensors format (8 bytes of header length, a JSON
// header, the data). The file is mapped, not copied: its tensors live as long as the object.
#pragma once

#include <flashladder/core/tensor.hpp>
#include <map>
#include <span>
#include <string>
#include <vector>

class Safetensors {
 public:
  explicit Safetensors(const std::string& path);  // std::runtime_error: what is wrong with the file
  ~Safetensors();
  Safetensors(const Safetensors&) = delete;
  Safetensors& operator=(const Safetensors&) = delete;

  // The tensor of that name, which must have this dtype and shape (-1: any size).
  flashladder::ConstTensor tensor(const std::string& name, flashladder::DType dtype,
                                  std::initializer_list<std::int64_t> shape) const;
  std::span<const std::int32_t> integers(const std::string& name) const;
  // Rows of different lengths: tensor `name` has all of them, `name`_indptr says where each begins.
  template <class T>
  std::vector<std::span<const T>> ragged(const std::string& name, flashladder::DType dtype) const {
    const flashladder::ConstTensor all = tensor(name, dtype, {-1});
    const std::span<const std::int32_t> indptr = integers(name + "_indptr");
    std::vector<std::span<const T>> rows;
    for (std::size_t r = 0; r + 1 < indptr.size(); ++r) {
      if (indptr[r] < 0 || indptr[r] > indptr[r + 1] || indptr[r + 1] > all.shape[0])
        fail(name + "_indptr: must rise within " + name);
      rows.emplace_back(all.data_as<const T>() + indptr[r], all.data_as<const T>() + indptr[r + 1]);
    }
    return rows;
  }
  double number(const std::string& note) const;
  std::string text(const std::string& note) const;

 private:
  [[noreturn]] void fail(const std::string& what) const;
  void read_header(const char* data, std::size_t bytes);
  void read_tensor(struct JsonScanner& json, const std::string& name, const char* data, std::size_t bytes);

  std::string path_;
  void* mapped_ = nullptr;
  std::size_t size_ = 0;
  std::map<std::string, flashladder::ConstTensor> tensors_;
  std::map<std::string, std::string> notes_;
};
