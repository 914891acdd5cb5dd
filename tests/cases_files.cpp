// Case and answer files: round trips bit by bit, files that others made, and each refusal.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/validate.hpp"
#include "core/write_file.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/files/safetensors.hpp"
#include "ladder/cases/input/read_file.hpp"
#include "ladder/cases/memory/guarded_output.hpp"
#include "tests/cases_helpers.hpp"
#include "tests/changed_case.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using namespace flashladder::ladder::test;

namespace {

struct TemporaryFile {
  std::string path;
  explicit TemporaryFile(const char* name)
      : path((std::filesystem::temp_directory_path() / (std::to_string(std::rand()) + name)).string()) {}
  ~TemporaryFile() { std::filesystem::remove(path); }
};

std::vector<std::byte> bytes_of(const std::string& header, const std::string& data, std::uint64_t length) {
  std::vector<std::byte> file(8 + header.size() + data.size());
  std::memcpy(file.data(), &length, 8);
  std::memcpy(file.data() + 8, header.data(), header.size());
  if (!data.empty()) std::memcpy(file.data() + 8 + header.size(), data.data(), data.size());
  return file;
}
std::vector<std::byte> bytes_of(const std::string& header, const std::string& data) {
  return bytes_of(header, data, header.size());
}

template <class T>
std::string raw(std::initializer_list<T> values) {
  return std::string(reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T));
}

void check_same(const Case& a, const Case& b) {
  CHECK(a.q == b.q);
  CHECK(a.kv_cache == b.kv_cache);
  CHECK(a.k_cache == b.k_cache);
  CHECK(a.v_cache == b.v_cache);
  CHECK(a.qo_indptr == b.qo_indptr);
  CHECK(a.paged_kv_indptr == b.paged_kv_indptr);
  CHECK(a.paged_kv_indices == b.paged_kv_indices);
  CHECK(a.paged_kv_last_page_len == b.paged_kv_last_page_len);
  CHECK(a.custom_mask == b.custom_mask);
  CHECK(a.sinks == b.sinks);
  CHECK(a.expected_o == b.expected_o);
  CHECK(a.expected_lse_log2 == b.expected_lse_log2);
  CHECK(a.notes == b.notes);
  CHECK(a.spec.name == b.spec.name);
  CHECK(a.spec.qo_lens == b.spec.qo_lens);
  CHECK(a.spec.kv_lens == b.spec.kv_lens);
  CHECK(std::memcmp(&a.spec.params.sm_scale, &b.spec.params.sm_scale, 4) == 0);
  CHECK(a.spec.params.mask == b.spec.params.mask);
  CHECK(a.spec.params.window_left == b.spec.params.window_left);
  CHECK(a.spec.params.logits_soft_cap == b.spec.params.logits_soft_cap);
  CHECK(a.spec.params.pos_encoding_mode == b.spec.params.pos_encoding_mode);
  CHECK(a.spec.params.rope_scale == b.spec.params.rope_scale);
  CHECK(a.spec.params.rope_theta == b.spec.params.rope_theta);
  CHECK(a.spec.params.sinks == b.spec.params.sinks);
  CHECK(a.spec.params.num_qo_heads == b.spec.params.num_qo_heads);
  CHECK(a.spec.params.num_kv_heads == b.spec.params.num_kv_heads);
  CHECK(a.spec.params.head_dim_qk == b.spec.params.head_dim_qk);
  CHECK(a.spec.params.head_dim_vo == b.spec.params.head_dim_vo);
  CHECK(a.spec.page_size == b.spec.page_size);
  CHECK(a.spec.dtype == b.spec.dtype);
  CHECK(a.spec.kv_dtype == b.spec.kv_dtype);
  CHECK(a.spec.kv_scales == b.spec.kv_scales);
  CHECK(a.k_scale == b.k_scale);
  CHECK(a.v_scale == b.v_scale);
  CHECK(a.spec.kv_layout == b.spec.kv_layout);
  CHECK(a.spec.one_cache_tensor() == b.spec.one_cache_tensor());
}

// A case with everything a file can hold.
Case full_case() {
  CaseSpec s = small_spec();
  s.params.sm_scale = 0.1f;
  s.params.mask = MaskMode::custom;
  s.custom_mask = CustomMask::random;
  s.params.window_left = 3;
  s.params.logits_soft_cap = 30.5f;
  s.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA;
  s.params.rope_theta = 1e6f;
  s.params.rope_scale = 8;
  s.params.sinks = true;
  Case c = draw_case(s);
  c.expected_o = OwnedTensor(DType::f64, {10, 6, 8});
  c.expected_lse_log2 = OwnedTensor(DType::f32, {10, 6});
  c.notes = {{"x-made-by", "a \"test\"\n"}};
  return c;
}

// The message with which a file is refused whose contents `change` has changed.
template <class Change>
std::string refused_after(Change change) {
  const std::vector<std::byte> changed = changed_case_bytes(full_case(), "f", change);
  return refusal([&] { parse_case(changed, "f"); });
}

}  // namespace

TEST_CASE("case file: a mask byte is 0 or 1, as U8 and as BOOL") {
  std::vector<std::byte> mask(36, std::byte{1});
  for (const FileDType dtype : {FileDType::U8, FileDType::BOOL}) {
    const auto said_of_last = [&](std::uint8_t value) {
      mask.back() = std::byte{value};
      return refused_after([&](Safetensors& f) { f.tensors["custom_mask"] = {dtype, {36}, mask}; });
    };
    for (const std::uint8_t value : {0, 1}) CHECK(said_of_last(value) == "");
    check_refused(said_of_last(2), {"custom_mask = 2", "0 or 1"});
    check_refused(said_of_last(255), {"custom_mask = 255", "0 or 1"});
  }
}

TEST_CASE("case file: round trips bit by bit for all dtypes and layouts") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const KvLayout layout : {KvLayout::NHD, KvLayout::HND}) {
      for (const int head_dim_vo : {8, 5}) {
        CaseSpec s = small_spec();
        s.dtype = dtype, s.kv_layout = layout, s.params.head_dim_vo = head_dim_vo;
        s.params.mask = MaskMode::causal;
        const Case c = draw_case(s);
        check_same(c, parse_case(case_bytes(c, "f"), "f"));
      }
    }
  }
  for (const DType kv_dtype : {DType::f8_e4m3, DType::f8_e5m2}) {
    for (const KvScaling scales : {KvScaling::none, KvScaling::number, KvScaling::per_head}) {
      CaseSpec s = small_spec();
      s.dtype = DType::bf16, s.kv_dtype = kv_dtype, s.kv_scales = scales;
      const Case c = draw_case(s);
      check_same(c, parse_case(case_bytes(c, "f"), "f"));
    }
  }
  const TemporaryFile file("case.safetensors");
  const Case c = full_case();
  write_case(file.path, c);
  const Case back = read_case(file.path);
  check_same(c, back);
  CHECK(back.spec.custom_mask == CustomMask::given);
  CHECK(case_bytes(back, "f") == case_bytes(c, "f"));
}

TEST_CASE("case file: as numpy writes it in ten lines") {
  // json.dumps' separators, tensors in the writer's order, no padding: the data begin at an odd place.
  const std::string header =
      R"({"__metadata__": {"causal": "1", "x-note": "numpy"}, )"
      R"("q": {"dtype": "F32", "shape": [1, 2, 1], "data_offsets": [0, 8]}, )"
      R"("kv_cache": {"dtype": "F32", "shape": [2, 2, 2, 1, 1], "data_offsets": [8, 40]}, )"
      R"("qo_indptr": {"dtype": "I32", "shape": [2], "data_offsets": [40, 48]}, )"
      R"("paged_kv_indptr": {"dtype": "I32", "shape": [2], "data_offsets": [48, 56]}, )"
      R"("paged_kv_indices": {"dtype": "I32", "shape": [2], "data_offsets": [56, 64]}, )"
      R"("paged_kv_last_page_len": {"dtype": "I32", "shape": [1], "data_offsets": [64, 68]}})";
  const std::string data = raw<float>({1, 2, /* page 0: K, V, page 1 */ 3, 4, 5, 6, 7, 8, 9, 10}) +
                           raw<std::int32_t>({0, 1, 0, 2, 1, 0, 1});
  const Case c = parse_case(bytes_of(header, data), "numpy");
  CHECK(c.spec.kv_lens == std::vector<std::int32_t>{3});
  CHECK(c.spec.params.num_qo_heads == 2);
  CHECK(c.spec.params.mask == MaskMode::causal);
  CHECK(c.spec.params.sm_scale == 1);
  CHECK(c.notes.at("x-note") == "numpy");
  const AttentionProblem p = c.problem();
  const std::int64_t offset = p.kv.v_strides.offset(p.page_table().locate(0, 1), 0);
  CHECK(static_cast<const float*>(p.kv.v)[offset] == 10);  // token 1: page 1, entry 1
}

TEST_CASE("case file: the model's tensors in data") {
  int read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FLASHLADDER_SOURCE_ROOT "/data")) {
    if (entry.path().extension() != ".safetensors" || !entry.path().stem().string().starts_with("smollm2")) continue;
    const Case c = read_case(entry.path().string());
    CHECK(c.spec.params.num_qo_heads == 9);
    CHECK(c.expected_o.exists());
    check_same(c, parse_case(case_bytes(c, "again"), "again"));
    ++read;
  }
  MESSAGE(read << " files read");
}

TEST_CASE("case file: refusals name the file and the tensor and the rule") {
  using File = Safetensors;
  CHECK(refused_after([](File&) {}) == "");
  check_refused(refused_after([](File& f) { f.tensors.erase("q"); }), {"f: q", "missing"});
  check_refused(refused_after([](File& f) { f.tensors.erase("kv_cache"); }), {"f: kv_cache", "missing"});
  check_refused(refused_after([](File& f) { f.tensors["k_cache"] = f.tensors["kv_cache"]; }), {"contradicts"});
  check_refused(refused_after([](File& f) { f.tensors["mask"] = f.tensors["sinks"]; }), {"tensor \"mask\"", "not a tensor"});
  check_refused(refused_after([](File& f) { f.tensors["qo_indptr"].dtype = FileDType::F32; }), {"qo_indptr dtype", "I32"});
  check_refused(refused_after([](File& f) { f.tensors["q"].shape = {10, 48}; }), {"q shape = [10, 48]", "3 dimensions"});
  check_refused(refused_after([](File& f) { f.tensors["q"].shape = {10, 3, 16}; }), {"kv_cache head_dim = 8"});
  check_refused(refused_after([](File& f) { f.tensors["q"].shape = {0, 6, 8}, f.tensors["q"].bytes = {}; }), {"expected_o"});
  check_refused(refused_after([](File& f) { f.tensors["expected_o"].shape = {10, 8, 6}; }),
                {"expected_o shape", "[10, 6, 8]"});
  check_refused(refused_after([](File& f) { f.tensors["custom_mask"].bytes = f.tensors["q"].bytes.first(36); }), {"0 or 1"});
  check_refused(refused_after([](File& f) { f.tensors.erase("paged_kv_indptr"); }), {"paged_kv_indptr", "missing"});
  check_refused(refused_after([](File& f) { f.tensors["paged_kv_indices"].bytes = f.tensors["q"].bytes.first(16); }),
                {"f: paged_kv_indices[0]", "page of the pool"});
  const auto metadata = [](const char* key, const char* value) {
    return refused_after([&](File& f) { f.metadata[key] = value; });
  };
  CHECK(metadata("x-anything", "goes") == "");
  check_refused(metadata("format", "pt"), {"metadata: \"format\" = \"pt\"", "x-"});
  check_refused(metadata("causal", "true"), {"causal = \"true\"", "0 or 1"});
  check_refused(metadata("sm_scale", "nan"), {"sm_scale = \"nan\""});
  check_refused(metadata("sm_scale", "0"), {"sm_scale = 0"});
  check_refused(metadata("sm_scale", "1e-50"), {"sm_scale = \"1e-50\"", "32-bit float"});
  check_refused(metadata("logits_soft_cap", "1e-50"), {"logits_soft_cap = \"1e-50\"", "32-bit float"});
  check_refused(metadata("window_left", "010"), {"window_left = \"010\"", "whole number"});
  check_refused(metadata("window_left", "1.5"), {"window_left"});
  check_refused(metadata("kv_layout", "HDN"), {"kv_layout"});
  check_refused(metadata("pos_encoding_mode", "ROPE"), {"pos_encoding_mode"});
  check_refused(refusal([] { read_case("/nowhere/x"); }), {"/nowhere/x", "no such file"});
}

TEST_CASE("safetensors: truncated and lying files are refused") {
  const auto refused = [](const std::vector<std::byte>& file) { return refusal([&] { parse_safetensors(file, "f"); }); };
  const auto with = [&](const std::string& tensor) { return refused(bytes_of(R"({"t": )" + tensor + "}", "12345678")); };
  CHECK(with(R"({"dtype": "U8", "shape": [2, 4], "data_offsets": [0, 8]})") == "");
  CHECK(refused(bytes_of("{} ", "")) == "");
  check_refused(refused(std::vector<std::byte>(7)), {"f size = 7"});
  check_refused(refused(bytes_of("{}", "", 3)), {"f header length = 3", "than the file has (2 bytes)"});
  check_refused(refused(bytes_of("{}", "", 100000001)), {"at most 100 MB"});
  check_refused(refused(bytes_of("{}", "", ~0ull)), {"f header length = 18446744073709551615"});
  check_refused(refused(bytes_of(" {}", "")), {"begin with {"});
  check_refused(refused(bytes_of("{}x", "")), {"not valid JSON"});
  check_refused(refused(bytes_of("{\"a\xff\": 1}", "")), {"not valid JSON"});
  check_refused(refused(bytes_of("{}", "x")), {"f size = 1", "belong to none"});
  check_refused(refused(bytes_of("{}", std::string(1, '\0'))), {"f size = 1", "belong to none"});
  check_refused(refused(bytes_of(std::string("{}\0{\"__metadata__\": {\"causal\": \"1\"}}", 35), "")), {"f header", "NUL"});
  check_refused(refused(bytes_of(std::string("{}\0\0\0\0", 6), "")), {"f header", "NUL"});
  check_refused(refused(bytes_of(R"({"t": 1, "t": 1})", "")), {"\"t\"", "twice"});
  check_refused(refused(bytes_of(R"({"__metadata__": {"a": 1}})", "")), {"__metadata__ \"a\"", "string"});
  check_refused(with("[]"), {"f: tensor \"t\"", "dtype, shape and data_offsets"});
  CHECK(with(R"({"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]})") == "");
  check_refused(with(R"({"dtype": "F8_E8M0", "shape": [8], "data_offsets": [0, 8]})"), {"F8_E8M0", "F8_E4M3, F8_E5M2"});
  check_refused(with(R"({"dtype": "C64", "shape": [1], "data_offsets": [0, 8]})"), {"\"C64\"", "one of F64"});
  check_refused(with(R"({"dtype": "U8", "shape": [-8], "data_offsets": [0, 8]})"), {"shape = -8"});
  check_refused(with(R"({"dtype": "U8", "shape": [8.0], "data_offsets": [0, 8]})"), {"shape = 8.0"});
  check_refused(with(R"({"dtype": "U8", "shape": [4294967296, 4294967296], "data_offsets": [0, 8]})"), {"2^63"});
  check_refused(with(R"({"dtype": "U8", "shape": [0, 4294967296, 4294967296], "data_offsets": [0, 0]})"), {"2^63"});
  check_refused(with(R"({"dtype": "I32", "shape": [8], "data_offsets": [0, 8]})"), {"must hold the 32 bytes"});
  check_refused(with(R"({"dtype": "U8", "shape": [9], "data_offsets": [0, 9]})"), {"within the 8 bytes"});
  check_refused(with(R"({"dtype": "U8", "shape": [8], "data_offsets": [8, 0]})"), {"8 .. 0"});
  check_refused(with(R"({"dtype": "U8", "shape": [7], "data_offsets": [1, 8]})"), {"where the tensor before it ends (0)"});
  check_refused(with(R"({"dtype": "U8", "shape": [7], "data_offsets": [0, 7]})"), {"belong to none"});
}

TEST_CASE("answer file: round trip and refusals") {
  const TemporaryFile file("answer.safetensors");
  const Case c = full_case();
  GuardedOutput out(10, 6, 8);
  const AttentionOutput view = out.view();
  for (int i = 0; i < 480; ++i) view.o.data_as<float>()[i] = static_cast<float>(i);
  view.lse_log2[3] = -INFINITY;
  write_answer(file.path, view.o, view.lse_log2, "C4", "two cores", c);
  const Answer answer = read_answer(file.path);
  CHECK(answer.o.shape == std::vector<std::int64_t>{10, 6, 8});
  CHECK(std::memcmp(answer.o.bytes.data(), view.o.data, answer.o.bytes.size()) == 0);
  CHECK(std::memcmp(answer.lse_log2.data(), view.lse_log2.data(), 60 * 4) == 0);
  CHECK(answer.rung == "C4");
  CHECK(answer.device == "two cores");
  CHECK(answer.metadata.at("rope_theta") == "1e+06");
  CHECK(answer.metadata.at("x-made-by") == "a \"test\"\n");
  const auto write = [&](const Tensor& o, std::span<const float> lse) { write_answer(file.path, o, lse, "C4", "cpu", c); };
  check_refused(refusal([&] { write(view.o, view.lse_log2.first(59)); }), {"lse_log2 size = 59"});
  Tensor transposed = view.o;
  std::swap(transposed.strides[0], transposed.strides[1]);
  check_refused(refusal([&] { write(transposed, view.lse_log2); }), {"o:", "dense"});
  check_refused(refusal([&] { parse_answer(case_bytes(c, "f"), "f"); }), {"f: tensor", "not a tensor"});
  check_refused(refusal([&] { parse_case(read_file(file.path, 1 << 20), "f"); }), {"f: tensor", "not a tensor"});
  check_refused(refusal([&] { read_file(file.path, 10); }), {"must be at most 10 B"});
}
