// Answer files: o and lse_log2 of a case, who computed them, and the problem's metadata.
#include <limits>

#include "core/error.hpp"
#include "core/write_file.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/files/file_tensors.hpp"
#include "ladder/cases/input/read_file.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/memory/memory.hpp"

namespace flashladder::ladder {
namespace {

bool dense(const Tensor& t) {
  std::int64_t stride = 1;
  for (int i = t.rank - 1; i >= 0; --i) {
    if (t.shape[i] > 1 && t.strides[i] != stride) return false;
    stride *= t.shape[i];
  }
  return true;
}

Answer answer_from(const Safetensors& file) {
  require_known_tensors(file, {"o", "lse_log2"});
  const FileTensor& o = find_tensor(file, "o", {FileDType::F32, FileDType::F16, FileDType::BF16}, 3);
  const FileTensor& lse = find_tensor(file, "lse_log2", {FileDType::F32}, 2);
  require_shape(lse, "lse_log2", {o.shape[0], o.shape[1]}, "must be o's [nnz_qo, num_qo_heads]");

  Answer answer{copy_of(o), values_of<float>(lse), "", "", file.metadata};
  for (const auto& [key, value] : {std::pair("rung", &answer.rung), std::pair("device", &answer.device)}) {
    const auto entry = answer.metadata.extract(key);
    require(!entry.empty(), (std::string("metadata: ") + key).c_str(), "", "is missing");
    *value = entry.mapped();
  }
  Case problem;  // only to hold the problem's metadata to the rules of a case file
  read_metadata(answer.metadata, problem);
  return answer;
}

}  // namespace

void write_answer(const std::string& path, const Tensor& o, std::span<const float> lse_log2, const std::string& rung,
                  const std::string& device, const Case& c) {
  const AttentionParams& p = c.spec.params;
  const std::int64_t rows = c.q.shape[0];
  require(o.dtype == DType::f32 || o.dtype == DType::f16 || o.dtype == DType::bf16, "o dtype", name_of(o.dtype),
          "must be f32, f16 or bf16");
  require(o.rank == 3 && o.shape[0] == rows && o.shape[1] == p.num_qo_heads && o.shape[2] == p.head_dim_vo && dense(o), "o",
          "", "must be dense and [nnz_qo, num_qo_heads, head_dim_vo]");
  require(lse_log2.size() == static_cast<std::size_t>(rows * p.num_qo_heads), "lse_log2 size", lse_log2.size(),
          "must be nnz_qo * num_qo_heads");
  const std::span<const std::byte> o_bytes(o.data_as<std::byte>(), static_cast<std::size_t>(o.size()) * size_of(o.dtype));
  Safetensors file{metadata_of(c),
                   {{"o", {file_dtype(o.dtype), {o.shape[0], o.shape[1], o.shape[2]}, o_bytes}},
                    {"lse_log2", {FileDType::F32, {rows, p.num_qo_heads}, std::as_bytes(lse_log2)}}}};
  file.metadata["rung"] = rung;
  file.metadata["device"] = device;
  write_file_whole(path, safetensors_bytes(file, path));
}

Answer parse_answer(std::span<const std::byte> file, const std::string& what) {
  const Safetensors contents = parse_safetensors(file, what);
  return within(what, [&] { return answer_from(contents); });
}

Answer read_answer(const std::string& path) {
  const std::vector<std::byte> file = read_file(path, std::numeric_limits<std::size_t>::max());
  require_memory(file.size(), path);
  return parse_answer(file, path);
}

}  // namespace flashladder::ladder
