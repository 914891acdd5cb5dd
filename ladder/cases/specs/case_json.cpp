#include "ladder/cases/specs/case_json.hpp"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <type_traits>

#include "core/error.hpp"
#include "core/mla_problem.hpp"
#include "ladder/cases/input/json.hpp"
#include "ladder/cases/input/read_file.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/specs/short_form.hpp"

namespace flashladder::ladder {
namespace {

constexpr int table_depth = 3;  // list of cases, case, list of lengths

constexpr std::string_view known_keys[] = {
    "name", "seed", "qo_lens", "kv_lens", "num_qo_heads", "num_kv_heads", "head_dim", "head_dim_qk", "head_dim_vo",
    "page_size", "dtype", "kv_dtype", "kv_scales", "kv_layout", "causal", "sm_scale", "window_left", "logits_soft_cap",
    "pos_encoding_mode", "rope_scale", "rope_theta", "sinks", "custom_mask", "values", "block_table", "op",
    "head_dim_ckv", "head_dim_kpe", "combined_cache"};

bool is_known(std::string_view key) {
  return std::find(std::begin(known_keys), std::end(known_keys), key) != std::end(known_keys);
}

// One case's object. A key that no case has is refused first: a misspelt one should not be said to be missing.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {
    for (const auto& [key, value] : *object_.object()) {
      if (!is_known(key)) refuse(shown(key), value, "is not a key of a case; docs/case_format.md lists them");
    }
  }

  bool has(const char* key) { return find(key) != nullptr; }

  template <class Integer>
  Integer integer(const char* key, Integer otherwise) {
    const Json* value = find(key);
    return value != nullptr ? integer_from<Integer>(key, *value) : otherwise;
  }

  float number(const char* key, float otherwise) {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    const std::optional<double> x = value->number();
    if (!x) refuse(key, *value, "must be a number");
    if (std::abs(*x) > std::numeric_limits<float>::max()) refuse(key, *value, "must fit a 32-bit float: it is too large");
    if (*x != 0 && std::abs(*x) < std::numeric_limits<float>::min()) {
      refuse(key, *value, "must fit a 32-bit float: it is too small, but not 0");
    }
    return static_cast<float>(*x);
  }

  bool boolean(const char* key) {
    const Json* value = find(key);
    if (value == nullptr) return false;
    if (value->boolean() == nullptr) refuse(key, *value, "must be true or false");
    return *value->boolean();
  }

  std::string text(const char* key, const char* otherwise) {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (value->text() == nullptr) refuse(key, *value, "must be a string");
    return *value->text();
  }

  template <class Enum>
  Enum one_of(const char* key, std::initializer_list<Enum> choices) {
    const std::string name = text(key, name_of(*choices.begin()));
    std::string names;
    for (Enum choice : choices) {
      if (name == name_of(choice)) return choice;
      names += std::string(names.empty() ? "" : ", ") + name_of(choice);
    }
    throw InputError(key, shown(name), "must be one of " + names);
  }

  std::vector<std::int32_t> lengths(const char* key) {
    const Json* values = find(key);
    if (values == nullptr) return {};
    if (values->list() == nullptr) refuse(key, *values, "must be a list of lengths");
    std::vector<std::int32_t> lens;
    for (const Json& value : *values->list()) {
      const auto len = value.integer<std::int32_t>();
      if (!len || *len < 0) {
        throw InputError(key, value.shown(), "must be whole numbers, 0 .. 2^31 - 1", static_cast<int>(lens.size()));
      }
      lens.push_back(*len);
    }
    return lens;
  }

 private:
  const Json* find(const char* key) const {
    if (!is_known(key)) throw std::logic_error(std::string(key) + " is missing among known_keys");
    return object_.find(key);
  }

  [[noreturn]] static void refuse(const std::string& key, const Json& value, const std::string& rule) {
    throw InputError(key, value.shown(), rule);
  }

  template <class Integer>
  static Integer integer_from(const char* key, const Json& value) {
    const std::optional<Integer> n = value.integer<Integer>();
    if (!n) {
      const char* range = std::is_signed_v<Integer> ? "-2^31 .. 2^31 - 1" : "0 .. 2^64 - 1";
      refuse(key, value, std::string("must be a whole number, ") + range);
    }
    return *n;
  }

  const Json& object_;
};

void require_key(Fields& fields, const char* key) {
  if (!fields.has(key)) throw InputError(key, "", "is missing");
}

// "head_dim": K and V in one 5-D tensor. "head_dim_qk" with "head_dim_vo": two 4-D tensors.
void read_head_dims(Fields& fields, CaseSpec& spec) {
  const bool both = fields.has("head_dim"), qk = fields.has("head_dim_qk"), vo = fields.has("head_dim_vo");
  require(both != (qk || vo) && qk == vo, "head_dim", "", "give either head_dim, or head_dim_qk and head_dim_vo");
  spec.combined_cache = both;
  spec.params.head_dim_qk = fields.integer<std::int32_t>(both ? "head_dim" : "head_dim_qk", 0);
  spec.params.head_dim_vo = fields.integer<std::int32_t>(both ? "head_dim" : "head_dim_vo", 0);
  require(spec.params.head_dim_qk >= 1, "head_dim", spec.params.head_dim_qk, "must be at least 1");
}

// Op mla has dims of its own, and no others' options.
void read_mla_params(Fields& fields, CaseSpec& spec) {
  for (const char* key : {"num_kv_heads", "head_dim", "head_dim_qk", "head_dim_vo", "kv_layout", "window_left",
                          "logits_soft_cap", "pos_encoding_mode", "rope_scale", "rope_theta", "sinks", "custom_mask"}) {
    require(!fields.has(key), key, "", "is no key of a case of op mla");
  }
  for (const char* key : {"num_qo_heads", "sm_scale"}) require_key(fields, key);
  const MlaParams mla{.num_heads = fields.integer<std::int32_t>("num_qo_heads", 0),
                      .head_dim_ckv = fields.integer<std::int32_t>("head_dim_ckv", 512),
                      .head_dim_kpe = fields.integer<std::int32_t>("head_dim_kpe", 64),
                      .sm_scale = fields.number("sm_scale", 0),
                      .mask = fields.boolean("causal") ? MaskMode::causal : MaskMode::none};
  flashladder::validate(mla);
  spec.params = mla.attention();
  spec.combined_cache = fields.boolean("combined_cache");
}

void read_params(Fields& fields, CaseSpec& spec) {
  spec.op = fields.one_of("op", {Op::attention, Op::mla});
  if (spec.op == Op::mla) return read_mla_params(fields, spec);
  for (const char* key : {"head_dim_ckv", "head_dim_kpe", "combined_cache"}) {
    require(!fields.has(key), key, "", "is a key of cases of op mla alone");
  }
  AttentionParams& p = spec.params;
  require_key(fields, "num_qo_heads");
  p.num_qo_heads = fields.integer<std::int32_t>("num_qo_heads", 0);
  p.num_kv_heads = fields.integer<std::int32_t>("num_kv_heads", p.num_qo_heads);
  read_head_dims(fields, spec);
  p.sm_scale = fields.number("sm_scale", default_sm_scale(p.head_dim_qk));
  spec.custom_mask = fields.one_of("custom_mask", {CustomMask::none, CustomMask::causal, CustomMask::tree,
                                                   CustomMask::random, CustomMask::empty_rows, CustomMask::holes});
  p.mask = fields.boolean("causal") ? MaskMode::causal
           : spec.custom_mask != CustomMask::none ? MaskMode::custom : MaskMode::none;
  p.window_left = fields.integer<std::int32_t>("window_left", -1);
  p.logits_soft_cap = fields.number("logits_soft_cap", 0);
  p.pos_encoding_mode = fields.one_of(
      "pos_encoding_mode", {PosEncodingMode::NONE, PosEncodingMode::ROPE_LLAMA, PosEncodingMode::ALIBI});
  p.rope_scale = fields.number("rope_scale", p.rope_scale);
  p.rope_theta = fields.number("rope_theta", p.rope_theta);
  p.sinks = fields.boolean("sinks");
}

CaseSpec spec_from(const Json& object) {
  Fields fields(object);
  CaseSpec spec;
  spec.name = fields.text("name", "");
  spec.seed = fields.integer<std::uint64_t>("seed", 1);
  require_key(fields, "kv_lens");
  spec.kv_lens = fields.lengths("kv_lens");
  spec.qo_lens = fields.has("qo_lens") ? fields.lengths("qo_lens") : std::vector<std::int32_t>(spec.kv_lens.size(), 1);
  read_params(fields, spec);
  spec.page_size = fields.integer<std::int32_t>("page_size", spec.page_size);
  spec.dtype = fields.one_of("dtype", {DType::f32, DType::f16, DType::bf16});
  if (fields.has("kv_dtype")) {
    const DType kv = fields.one_of("kv_dtype", {spec.dtype, DType::f8_e4m3, DType::f8_e5m2});
    if (kv != spec.dtype) spec.kv_dtype = kv;
  }
  spec.kv_scales = usual_scaling(spec.cache_dtype());
  if (fields.has("kv_scales")) {
    spec.kv_scales = fields.one_of("kv_scales", {KvScaling::none, KvScaling::number, KvScaling::per_head});
  }
  spec.kv_layout = fields.one_of("kv_layout", {KvLayout::NHD, KvLayout::HND});
  spec.block_table = fields.boolean("block_table");
  spec.values =
      fields.one_of("values", {Values::normal, Values::equal, Values::large, Values::first_max, Values::last_max});
  validate(spec);
  if (spec.name.empty()) spec.name = case_string(spec);
  return spec;
}

// A float as the double of the same shortest decimal: 0.05f is written 0.05, and reads back as 0.05f.
double decimal(float x) { return number_from<double>(shortest(x)).value(); }

void add_cache(const CaseSpec& s, Json& object) {
  if (s.kv_dtype) object["kv_dtype"] = name_of(*s.kv_dtype);
  if (s.kv_scales != usual_scaling(s.cache_dtype())) object["kv_scales"] = name_of(s.kv_scales);
  if (s.block_table) object["block_table"] = true;
}

Json mla_object_from(const CaseSpec& s) {
  const MlaParams p = s.mla_params();
  Json object = Json::Object{{"name", s.name},
                             {"op", name_of(s.op)}, {"seed", s.seed},
                             {"qo_lens", s.qo_lens}, {"kv_lens", s.kv_lens},
                             {"num_qo_heads", p.num_heads},
                             {"head_dim_ckv", p.head_dim_ckv}, {"head_dim_kpe", p.head_dim_kpe},
                             {"page_size", s.page_size},
                             {"dtype", name_of(s.dtype)},
                             {"combined_cache", s.combined_cache},
                             {"causal", p.mask == MaskMode::causal},
                             {"sm_scale", decimal(p.sm_scale)},
                             {"values", name_of(s.values)}};
  add_cache(s, object);
  return object;
}

Json object_from(const CaseSpec& s) {
  if (s.op == Op::mla) return mla_object_from(s);
  const AttentionParams& p = s.params;
  Json object = Json::Object{{"name", s.name},
                             {"seed", s.seed},
                             {"qo_lens", s.qo_lens},
                             {"kv_lens", s.kv_lens},
                             {"num_qo_heads", p.num_qo_heads},
                             {"num_kv_heads", p.num_kv_heads}};
  if (s.one_cache_tensor()) {
    object["head_dim"] = p.head_dim_qk;
  } else {
    object["head_dim_qk"] = p.head_dim_qk;
    object["head_dim_vo"] = p.head_dim_vo;
  }
  object["page_size"] = s.page_size;
  object["dtype"] = name_of(s.dtype);
  add_cache(s, object);
  object["kv_layout"] = name_of(s.kv_layout);
  object["causal"] = p.mask == MaskMode::causal;
  object["sm_scale"] = decimal(p.sm_scale);
  object["window_left"] = p.window_left;
  object["logits_soft_cap"] = decimal(p.logits_soft_cap);
  object["pos_encoding_mode"] = name_of(p.pos_encoding_mode);
  object["rope_scale"] = decimal(p.rope_scale);
  object["rope_theta"] = decimal(p.rope_theta);
  object["sinks"] = p.sinks;
  object["custom_mask"] = name_of(s.custom_mask);
  object["values"] = name_of(s.values);
  return object;
}

}  // namespace

std::vector<CaseSpec> parse_case_table(std::string_view text, const std::string& what) {
  const Json parsed = parse_json(text, what, table_depth);
  const Json::List* table = parsed.list();
  if (table == nullptr || table->empty()) throw InputError(what, "", "must be a list of one or more cases: [{...}, ...]");
  std::vector<CaseSpec> specs;
  for (const Json& object : *table) {
    std::string where = what + ", case " + std::to_string(specs.size() + 1);
    if (object.object() == nullptr) throw InputError(where, object.shown(), "must be an object: {...}");
    const Json* name = object.find("name");
    if (name != nullptr && name->text() != nullptr) where += " " + shown(*name->text());
    specs.push_back(within(where, [&] { return spec_from(object); }));
  }
  return specs;
}

std::vector<CaseSpec> read_case_table(const std::string& path) {
  return parse_case_table(as_text(read_file(path, most_text_bytes)), path);
}

std::string case_table_json(std::span<const CaseSpec> specs) {
  std::string text = "[";
  for (const CaseSpec& spec : specs) {
    const std::string where = "case " + shown(spec.name);
    require(spec.custom_mask != CustomMask::given && spec.values != Values::given, where.c_str(), "",
            "came from a file with its own data, and can't be drawn from a table");
    text += (text.size() == 1 ? "\n " : ",\n ") + json_text(object_from(spec), where);
  }
  return text + "\n]\n";
}

}  // namespace flashladder::ladder
