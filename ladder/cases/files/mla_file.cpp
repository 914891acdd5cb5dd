#include "ladder/cases/files/mla_file.hpp"

#include <initializer_list>
#include <limits>
#include <string>
#include <tuple>

#include "core/error.hpp"
#include "ladder/cases/files/file_tensors.hpp"

namespace flashladder::ladder {
namespace {

constexpr auto floats = {FileDType::F32, FileDType::F16, FileDType::BF16};
constexpr auto of_caches = {FileDType::F32, FileDType::F16, FileDType::BF16, FileDType::F8_E4M3, FileDType::F8_E5M2};

// A tensor of three dimensions.
OwnedTensor read_part(const Safetensors& file, const char* name, std::int64_t least_features,
                      std::initializer_list<FileDType> dtypes) {
  const FileTensor& tensor = find_tensor(file, name, dtypes, 3);
  const std::int64_t least[] = {0, 1, least_features};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string what = std::string(name) + " shape[" + std::to_string(i) + "]";
    require(tensor.shape[i] >= least[i] && tensor.shape[i] <= std::numeric_limits<std::int32_t>::max(), what.c_str(),
            tensor.shape[i], ("must be " + std::to_string(least[i]) + " .. 2^31 - 1").c_str());
  }
  return copy_of(tensor);
}

void require_dtype_of(DType has, DType wanted, const char* name, const char* rule) {
  require(has == wanted, (std::string(name) + " dtype").c_str(), name_of(has), rule);
}

// Of q_nope's dtype, or of fp8: that is then the case's kv_dtype.
OwnedTensor read_rows(const Safetensors& file, const char* name, std::int64_t least_features, Case& c) {
  OwnedTensor rows = read_part(file, name, least_features, of_caches);
  if (is_fp8(rows.dtype)) c.spec.kv_dtype = rows.dtype;
  else require_dtype_of(rows.dtype, c.spec.dtype, name, "must be that of q_nope, or fp8");
  return rows;
}

void read_queries(const Safetensors& file, Case& c) {
  c.q_nope = read_part(file, "q_nope", 1, floats);
  c.q_pe = read_part(file, "q_pe", 0, floats);
  c.spec.dtype = c.q_nope.dtype;
  require_dtype_of(c.q_pe.dtype, c.spec.dtype, "q_pe", "must be that of q_nope");
  for (const std::size_t i : {0, 1}) {
    const std::string what = "q_pe shape[" + std::to_string(i) + "]";
    require(c.q_pe.shape[i] == c.q_nope.shape[i], what.c_str(), c.q_pe.shape[i], "must be that of q_nope");
  }
}

// One tensor of both parts, cut where q is.
void read_combined_cache(const Safetensors& file, Case& c) {
  for (const char* part : {"ckv_cache", "kpe_cache"}) {
    require(!file.tensors.contains(part), part, "", "contradicts ckv_kpe_cache: give one tensor or two");
  }
  c.k_cache = read_rows(file, "ckv_kpe_cache", 1, c);
  require(c.k_cache.shape[2] == c.q.shape[2], "ckv_kpe_cache shape[2]", c.k_cache.shape[2],
          "must be the features of q_nope and q_pe");
  c.k_cache.shape = with_head(c.k_cache.shape);
}

void read_two_caches(const Safetensors& file, Case& c) {
  require(file.tensors.contains("ckv_cache"), "ckv_cache", "", "is missing, and so is ckv_kpe_cache");
  c.ckv_cache = read_rows(file, "ckv_cache", 1, c);
  c.kpe_cache = read_rows(file, "kpe_cache", 0, c);
  require_dtype_of(c.kpe_cache.dtype, c.ckv_cache.dtype, "kpe_cache", "must be that of ckv_cache");
  for (const auto& [cache, q, what] : {std::tuple(&c.ckv_cache, &c.q_nope, "ckv_cache shape[2]"),
                                       std::tuple(&c.kpe_cache, &c.q_pe, "kpe_cache shape[2]")}) {
    require(cache->shape[2] == q->shape[2], what, cache->shape[2], "must be the features of that part of q");
  }
  for (const std::size_t i : {0, 1}) {
    const std::string what = "kpe_cache shape[" + std::to_string(i) + "]";
    require(c.kpe_cache.shape[i] == c.ckv_cache.shape[i], what.c_str(), c.kpe_cache.shape[i], "must be that of ckv_cache");
  }
}

}  // namespace

bool is_mla_file(const Safetensors& file) { return file.tensors.contains("q_nope"); }

void read_mla_tensors(const Safetensors& file, Case& c) {
  require(!file.tensors.contains("q"), "q", "", "contradicts q_nope: a file holds attention or latent attention");
  read_queries(file, c);
  c.q = joined(c.q_nope, c.q_pe);
  AttentionParams& p = c.spec.params;
  p.num_qo_heads = static_cast<std::int32_t>(c.q.shape[1]);
  p.num_kv_heads = 1;
  p.head_dim_vo = static_cast<std::int32_t>(c.q_nope.shape[2]);
  p.head_dim_qk = static_cast<std::int32_t>(c.q.shape[2]);
  c.spec.combined_cache = file.tensors.contains("ckv_kpe_cache");
  if (c.spec.combined_cache) {
    read_combined_cache(file, c);
    c.q_nope = c.q_pe = {};
  } else {
    read_two_caches(file, c);
    c.k_cache = joined(c.ckv_cache, c.kpe_cache);
    c.k_cache.shape = with_head(c.k_cache.shape);
  }
  c.spec.page_size = static_cast<std::int32_t>(c.k_cache.shape[1]);
}

void add_mla_tensors(const Case& c, Parts& cut_q, Safetensors& file) {
  if (c.spec.combined_cache) cut_q = cut(c.q, c.spec.params.head_dim_vo);
  file.tensors["q_nope"] = lend(c.spec.combined_cache ? cut_q.first : c.q_nope);
  file.tensors["q_pe"] = lend(c.spec.combined_cache ? cut_q.second : c.q_pe);
  if (c.spec.combined_cache) {
    file.tensors["ckv_kpe_cache"] = lend(c.k_cache);
    file.tensors["ckv_kpe_cache"].shape = without_head(c.k_cache.shape);
  } else {
    file.tensors["ckv_cache"] = lend(c.ckv_cache);
    file.tensors["kpe_cache"] = lend(c.kpe_cache);
  }
}

}  // namespace flashladder::ladder
