// A prompt served in chunks, then decode, beside other requests: prefill, append and decode through one paged cache.
//
// Three prompts arrive. Each step gives every request that is not done with its prompt a chunk of at most 48 tokens: RoPE,
// append the chunk's keys and values, attend with a causal mask. Then four decode steps. All of it is compared with one pass
// over each whole sequence at once (single_prefill_with_kv_cache), which sees no pages and no chunks.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <span>
#include <vector>

#include <flashladder/flashladder.hpp>

namespace fl = flashladder;
namespace api = flashladder::api;

namespace {
constexpr int num_qo_heads = 6, num_kv_heads = 2, head_dim = 64, page_size = 16, num_pages = 64;
constexpr int chunk = 48, decode_steps = 4;
const std::vector<int> prompts{130, 7, 61};

const api::AttentionConfig config{
    .heads = {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = head_dim},
    .cache = {.page_size = page_size, .dtype = fl::DType::f32},
    .logits = {.mask = fl::MaskMode::causal}};

std::vector<float> drawn(std::size_t n, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& x : values) x = normal(random);
  return values;
}
fl::Tensor rows(std::vector<float>& values, int heads) {
  return fl::contiguous(values.data(), fl::DType::f32,
                        {static_cast<std::int64_t>(values.size()) / (heads * head_dim), heads, head_dim});
}

// One sequence: what a model would compute for each of its tokens, and what attention made of it, chunk by chunk.
struct Sequence {
  std::vector<float> q, k, v, o;  // [tokens, heads, head_dim], before RoPE
  int prompt, done = 0;           // tokens that are in the cache

  Sequence(int prompt_tokens, std::mt19937& random) : prompt(prompt_tokens) {
    const auto tokens = static_cast<std::size_t>(prompt + decode_steps);
    q = drawn(tokens * num_qo_heads * head_dim, random);
    k = drawn(tokens * num_kv_heads * head_dim, random);
    v = drawn(tokens * num_kv_heads * head_dim, random);
    o.assign(q.size(), NAN);
  }
  int next_tokens() const { return done < prompt ? std::min(chunk, prompt - done) : 1; }
};

// What a step computes on: the new tokens of all requests, one request after the other.
struct Step {
  std::vector<float> q, k, v, o;
  std::vector<std::int32_t> qo_indptr{0};

  void add(const Sequence& s) {
    const int n = s.next_tokens();
    const auto copy = [&](const std::vector<float>& from, std::vector<float>& to, int heads) {
      const auto begin = from.begin() + s.done * heads * head_dim;
      to.insert(to.end(), begin, begin + n * heads * head_dim);
    };
    copy(s.q, q, num_qo_heads), copy(s.k, k, num_kv_heads), copy(s.v, v, num_kv_heads);
    qo_indptr.push_back(qo_indptr.back() + n);
    o.assign(q.size(), NAN);
  }
};

// Largest difference between what the steps made of a sequence and one causal pass over all of it.
double worst_error(Sequence& s) {
  std::vector<float> q = s.q, k = s.k, whole(s.o.size());
  std::vector<std::int32_t> positions(q.size() / (num_qo_heads * head_dim));
  for (std::size_t t = 0; t < positions.size(); ++t) positions[t] = static_cast<std::int32_t>(t);
  api::apply_rope_pos_ids_inplace(rows(q, num_qo_heads), rows(k, num_kv_heads), positions);
  api::single_prefill_with_kv_cache(rows(q, num_qo_heads), rows(k, num_kv_heads), rows(s.v, num_kv_heads),
                                    {rows(whole, num_qo_heads), {}}, {.logits = config.logits});
  double worst = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    const double error = std::fabs(s.o[i] - whole[i]);
    worst = error <= worst ? worst : std::isnan(error) ? HUGE_VAL : error;
  }
  return worst;
}

}  // namespace

int main() {
  std::mt19937 random(1);
  std::vector<Sequence> sequences;
  for (const int tokens : prompts) sequences.emplace_back(tokens, random);
  fl::PagePool pool(num_pages, page_size, 7);
  for (std::size_t i = 0; i < prompts.size(); ++i) pool.add_request();
  std::vector<float> cache_memory(std::size_t{num_pages} * 2 * page_size * num_kv_heads * head_dim);
  const fl::Tensor kv =
      fl::contiguous(cache_memory.data(), fl::DType::f32, {num_pages, 2, page_size, num_kv_heads, head_dim});
  const fl::PagedKvCache cache = fl::paged_kv_cache(kv, fl::KvLayout::NHD);

  const api::AttentionLimits limits{.max_batch = 3, .max_pages = num_pages, .max_nnz_qo = 3 * chunk};
  std::vector<std::byte> memory(api::BatchPrefillWithPagedKVCache::workspace_bytes(config, limits).device);
  api::BatchPrefillWithPagedKVCache attention(config, {.device = memory});

  int steps = 0;
  const auto unfinished = [](const Sequence& s) { return s.done < s.prompt + decode_steps; };
  for (; std::ranges::any_of(sequences, unfinished); ++steps) {
    // A batch of whoever has tokens left: some in the middle of a prompt, some decoding.
    Step step;
    std::vector<int> requests;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      if (!unfinished(sequences[i])) continue;
      requests.push_back(static_cast<int>(i));
      step.add(sequences[i]);
      pool.append(requests.back(), sequences[i].next_tokens());
    }
    const fl::HostPageTable table = pool.table(requests);  // with the new tokens in it
    std::vector<std::int32_t> seq_lens(requests.size()), batch_indices(static_cast<std::size_t>(step.qo_indptr.back()));
    std::vector<std::int32_t> positions(batch_indices.size());
    api::get_seq_lens(table.indptr, table.last_page_len, page_size, seq_lens);
    api::get_batch_indices_positions(step.qo_indptr, seq_lens, batch_indices, positions);

    attention.plan(step.qo_indptr, table.indptr, table.last_page_len);  // once a step; what follows, for every layer
    const fl::Tensor q = rows(step.q, num_qo_heads), k = rows(step.k, num_kv_heads), v = rows(step.v, num_kv_heads);
    api::apply_rope_pos_ids_inplace(q, k, positions);
    api::append_paged_kv_cache(k, v, batch_indices, positions, cache, table.indptr, table.indices, table.last_page_len);
    attention.run(q, cache, table.indices, {rows(step.o, num_qo_heads), {}});

    for (std::size_t b = 0; b < requests.size(); ++b) {
      Sequence& s = sequences[static_cast<std::size_t>(requests[b])];
      constexpr int row = num_qo_heads * head_dim;
      std::copy(step.o.begin() + step.qo_indptr[b] * row, step.o.begin() + step.qo_indptr[b + 1] * row,
                s.o.begin() + s.done * row);
      s.done += step.qo_indptr[b + 1] - step.qo_indptr[b];
    }
  }
  double worst = 0;
  for (Sequence& s : sequences) worst = std::max(worst, worst_error(s));
  std::printf("%zu prompts of up to %d tokens in chunks of %d, then %d decode steps: %d steps, largest error %.1e\n",
              prompts.size(), *std::ranges::max_element(prompts), chunk, decode_steps, steps, worst);
  return worst < 1e-5 ? 0 : 1;
}
