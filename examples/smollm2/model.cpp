#include "model.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace {

constexpr fl::DType f32 = fl::DType::f32;

Shape read_shape(const Safetensors& file) {
  const auto whole = [&](const char* note) { return static_cast<int>(file.number(note)); };
  Shape s{.layers = whole("layers"),
          .qo_heads = whole("qo_heads"),
          .kv_heads = whole("kv_heads"),
          .head_dim = whole("head_dim"),
          .hidden = 0,
          .ffn = 0,
          .vocabulary = 0,
          .rope_theta = static_cast<float>(file.number("rope_theta")),
          .rms_eps = static_cast<float>(file.number("rms_eps"))};
  const fl::ConstTensor embedding = file.tensor("embedding", f32, {-1, -1});
  const fl::ConstTensor down = file.tensor("layer.0.down", f32, {-1, -1});
  s.vocabulary = static_cast<int>(embedding.shape[0]);
  s.hidden = static_cast<int>(embedding.shape[1]);
  s.ffn = static_cast<int>(down.shape[1]);
  if (s.layers < 1 || s.qo_heads < 1 || s.kv_heads < 1 || s.head_dim < 1) {
    throw std::runtime_error("layers, qo_heads, kv_heads, head_dim: must be at least 1");
  }
  return s;
}

// The first n rows of a buffer.
fl::Tensor rows(const fl::Tensor& t, std::size_t n) {
  return fl::contiguous(t.data, t.dtype, {static_cast<std::int64_t>(n), t.shape[1]});
}
// Some heads of each row of qkv [n, columns], as [n, heads, head_dim]: a view.
fl::Tensor heads_of(const fl::Tensor& qkv, int first, int heads, int head_dim) {
  auto* data = static_cast<std::byte*>(qkv.data) +
               static_cast<std::size_t>(first) * static_cast<std::size_t>(head_dim) * size_of(qkv.dtype);
  return fl::strided(data, qkv.dtype, {qkv.shape[0], heads, head_dim}, {qkv.shape[1], head_dim, 1});
}

api::AttentionConfig config_of(const Shape& s, const Backend& backend, fl::MaskMode mask) {
  return {.heads = {.num_qo_heads = s.qo_heads, .num_kv_heads = s.kv_heads, .head_dim_qk = s.head_dim},
          .cache = {.page_size = page_size, .dtype = backend.dtype()},
          .logits = {.mask = mask},
          .execution = {.device = backend.on().device}};
}

}  // namespace

Model::Model(const Safetensors& file, Backend& backend, const Limits& limits)
    : backend_(backend), shape_(read_shape(file)), limits_(limits) {
  embedding_ = backend.matrix(file.tensor("embedding", f32, {shape_.vocabulary, shape_.hidden}));
  norm_ = backend.vector(file.tensor("norm", f32, {shape_.hidden}));
  for (int i = 0; i < shape_.layers; ++i) layers_.push_back(read_layer(file, "layer." + std::to_string(i) + "."));
  make_buffers();
  make_attention();
}

Model::Layer Model::read_layer(const Safetensors& file, const std::string& layer) {
  const Shape& s = shape_;
  const auto vector = [&](const char* name) { return backend_.vector(file.tensor(layer + name, f32, {s.hidden})); };
  const auto matrix = [&](const char* name, int out, int in) {
    return backend_.matrix(file.tensor(layer + name, f32, {out, in}));
  };
  const fl::Tensor cache = activation({limits_.pages, 2, page_size, s.kv_heads, s.head_dim}, backend_.dtype());
  return {.attention_norm = vector("attention_norm"),
          .mlp_norm = vector("mlp_norm"),
          .qkv = matrix("qkv", s.qkv_heads() * s.head_dim, s.hidden),
          .output = matrix("output", s.hidden, s.qo_heads * s.head_dim),
          .gate_up = matrix("gate_up", 2 * s.ffn, s.hidden),
          .down = matrix("down", s.hidden, s.ffn),
          .cache = fl::paged_kv_cache(cache, fl::KvLayout::NHD)};
}

fl::Tensor Model::activation(std::initializer_list<std::int64_t> shape, fl::DType dtype) {
  const std::int64_t elements = fl::contiguous(nullptr, dtype, shape).size();
  return fl::contiguous(backend_.memory(static_cast<std::size_t>(elements) * size_of(dtype)).data(), dtype, shape);
}

void Model::make_buffers() {
  const Shape& s = shape_;
  const fl::DType dtype = backend_.dtype();
  const int most = most_rows();
  x_ = activation({most, s.hidden}, dtype);
  h_ = activation({most, s.hidden}, dtype);
  qkv_ = activation({most, s.qkv_heads() * s.head_dim}, dtype);
  o_ = activation({most, s.qo_heads * s.head_dim}, dtype);
  gate_up_ = activation({most, 2 * s.ffn}, dtype);
  mlp_ = activation({most, s.ffn}, dtype);
  last_ = activation({limits_.slots, s.hidden}, dtype);
  logits_ = activation({limits_.slots, s.vocabulary}, f32);
  indices_ = integers(3 * most + 3 * limits_.slots + 1 + limits_.pages);
  next_ = integers(limits_.slots);
}

std::span<std::int32_t> Model::integers(int n) {
  return {activation({n}, fl::DType::i32).data_as<std::int32_t>(), static_cast<std::size_t>(n)};
}

void Model::make_attention() {
  using Prefill = api::BatchPrefillWithPagedKVCache;
  using Decode = api::CUDAGraphBatchDecodeWithPagedKVCache;
  const api::AttentionConfig of_prompts = config_of(shape_, backend_, fl::MaskMode::causal);
  const api::AttentionConfig of_tokens = config_of(shape_, backend_, fl::MaskMode::none);
  const api::AttentionLimits decodes{.max_batch = limits_.slots, .max_pages = limits_.pages};
  api::AttentionLimits prefills = decodes;
  prefills.max_nnz_qo = most_rows();
  prefill_ = std::make_unique<Prefill>(of_prompts, backend_.workspace(Prefill::workspace_bytes(of_prompts, prefills)));
  decode_ = std::make_unique<Decode>(of_tokens, decodes, backend_.workspace(Decode::workspace_bytes(of_tokens, decodes)));
}

std::vector<std::int32_t> Model::prefill(const Step& step) {
  const Clock::time_point start = Clock::now();
  const api::Stream stream = backend_.on().stream;
  const Indices on_device = upload(step);
  prefill_->plan(step.qo_indptr, step.table.indptr, step.table.last_page_len, stream);
  return run(step, on_device, Repeat::no, start, [&](const auto& q, const auto& cache, const auto& o) {
    prefill_->run(q, cache, on_device.indices, {o, {}}, stream);
  });
}

std::vector<std::int32_t> Model::decode(const Step& step) {
  const Clock::time_point start = Clock::now();
  const api::Stream stream = backend_.on().stream;
  const Indices on_device = upload(step);
  decode_->plan(step.table.indptr, step.table.indices, step.table.last_page_len, stream);
  return run(step, on_device, Repeat::same_launches, start, [&](const auto& q, const auto& cache, const auto& o) {
    decode_->run(q, cache, {o, {}}, stream);
  });
}

Model::Indices Model::upload(const Step& step) {
  const auto most = static_cast<std::size_t>(most_rows());
  const auto slots = static_cast<std::size_t>(limits_.slots), pages = static_cast<std::size_t>(limits_.pages);
  std::vector<std::int32_t> packed;
  const auto put = [&](const std::vector<std::int32_t>& values, std::size_t capacity) {
    if (values.size() > capacity) throw std::logic_error("a step is larger than the model's limits");
    const std::span<std::int32_t> place = indices_.subspan(packed.size(), values.size());
    packed.insert(packed.end(), values.begin(), values.end());
    packed.resize(packed.size() + capacity - values.size());
    return place;
  };
  const Indices placed{.ids = put(step.ids, most),
                       .batch_indices = put(step.batch_indices, most),
                       .positions = put(step.positions, most),
                       .last_rows = put(step.last_rows, slots),
                       .indptr = put(step.table.indptr, slots + 1),
                       .indices = put(step.table.indices, pages),
                       .last_page_len = put(step.table.last_page_len, slots)};
  backend_.upload(std::as_writable_bytes(indices_), packed.data());
  return placed;
}

std::vector<std::int32_t> Model::run(const Step& step, const Indices& on_device, Repeat repeat, Clock::time_point start,
                                     const Attend& attend) {
  backend_.step(repeat, [&] { forward(on_device, attend); });
  std::vector<std::int32_t> next = backend_.download(next_.first(step.last_rows.size()));
  const double all = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  times_ = backend_.times();
  times_[static_cast<std::size_t>(Part::host)] = all - std::accumulate(times_.begin(), times_.end(), 0.0);
  return next;
}

void Model::forward(const Indices& step, const Attend& attend) {
  const Shape& s = shape_;
  const api::On on = backend_.on();
  const std::size_t n = step.ids.size();
  const fl::Tensor x = rows(x_, n), h = rows(h_, n), qkv = rows(qkv_, n), gate_up = rows(gate_up_, n), mlp = rows(mlp_, n);
  const fl::Tensor q = heads_of(qkv, 0, s.qo_heads, s.head_dim), k = heads_of(qkv, s.qo_heads, s.kv_heads, s.head_dim);
  const fl::Tensor v = heads_of(qkv, s.qo_heads + s.kv_heads, s.kv_heads, s.head_dim);
  const fl::Tensor o_rows = rows(o_, n), o = heads_of(o_rows, 0, s.qo_heads, s.head_dim);

  backend_.gather(embedding_, step.ids, x);
  backend_.mark(Part::tokens);
  api::rmsnorm(x, layers_[0].attention_norm, h, s.rms_eps, on);
  backend_.mark(Part::norm);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    backend_.multiply(h, layer.qkv, qkv);
    backend_.mark(Part::matrices);
    api::rope_pos_ids_append_paged_kv_cache(q, k, v, step.batch_indices, step.positions, layer.cache, step.indptr,
                                            step.indices, step.last_page_len, {.rope_theta = s.rope_theta}, on);
    backend_.mark(Part::rope_append);
    attend(q, layer.cache, o);
    backend_.mark(Part::attention);
    backend_.multiply(o_rows, layer.output, h);
    backend_.mark(Part::matrices);
    api::fused_add_rmsnorm(h, x, layer.mlp_norm, s.rms_eps, on);  // x += h, then h = the norm of x
    backend_.mark(Part::norm);
    backend_.multiply(h, layer.gate_up, gate_up);
    backend_.mark(Part::matrices);
    backend_.silu(gate_up, mlp);
    backend_.mark(Part::silu);
    backend_.multiply(mlp, layer.down, h);
    backend_.mark(Part::matrices);
    const bool last = i + 1 == layers_.size();
    api::fused_add_rmsnorm(h, x, last ? norm_ : layers_[i + 1].attention_norm, s.rms_eps, on);
    backend_.mark(Part::norm);
  }
  const fl::Tensor last = rows(last_, step.last_rows.size()), logits = rows(logits_, step.last_rows.size());
  backend_.gather(h, step.last_rows, last);
  backend_.mark(Part::tokens);
  backend_.multiply(last, embedding_, logits);
  backend_.mark(Part::logits);
  backend_.argmax(logits, next_.first(step.last_rows.size()));
  backend_.mark(Part::tokens);
}
