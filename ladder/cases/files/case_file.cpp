#include "ladder/cases/files/case_file.hpp"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "core/error.hpp"
#include "core/validate.hpp"
#include "core/write_file.hpp"
#include "ladder/cases/files/file_tensors.hpp"
#include "ladder/cases/files/mla_file.hpp"
#include "ladder/cases/input/read_file.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/memory/memory.hpp"

namespace flashladder::ladder {
namespace {

constexpr auto floats = {FileDType::F32, FileDType::F16, FileDType::BF16};
constexpr auto cache_floats = {FileDType::F32, FileDType::F16, FileDType::BF16, FileDType::F8_E4M3, FileDType::F8_E5M2};
constexpr auto wide_floats = {FileDType::F32, FileDType::F64};

std::int32_t extent(const FileTensor& tensor, const char* name, int dim) {
  const std::int64_t n = tensor.shape[dim];
  const std::string where = std::string(name) + " shape[" + std::to_string(dim) + "]";
  require(n >= (dim == 0 ? 0 : 1) && n <= std::numeric_limits<std::int32_t>::max(), where.c_str(), n,
          dim == 0 ? "must be 0 .. 2^31 - 1" : "must be 1 .. 2^31 - 1");
  return static_cast<std::int32_t>(n);
}

void read_q(const Safetensors& file, Case& c) {
  const FileTensor& q = find_tensor(file, "q", floats, 3);
  extent(q, "q", 0);
  c.spec.params.num_qo_heads = extent(q, "q", 1);
  c.spec.params.head_dim_qk = c.spec.params.head_dim_vo = extent(q, "q", 2);
  c.q = copy_of(q);
  c.spec.dtype = c.q.dtype;
}

// Needs q and the layout. The sizes that only the cache knows go into the spec.
void read_cache(const Safetensors& file, Case& c) {
  c.spec.combined_cache = file.tensors.contains("kv_cache");
  if (c.spec.combined_cache) {
    require(!file.tensors.contains("k_cache") && !file.tensors.contains("v_cache"), "kv_cache", "",
            "contradicts k_cache and v_cache: give one tensor or two");
    c.kv_cache = copy_of(find_tensor(file, "kv_cache", cache_floats, 5));
  } else {
    require(file.tensors.contains("k_cache"), "kv_cache", "", "is missing, and so is k_cache");
    c.k_cache = copy_of(find_tensor(file, "k_cache", cache_floats, 4));
    c.v_cache = copy_of(find_tensor(file, "v_cache", cache_floats, 4));
  }
  const PagedKvCache cache = c.problem().kv;
  if (cache.dtype != c.spec.dtype) c.spec.kv_dtype = cache.dtype;
  require(cache.head_dim_qk == c.spec.params.head_dim_qk, c.spec.combined_cache ? "kv_cache head_dim" : "k_cache head_dim",
          cache.head_dim_qk, "must be that of q");
  c.spec.params.head_dim_vo = cache.head_dim_vo;
  c.spec.params.num_kv_heads = cache.num_kv_heads;
  c.spec.page_size = cache.page_size;
}

// A dense table; the page lists of the same requests are made from it.
void read_block_table(const Safetensors& file, Case& c) {
  for (const char* list : {"paged_kv_indptr", "paged_kv_indices", "paged_kv_last_page_len"}) {
    require(!file.tensors.contains(list), list, "", "contradicts block_tables and seq_lens: give lists or a table");
  }
  const FileTensor& table = find_tensor(file, "block_tables", {FileDType::I32}, 2);
  c.spec.block_table = true;
  c.block_tables = values_of<std::int32_t>(table);
  c.spec.kv_lens = values_of<std::int32_t>(find_tensor(file, "seq_lens", {FileDType::I32}, 1));
  const auto batch = static_cast<std::int64_t>(c.spec.kv_lens.size());
  require(table.shape[0] == batch, "block_tables shape[0]", table.shape[0], "must be the size of seq_lens");
  validate_block_table(static_cast<std::int64_t>(c.block_tables.size()), c.spec.kv_lens, c.spec.page_size);
  c.paged_kv_indptr = {0};
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int32_t pages = pages_for(c.spec.kv_lens[b], c.spec.page_size);
    const auto row = c.block_tables.begin() + b * table.shape[1];
    c.paged_kv_indices.insert(c.paged_kv_indices.end(), row, row + pages);
    c.paged_kv_indptr.push_back(c.paged_kv_indptr.back() + pages);
    c.paged_kv_last_page_len.push_back(last_page_len_for(c.spec.kv_lens[b], c.spec.page_size));
  }
}

// Needs the page size.
void read_page_table(const Safetensors& file, Case& c) {
  const auto read = [&](const char* name) { return values_of<std::int32_t>(find_tensor(file, name, {FileDType::I32}, 1)); };
  c.qo_indptr = read("qo_indptr");
  if (file.tensors.contains("block_tables") || file.tensors.contains("seq_lens")) return read_block_table(file, c);
  c.paged_kv_indptr = read("paged_kv_indptr");
  c.paged_kv_indices = read("paged_kv_indices");
  c.paged_kv_last_page_len = read("paged_kv_last_page_len");
}

// A number in the metadata was read before.
void read_scale(const Safetensors& file, const char* name, std::int32_t num_kv_heads, std::vector<float>& scale) {
  if (!file.tensors.contains(name)) return;
  require(scale.empty(), name, "", "is there twice: as a tensor, and as a number of the metadata");
  scale = values_of<float>(find_tensor(file, name, {FileDType::F32}, 1));
  const auto size = static_cast<std::int64_t>(scale.size());
  require(size == 1 || size == num_kv_heads, (std::string(name) + " shape[0]").c_str(), size, "must be 1 or num_kv_heads");
}

void read_scales(const Safetensors& file, Case& c) {
  read_scale(file, "k_scale", c.spec.params.num_kv_heads, c.k_scale);
  read_scale(file, "v_scale", c.spec.params.num_kv_heads, c.v_scale);
  const std::size_t most = std::max(c.k_scale.size(), c.v_scale.size());
  c.spec.kv_scales = most == 0 ? KvScaling::none : most == 1 ? KvScaling::number : KvScaling::per_head;
}

void read_extras(const Safetensors& file, Case& c) {
  if (file.tensors.contains("custom_mask")) {
    c.custom_mask = values_of<std::uint8_t>(find_tensor(file, "custom_mask", {FileDType::U8, FileDType::BOOL}, 1));
    c.spec.params.mask = MaskMode::custom;  // it replaces causal
    c.spec.custom_mask = CustomMask::given;
    const auto bad = std::find_if(c.custom_mask.begin(), c.custom_mask.end(), [](std::uint8_t byte) { return byte > 1; });
    if (bad != c.custom_mask.end()) throw InputError("custom_mask", std::to_string(*bad), "must be 0 or 1, a byte a pair");
  }
  if (file.tensors.contains("sinks")) {
    c.sinks = values_of<float>(find_tensor(file, "sinks", {FileDType::F32}, 1));
    c.spec.params.sinks = true;
  }
}

void read_expected(const Safetensors& file, Case& c) {
  const AttentionParams& p = c.spec.params;
  const std::int64_t rows = c.q.shape[0];
  if (file.tensors.contains("expected_o")) {
    const FileTensor& o = find_tensor(file, "expected_o", wide_floats, 3);
    require_shape(o, "expected_o", {rows, p.num_qo_heads, p.head_dim_vo}, "must be [nnz_qo, num_qo_heads, head_dim_vo]");
    c.expected_o = copy_of(o);
  }
  if (file.tensors.contains("expected_lse_log2")) {
    const FileTensor& lse = find_tensor(file, "expected_lse_log2", wide_floats, 2);
    require_shape(lse, "expected_lse_log2", {rows, p.num_qo_heads}, "must be [nnz_qo, num_qo_heads]");
    c.expected_lse_log2 = copy_of(lse);
  }
}

// What op mla has not, and what attention has not.
void require_one_op(const Safetensors& file, Op op) {
  constexpr const char *of_attention[] = {"q", "kv_cache", "k_cache", "v_cache", "custom_mask", "sinks"},
                       *of_mla[] = {"q_pe", "ckv_cache", "kpe_cache", "ckv_kpe_cache"};
  for (const char* name : of_attention) {
    const bool other = op == Op::mla && file.tensors.contains(name);
    require(!other, name, "", "is no tensor of latent attention, which q_nope makes this file");
  }
  for (const char* name : of_mla) {
    require(op == Op::mla || !file.tensors.contains(name), name, "", "is of latent attention, and wants q_nope beside it");
  }
}

void read_inputs(const Safetensors& file, Case& c) {
  c.spec.op = is_mla_file(file) ? Op::mla : Op::attention;
  require_one_op(file, c.spec.op);
  if (c.spec.op == Op::mla) {
    read_mla_tensors(file, c);
    read_metadata(file.metadata, c);
  } else {
    read_q(file, c);
    read_metadata(file.metadata, c);
    read_cache(file, c);
  }
}

Case case_from(const Safetensors& file) {
  require_known_tensors(file, {"q", "kv_cache", "k_cache", "v_cache", "q_nope", "q_pe", "ckv_cache", "kpe_cache",
                               "ckv_kpe_cache", "qo_indptr", "paged_kv_indptr", "paged_kv_indices",
                               "paged_kv_last_page_len", "block_tables", "seq_lens", "custom_mask", "sinks", "k_scale",
                               "v_scale", "expected_o", "expected_lse_log2"});
  Case c;
  c.spec.values = Values::given;
  read_inputs(file, c);
  if (c.spec.op == Op::attention) read_scales(file, c);
  read_page_table(file, c);
  read_extras(file, c);
  read_expected(file, c);
  if (c.spec.op == Op::mla) validate(c.mla());
  const AttentionProblem problem = c.problem();
  validate(problem);
  c.spec.kv_lens.clear();
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    c.spec.qo_lens.push_back(problem.qo_len(b));
    c.spec.kv_lens.push_back(problem.kv_len(b));
  }
  return c;
}

}  // namespace

Case parse_case(std::span<const std::byte> file, const std::string& what) {
  const Safetensors contents = parse_safetensors(file, what);
  return within(what, [&] { return case_from(contents); });
}

Case read_case(const std::string& path) {
  const std::vector<std::byte> file = read_file(path, std::numeric_limits<std::size_t>::max());
  require_memory(file.size(), path);  // for the copies of its tensors
  Case c = parse_case(file, path);
  if (c.spec.name.empty()) c.spec.name = printable(std::filesystem::path(path).stem().string());
  return c;
}

std::vector<std::byte> case_bytes(const Case& c, const std::string& what) {
  Safetensors file{metadata_of(c), {}};
  const auto add = [&](const char* name, const OwnedTensor& tensor) {
    if (tensor.exists()) file.tensors[name] = lend(tensor);
  };
  Parts cut_q;
  if (c.spec.op == Op::mla) {
    add_mla_tensors(c, cut_q, file);
  } else {
    add("q", c.q);
    add("kv_cache", c.kv_cache);
    add("k_cache", c.k_cache);
    add("v_cache", c.v_cache);
  }
  add("expected_o", c.expected_o);
  add("expected_lse_log2", c.expected_lse_log2);
  file.tensors["qo_indptr"] = lend(c.qo_indptr, FileDType::I32);
  if (c.spec.block_table) {
    file.tensors["block_tables"] = lend(c.block_tables, FileDType::I32);
    file.tensors["block_tables"].shape = {c.spec.batch(), c.spec.batch() > 0 ? c.problem().max_pages() : 0};
    file.tensors["seq_lens"] = lend(c.spec.kv_lens, FileDType::I32);
  } else {
    file.tensors["paged_kv_indptr"] = lend(c.paged_kv_indptr, FileDType::I32);
    file.tensors["paged_kv_indices"] = lend(c.paged_kv_indices, FileDType::I32);
    file.tensors["paged_kv_last_page_len"] = lend(c.paged_kv_last_page_len, FileDType::I32);
  }
  if (c.spec.params.mask == MaskMode::custom) file.tensors["custom_mask"] = lend(c.custom_mask, FileDType::U8);
  if (c.spec.params.sinks) file.tensors["sinks"] = lend(c.sinks, FileDType::F32);
  if (c.k_scale.size() > 1) file.tensors["k_scale"] = lend(c.k_scale, FileDType::F32);
  if (c.v_scale.size() > 1) file.tensors["v_scale"] = lend(c.v_scale, FileDType::F32);
  return safetensors_bytes(file, what);
}

void write_case(const std::string& path, const Case& c) { write_file_whole(path, case_bytes(c, path)); }

}  // namespace flashladder::ladder
