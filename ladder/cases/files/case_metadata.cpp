#include "ladder/cases/files/case_metadata.hpp"

#include "core/error.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/specs/short_form.hpp"

namespace flashladder::ladder {
namespace {

template <class Number>
Number number(const std::string& key, const std::string& text, const char* rule) {
  const auto n = number_from<Number>(text);
  if (!n) throw InputError(key, shown(text), rule);
  return *n;
}

PosEncodingMode pos_encoding_mode_from(const std::string& text) {
  for (PosEncodingMode m : {PosEncodingMode::NONE, PosEncodingMode::ROPE_LLAMA, PosEncodingMode::ALIBI}) {
    if (text == name_of(m)) return m;
  }
  throw InputError("pos_encoding_mode", shown(text), "must be NONE, ROPE_LLAMA or ALIBI");
}

void read_entry(const std::string& key, const std::string& text, Case& c) {
  constexpr const char* real = "must be a decimal number that a 32-bit float holds: 0, or 1.2e-38 .. 3.4e38 in size";
  AttentionParams& p = c.spec.params;
  if (key == "x-name") {
    c.spec.name = text;
  } else if (key.starts_with("x-")) {
    c.notes[key] = text;
  } else if (c.spec.op == Op::mla && key == "kv_scale") {
    c.k_scale = c.v_scale = {number<float>(key, text, real)};
    c.spec.kv_scales = KvScaling::number;
  } else if (c.spec.op == Op::mla && key != "causal" && key != "sm_scale") {
    throw InputError(shown(key), shown(text), "is no key of a case of latent attention: causal, sm_scale and kv_scale are");
  } else if (key == "kv_layout") {
    c.spec.kv_layout = parse_kv_layout(key, text);
  } else if (key == "causal") {
    if (text != "0" && text != "1") throw InputError(key, shown(text), "must be 0 or 1");
    p.mask = text == "1" ? MaskMode::causal : MaskMode::none;
  } else if (key == "sm_scale") {
    p.sm_scale = number<float>(key, text, real);
  } else if (key == "window_left") {
    p.window_left = number<std::int32_t>(key, text, "must be a whole number, -2^31 .. 2^31 - 1");
  } else if (key == "logits_soft_cap") {
    p.logits_soft_cap = number<float>(key, text, real);
  } else if (key == "pos_encoding_mode") {
    p.pos_encoding_mode = pos_encoding_mode_from(text);
  } else if (key == "rope_scale") {
    p.rope_scale = number<float>(key, text, real);
  } else if (key == "rope_theta") {
    p.rope_theta = number<float>(key, text, real);
  } else if (key == "k_scale") {
    c.k_scale = {number<float>(key, text, real)};
  } else if (key == "v_scale") {
    c.v_scale = {number<float>(key, text, real)};
  } else {
    throw InputError(shown(key), shown(text), "is not a key of a case file; a note's key begins with x-");
  }
}

}  // namespace

void read_metadata(const Metadata& metadata, Case& c) {
  c.spec.params.sm_scale = c.spec.op == Op::mla ? 0 : default_sm_scale(c.spec.params.head_dim_qk);  // 0: must be given
  for (const auto& entry : metadata) within("metadata", [&] { read_entry(entry.first, entry.second, c); });
}

Metadata metadata_of(const Case& c) {
  const AttentionParams& p = c.spec.params;
  Metadata metadata = c.notes;
  if (!c.spec.name.empty()) metadata["x-name"] = c.spec.name;
  metadata["causal"] = std::to_string(static_cast<int>(p.mask == MaskMode::causal));
  metadata["sm_scale"] = shortest(p.sm_scale);
  if (c.spec.op == Op::mla) {
    if (!c.k_scale.empty()) metadata["kv_scale"] = shortest(c.k_scale[0]);
    return metadata;
  }
  metadata["kv_layout"] = name_of(c.spec.kv_layout);
  metadata["window_left"] = std::to_string(p.window_left);
  metadata["logits_soft_cap"] = shortest(p.logits_soft_cap);
  metadata["pos_encoding_mode"] = name_of(p.pos_encoding_mode);
  metadata["rope_scale"] = shortest(p.rope_scale);
  metadata["rope_theta"] = shortest(p.rope_theta);
  if (c.k_scale.size() == 1) metadata["k_scale"] = shortest(c.k_scale[0]);
  if (c.v_scale.size() == 1) metadata["v_scale"] = shortest(c.v_scale[0]);
  return metadata;
}

}  // namespace flashladder::ladder
