// Inputs are copied into the memory that is shared with the Python process, dense and each between guard bands of 0xff, and
// results are copied back. Before results are taken, bands and inputs must be what they were.
#include "ladder/plugin/python_plugin.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "ladder/plugin/python_worker.hpp"

namespace flashladder::ladder {
namespace {

constexpr std::byte painted{0xff};
constexpr std::size_t band = 4096, alignment = 64;  // bytes

const char* numpy_name(DType d) { return d == DType::f32 ? "<f4" : d == DType::f16 ? "<f2" : "<u2"; }
const char* name_in_python(PosEncodingMode m) {
  return m == PosEncodingMode::NONE ? "NONE" : m == PosEncodingMode::ROPE_LLAMA ? "ROPE_LLAMA" : "ALIBI";
}

Json shape_of(const CaseSpec& s) {
  const AttentionParams& p = s.params;
  const char* mask = p.mask == MaskMode::none ? "none" : p.mask == MaskMode::causal ? "causal" : "custom";
  return Json::Object{{"batch", s.batch()}, {"qo_lens", s.qo_lens}, {"kv_lens", s.kv_lens},
                      {"num_qo_heads", p.num_qo_heads}, {"num_kv_heads", p.num_kv_heads},
                      {"head_dim_qk", p.head_dim_qk}, {"head_dim_vo", p.head_dim_vo}, {"page_size", s.page_size},
                      {"dtype", name_of(s.dtype)}, {"mask", mask}, {"window_left", p.window_left},
                      {"pos_encoding_mode", name_in_python(p.pos_encoding_mode)}, {"sinks", p.sinks},
                      {"sm_scale", p.sm_scale}, {"logits_soft_cap", p.logits_soft_cap}, {"rope_scale", p.rope_scale},
                      {"rope_theta", p.rope_theta}};
}

struct Array {
  std::string name, dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> content;  // of an input; o and lse_log2 have none
  std::size_t size, begin = 0;     // bytes, in the shared block
};

template <class T>
Array array(const char* name, const char* dtype, std::span<const T> data, std::vector<std::int64_t> shape) {
  const auto bytes = std::as_bytes(data);
  return {name, dtype, std::move(shape), {bytes.begin(), bytes.end()}, bytes.size()};
}

Array output(const char* name, std::vector<std::int64_t> shape) {
  std::int64_t elements = 1;
  for (const std::int64_t n : shape) elements *= n;
  return {name, "<f4", std::move(shape), {}, static_cast<std::size_t>(elements) * sizeof(float)};
}

// K or V of any layout as [num_pages, page_size, num_kv_heads, dim].
Array cache(const char* name, const PagedKvCache& kv, const void* base, const KvStrides& strides, std::int32_t dim) {
  const std::size_t row = static_cast<std::size_t>(dim) * size_of(kv.dtype);
  Array a{name, numpy_name(kv.dtype), {kv.num_pages, kv.page_size, kv.num_kv_heads, dim}, {}, 0};
  for (std::int64_t page = 0; page < kv.num_pages; ++page) {
    for (std::int32_t entry = 0; entry < kv.page_size; ++entry) {
      for (std::int32_t head = 0; head < kv.num_kv_heads; ++head) {
        const auto* from = static_cast<const std::byte*>(base) +
                           strides.offset({page, entry}, head) * static_cast<std::int64_t>(size_of(kv.dtype));
        a.content.insert(a.content.end(), from, from + row);
      }
    }
  }
  a.size = a.content.size();
  return a;
}

// A block table becomes page lists.
void add_pages(const AttentionProblem& p, std::vector<Array>& arrays) {
  std::vector<std::int32_t> indptr{0}, indices, last;
  for (std::int32_t r = 0; r < p.batch(); ++r) {
    const PageTable table = p.page_table();
    const std::int32_t length = table.length(r), pages = pages_for(length, p.kv.page_size);
    for (std::int32_t n = 0; n < pages; ++n) indices.push_back(table.indices[table.first_page(r) + n]);
    indptr.push_back(static_cast<std::int32_t>(indices.size()));
    last.push_back(last_page_len_for(length, p.kv.page_size));
  }
  const auto add = [&](const char* name, const std::vector<std::int32_t>& list) {
    arrays.push_back(array(name, "<i4", std::span(list), {static_cast<std::int64_t>(list.size())}));
  };
  add("paged_kv_indptr", indptr), add("paged_kv_indices", indices), add("paged_kv_last_page_len", last);
}

std::vector<Array> arrays_of(const Buffers& buffers, const CaseSpec& spec) {
  const AttentionProblem& p = buffers.problem;
  const std::int64_t rows = p.q.shape[0], heads = p.params.num_qo_heads;
  const std::span q(static_cast<const std::byte*>(p.q.data),
                    static_cast<std::size_t>(rows * heads * p.params.head_dim_qk) * size_of(spec.dtype));
  std::vector<Array> arrays;
  arrays.push_back(array("q", numpy_name(spec.dtype), q, {rows, heads, p.params.head_dim_qk}));
  arrays.push_back(cache("k_cache", p.kv, p.kv.k, p.kv.k_strides, p.kv.head_dim_qk));
  arrays.push_back(cache("v_cache", p.kv, p.kv.v, p.kv.v_strides, p.kv.head_dim_vo));
  arrays.push_back(array("qo_indptr", "<i4", p.qo_indptr, {p.batch() + 1}));
  add_pages(p, arrays);
  if (p.params.mask == MaskMode::custom) {
    arrays.push_back(array("custom_mask", "|u1", p.custom_mask, {static_cast<std::int64_t>(p.custom_mask.size())}));
  }
  if (p.params.sinks) arrays.push_back(array("sinks", "<f4", p.sinks, {heads}));
  arrays.push_back(output("o", {rows, heads, p.params.head_dim_vo}));
  arrays.push_back(output("lse_log2", {rows, heads}));
  return arrays;
}

// A file that the process has loaded. Calls are announced before they are made.
class Loaded {
 public:
  Loaded(const std::string& path, OnCall on_call) : path_(path), process_(path), on_call_(std::move(on_call)) {
    about_ = process_.ask(Json::Object{{"ask", "about"}});
    const auto refuse = [&](const char* key, const std::string& rule) {
      if (const Json* said = about_.find(key)) throw InputError("--plugin", path_, rule + *said->text());
    };
    refuse("wrong", "");
    refuse("raised", "can't be loaded: ");
  }

  // Of a file that imports what is not there: "" if all is there.
  std::string lacks() const {
    if (about_.find("missing") == nullptr) return "";
    return "needs the module " + text("missing") + ", which " + text("python") + " lacks";
  }
  std::string text(const char* key) const { return *about_.find(key)->text(); }
  bool flag(const char* key) const { return *about_.find(key)->boolean(); }
  std::int32_t count(const char* key) const {
    const auto n = about_.find(key)->integer<std::int32_t>();
    require(n.value_or(-1) >= 0, "--plugin", path_, "has a longest_chain that is no number of keys");
    return *n;
  }

  Json call(const char* function, const Json& question) {
    if (on_call_) on_call_(function);
    Json answer = process_.ask(question);
    if (on_call_) on_call_("");
    if (const Json* wrong = answer.find("wrong")) throw std::runtime_error(*wrong->text());
    if (const Json* raised = answer.find("raised")) {
      throw std::runtime_error(std::string(function) + "() raised " + *raised->text());
    }
    return answer;
  }

  std::span<std::byte> share(std::size_t bytes) { return process_.share(bytes); }

 private:
  std::string path_;
  PythonProcess process_;
  OnCall on_call_;
  Json about_;
};

class Prepared {
 public:
  Prepared(std::shared_ptr<Loaded> loaded, const Buffers& buffers, const CaseSpec& spec)
      : loaded_(std::move(loaded)), output_(buffers.output), arrays_(arrays_of(buffers, spec)) {
    std::size_t end = band;
    Json::Object layout;
    for (Array& a : arrays_) {
      a.begin = end;
      end = (end + a.size + band + alignment - 1) / alignment * alignment;
      layout.push_back({a.name, Json::Object{{"begin", a.begin}, {"shape", a.shape}, {"dtype", a.dtype}}});
    }
    block_ = loaded_->share(end);
    std::ranges::fill(block_, painted);
    for (const Array& a : arrays_) std::ranges::copy(a.content, block_.begin() + static_cast<std::ptrdiff_t>(a.begin));
    question_ = Json::Object{{"ask", "run"}, {"shape", shape_of(spec)}, {"arrays", layout}};
  }

  void run() {
    const Array &o = arrays_[arrays_.size() - 2], &lse = arrays_.back();
    std::ranges::fill(of(o), painted);
    std::ranges::fill(of(lse), painted);
    loaded_->call("attention", question_);
    check_inputs();
    std::memcpy(output_.o.data, of(o).data(), o.size);
    std::memcpy(output_.lse_log2.data(), of(lse).data(), lse.size);
  }

 private:
  std::span<std::byte> of(const Array& a) const { return block_.subspan(a.begin, a.size); }

  void check_inputs() const {
    const auto is_painted = [](std::span<const std::byte> gap) {
      return std::ranges::all_of(gap, [](std::byte b) { return b == painted; });
    };
    std::size_t end = 0;  // of the array before
    for (const Array& a : arrays_) {
      if (!is_painted(block_.subspan(end, a.begin - end))) {
        throw Misbehaved(Ending::wrote_outside, "wrote outside of " + a.name + ", or of the array before it");
      }
      if (!a.content.empty() && !std::ranges::equal(a.content, of(a))) {
        throw Misbehaved(Ending::modified_input, "changed " + a.name + ", which is only to be read");
      }
      end = a.begin + a.size;
    }
    if (!is_painted(block_.subspan(end))) {
      throw Misbehaved(Ending::wrote_outside, "wrote behind " + arrays_.back().name);
    }
  }

  std::shared_ptr<Loaded> loaded_;
  AttentionOutput output_;
  std::vector<Array> arrays_;  // the last two are o and lse_log2
  std::span<std::byte> block_;
  Json question_;
};

}  // namespace

bool is_python(const std::string& path) { return path.ends_with(".py"); }

Rung load_python_plugin(const std::string& path, const OnCall& on_call) {
  if (!std::filesystem::is_regular_file(path)) throw InputError("--plugin", path, "can't be loaded: no such file");
  const auto loaded = std::make_shared<Loaded>(path, on_call);
  if (const std::string lacks = loaded->lacks(); !lacks.empty()) {
    return {.name = std::filesystem::path(path).stem().string(), .idea = "", .teaches = "", .must_equal = "C4",
            .supports = [lacks](const CaseSpec&) { return Support{lacks}; }, .workspace_bytes = {}, .prepare = {}};
  }
  const std::int32_t chain = loaded->count("longest_chain");
  return {.name = loaded->text("name"), .idea = loaded->text("idea"), .teaches = "", .device = Device::cpu,
          .must_equal = "C4", .longest_chain = chain == 0 ? whole_row : chain, .p_as_kv = loaded->flag("p_as_kv"),
          .supports = [loaded](const CaseSpec& spec) {
            const Support takes = takes_plugin(spec);
            if (!takes) return takes;
            const Json answer = loaded->call("supports", Json::Object{{"ask", "supports"}, {"shape", shape_of(spec)}});
            return Support{*answer.find("reason")->text()};
          },
          .workspace_bytes = [](const CaseSpec&, const Settings&) { return std::size_t{0}; },
          .prepare = [loaded](const Buffers& buffers, const CaseSpec& spec, const Settings&) -> Runner {
            const auto prepared = std::make_shared<Prepared>(loaded, buffers, spec);
            return [prepared](void*) { prepared->run(); };
          }};
}

}  // namespace flashladder::ladder
