// A layer's small kernels in a row: captured once and replayed, and started before their predecessors end (enable_pdl), they
// give the bits of the plain calls. And the skip of this suite on a machine without a GPU.
#include <functional>

#include "gpu/append/append.hpp"
#include "gpu/merge/merge_states.hpp"
#include "gpu/norm/layernorm.hpp"
#include "gpu/norm/norm.hpp"
#include "gpu/rope/rope.hpp"
#include "tests/append_batch.hpp"
#include "tests/gpu_ops_data.hpp"
#include "tests/skip_without_device.hpp"

using namespace flashladder;
using namespace ops_test;

namespace {

// Every step reads what the one before wrote: q is normalised and rotated, k normalised, rotated and appended, and so on.
class Chain {
 public:
  static constexpr int q_heads = 8, kv_heads = 2, dim = 128;

  explicit Chain(int tokens)
      : batch_(case_(tokens), random_), nnz_(batch_.nnz()), pools_(case_(tokens), batch_.pages),
        x_(random_tensor({nnz_, q_heads * dim})), residual_(random_tensor({nnz_, q_heads * dim})),
        weight_(random_tensor({q_heads * dim})), head_weight_(random_tensor({dim})),
        k_(random_tensor({nnz_, kv_heads, dim})), v_(random_tensor({nnz_, kv_heads, dim})),
        v_merged_(Padded(DType::bf16, {nnz_, q_heads, dim})), k8_(Padded(DType::f8_e4m3, {nnz_, kv_heads, dim}, 0)),
        v8_(Padded(DType::f8_e4m3, {nnz_, kv_heads, dim}, 0)),
        x8_(Padded(DType::f8_e4m3, {nnz_, q_heads * dim}, 0)),
        s_(Padded(DType::f32, {nnz_, q_heads}, 0)), s_merged_(Padded(DType::f32, {nnz_, q_heads})), pool_(*pools_.k),
        pools8_(case_(tokens, DType::f8_e4m3), batch_.pages), rotated8_(*pools8_.k), plain8_(*pools8_.k), copied8_(*pools8_.k),
        scale_(std::vector<float>(1, 0.02f)), scales_(std::vector<float>(kv_heads, 0.01f)),
        indptr_(batch_.indptr), indices_(batch_.indices), last_(batch_.last), requests_(batch_.requests),
        positions_(batch_.positions), lens_(Ints(batch_.lens.size(), 77)), x0_(x_), residual0_(residual_), k0_(k_) {
    gpu::check(cudaMemset(s_.t().data, 0, static_cast<std::size_t>(s_.t().size()) * 4));  // every state weighs the same
    gpu::check(cudaStreamSynchronize(nullptr));  // for streams that do not wait for this one
  }

  // Puts back what the steps change, and enqueues them all.
  void enqueue(cudaStream_t stream, bool pdl) {
    for (const auto& [to, from] : {std::pair{&x_, &x0_}, {&residual_, &residual0_}, {&k_, &k0_}}) to->copy(*from, stream);
    const Tensor q = contiguous(x_.t().data, DType::bf16, {nnz_, q_heads, dim});
    const PagedKvTable table{indptr_.span(), indices_.span(), last_.span()};
    const PagedKvCache cache = pools_.cache(pool_.t(), nullptr);
    gpu::get_seq_lens(indptr_.span(), last_.span(), cache.page_size, lens_.span(), stream, pdl);
    gpu::fused_add_rmsnorm(x_.t(), residual_.t(), weight_.t(), 1e-6f, stream, pdl);
    gpu::rmsnorm(q, head_weight_.t(), q, 1e-6f, stream, pdl);
    gpu::rmsnorm(k_.t(), head_weight_.t(), k_.t(), 1e-6f, stream, pdl);
    gpu::layernorm(k_.t(), head_weight_.t(), head_weight_.t(), k_.t(), 1e-6f, stream, pdl);
    gpu::rope_pos_ids_append_paged_kv_cache(q, k_.t(), v_.t(), dim, false, 1, 1e4f, requests_.span(), positions_.span(),
                                            cache, table, stream, pdl);
    gpu::append_paged_kv_cache(k_.t(), v_.t(), requests_.span(), positions_.span(), cache, table, stream, pdl);
    // The same into fp8 caches.
    const KvScales scales{.k = 0.03f, .v_per_head = scales_.span()};
    gpu::rope_pos_ids_append_paged_kv_cache(q, k_.t(), v_.t(), dim, false, 1, 1e4f, requests_.span(), positions_.span(),
                                            pools8_.cache(rotated8_.t(), nullptr), table, stream, pdl, {}, scales);
    gpu::append_paged_kv_cache(k_.t(), v_.t(), requests_.span(), positions_.span(), pools8_.cache(plain8_.t(), nullptr), table,
                               stream, pdl, scales);
    gpu::fused_add_rmsnorm_quant(x_.t(), residual_.t(), weight_.t(), x8_.t(), {.number = 0.04f}, 1e-6f, stream, pdl);
    gpu::rmsnorm_quant(k_.t(), head_weight_.t(), k8_.t(), {.stored = scale_.span().data()}, 1e-6f, stream, pdl);
    gpu::layernorm_quant(v_.t(), head_weight_.t(), head_weight_.t(), v8_.t(), {.stored = scale_.span().data()}, 1e-6f, stream,
                         pdl);
    gpu::append_paged_kv_cache(k8_.t(), v8_.t(), requests_.span(), positions_.span(), pools8_.cache(copied8_.t(), nullptr),
                               table, stream, pdl);
    gpu::merge_state(q, s_.t(), q, s_.t(), v_merged_.t(), s_merged_.t(), stream, pdl);
    const Tensor two = contiguous(x_.t().data, DType::bf16, {nnz_, q_heads, 1, dim});
    const Tensor of_two = contiguous(s_.t().data, DType::f32, {nnz_, q_heads, 1});
    const Tensor out = contiguous(k_.t().data, DType::bf16, {nnz_, 1, dim});
    const Tensor lse = contiguous(residual_.t().data, DType::f32, {nnz_, 1});
    gpu::merge_states(two, of_two, out, lse, stream, pdl);
  }

  std::vector<std::vector<unsigned char>> results() const {
    std::vector<std::vector<unsigned char>> all;
    for (const Bytes* b : {&x_, &residual_, &k_, &v_merged_, &s_merged_, &pool_}) all.push_back(b->bytes());
    for (const Bytes* b : {&x8_, &k8_, &v8_, &rotated8_, &plain8_, &copied8_}) all.push_back(b->bytes());
    return all;
  }
  bool lengths_right() const { return lens_.fetch() == batch_.lens; }

 private:
  // A dense tensor on the device that can be copied within a stream.
  class Bytes : public OnDevice {
   public:
    explicit Bytes(const Padded& host) : OnDevice(host), size_(host.bytes().size()) {}
    Bytes(const Bytes& other) : Bytes(Padded(other.t().dtype, dims(other.t()), 0)) { copy(other, nullptr); }
    void copy(const Bytes& from, cudaStream_t stream) {
      gpu::check(cudaMemcpyAsync(t().data, from.t().data, size_, cudaMemcpyDeviceToDevice, stream));
    }

   private:
    static std::vector<std::int64_t> dims(const Tensor& t) { return {t.shape.begin(), t.shape.begin() + t.rank}; }
    std::size_t size_;
  };

  static AppendCase case_(int tokens, DType dtype = DType::bf16) {
    return {.dtype = dtype, .heads = kv_heads, .batch = 9, .longest = tokens, .most_rows = tokens, .one_tensor = true,
            .pad = 0};
  }
  Bytes random_tensor(std::vector<std::int64_t> shape) {
    Padded host(DType::bf16, shape, 0);
    host.fill(random_, -2, 2);
    return Bytes(host);
  }

  std::mt19937 random_{7};
  AppendBatch batch_;
  std::int64_t nnz_;
  AppendPools pools_;
  Bytes x_, residual_, weight_, head_weight_, k_, v_, v_merged_, k8_, v8_, x8_, s_, s_merged_, pool_;
  AppendPools pools8_;
  Bytes rotated8_, plain8_, copied8_;
  DeviceArray<float> scale_, scales_;
  DeviceArray<std::int32_t> indptr_, indices_, last_, requests_, positions_, lens_;
  Bytes x0_, residual0_, k0_;
};

struct Stream {
  cudaStream_t stream = nullptr;
  Stream() { gpu::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream); }
  void wait() const { gpu::check(cudaStreamSynchronize(stream)); }
};

}  // namespace

TEST_CASE("operations on the GPU: a captured graph and overlapped launches give the bits of plain calls") {
  for (const int tokens : {3, 60, 3000}) {
    CAPTURE(tokens);
    Chain chain(tokens);
    const Stream s;
    gpu::check(cudaDeviceSynchronize());
    chain.enqueue(s.stream, false);
    s.wait();
    const auto expected = chain.results();
    CHECK(chain.lengths_right());
    for (const bool pdl : {false, true}) {
      CAPTURE(pdl);
      for (int i = 0; i < 20; ++i) chain.enqueue(s.stream, pdl);
      s.wait();
      CHECK(chain.results() == expected);
      gpu::check(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
      chain.enqueue(s.stream, pdl);
      cudaGraph_t graph = nullptr;
      gpu::check(cudaStreamEndCapture(s.stream, &graph));
      cudaGraphExec_t executable = nullptr;
      gpu::check(cudaGraphInstantiate(&executable, graph, 0));
      for (int i = 0; i < 50; ++i) gpu::check(cudaGraphLaunch(executable, s.stream));
      s.wait();
      CHECK(chain.results() == expected);
      cudaGraphExecDestroy(executable);
      cudaGraphDestroy(graph);
    }
  }
}
