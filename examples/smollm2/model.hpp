// A Llama model over a paged cache: prompts in one step, then a token a step for each request, with the library for RMSNorm,
// RoPE and append, prefill and decode.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include "backend.hpp"
#include "safetensors.hpp"

struct Shape {
  int layers, qo_heads, kv_heads, head_dim, hidden, ffn, vocabulary;
  float rope_theta, rms_eps;

  int qkv_heads() const { return qo_heads + 2 * kv_heads; }
};

struct Limits {
  int slots = 0;        // requests at a time
  int step_tokens = 0;  // tokens of all prompts of a step
  int pages = 0;
};
constexpr int page_size = 16;

// The new tokens of a step. Row r is token positions[r] of request batch_indices[r] of the table, which includes it already.
struct Step {
  std::vector<std::int32_t> ids, batch_indices, positions;  // [rows]; batch index -1: the row is nobody's
  std::vector<std::int32_t> last_rows;                      // [batch]  whose logits are wanted
  std::vector<std::int32_t> qo_indptr;                      // [batch + 1]  of prompts
  fl::HostPageTable table;                                  // [batch]
};

class Model {
 public:
  Model(const Safetensors& file, Backend& backend, const Limits& limits);

  // The most likely next token of each request of the table.
  std::vector<std::int32_t> prefill(const Step& step);
  // Every request has one token, and there are limits.slots of them; one without pages is a free slot.
  std::vector<std::int32_t> decode(const Step& step);
  Milliseconds times() const { return times_; }  // of the last step
  const Shape& shape() const { return shape_; }

 private:
  struct Layer {
    fl::ConstTensor attention_norm, mlp_norm;    // [hidden]
    fl::ConstTensor qkv, output, gate_up, down;  // [out, in]
    fl::PagedKvCache cache;
  };
  // A step's index arrays where the backend computes, each at a place that never changes: a captured graph reads them there.
  struct Indices {
    std::span<std::int32_t> ids, batch_indices, positions, last_rows, indptr, indices, last_page_len;
  };
  using Clock = std::chrono::steady_clock;
  using Attend = std::function<void(const fl::ConstTensor& q, const fl::PagedKvCache& cache, const fl::Tensor& o)>;

  Layer read_layer(const Safetensors& file, const std::string& layer);
  void make_buffers();
  void make_attention();
  fl::Tensor activation(std::initializer_list<std::int64_t> shape, fl::DType dtype);
  std::span<std::int32_t> integers(int n);
  int most_rows() const { return std::max(limits_.step_tokens, limits_.slots); }

  Indices upload(const Step& step);
  std::vector<std::int32_t> run(const Step& step, const Indices& on_device, Repeat repeat, Clock::time_point start,
                                const Attend& attend);
  void forward(const Indices& step, const Attend& attend);

  Backend& backend_;
  Shape shape_;
  Limits limits_;
  fl::ConstTensor embedding_, norm_;
  std::vector<Layer> layers_;
  fl::Tensor x_, h_, qkv_, o_, gate_up_, mlp_, last_, logits_;  // [rows, columns]; x_ is the residual stream
  std::span<std::int32_t> indices_, next_;                      // a step's index arrays, in a row; [slots]
  std::unique_ptr<api::BatchPrefillWithPagedKVCache> prefill_;
  std::unique_ptr<api::CUDAGraphBatchDecodeWithPagedKVCache> decode_;
  Milliseconds times_{};
};
