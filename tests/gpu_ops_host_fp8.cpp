// What the GPU's operations refuse on the host where they write fp8. Nothing is launched: the arguments are refused first, on
// a machine without a GPU too.
#include <vector>

#include "gpu/append/append.hpp"
#include "gpu/norm/norm.hpp"
#include "gpu/norm/norm_params.hpp"
#include "tests/ops_data.hpp"

using namespace flashladder;
using namespace ops_test;

namespace {

constexpr std::int64_t nnz = 4, heads = 2, dim = 16;

struct Rows {
  Padded key, value, q;
  explicit Rows(DType dtype) : key(dtype, {nnz, heads, dim}), value(dtype, {nnz, heads, dim}), q(dtype, {nnz, 4, dim}) {}
};
struct Pool {
  Padded both;
  explicit Pool(DType dtype) : both(dtype, {8, 2, 16, heads, dim}) {}
  PagedKvCache cache() const { return paged_kv_cache(both.t(), KvLayout::NHD); }
};

const std::vector<std::int32_t> positions(nnz, 0), indptr{0, 1}, indices{3}, last{4};
const std::vector<std::int64_t> slots(nnz, -1);
const std::vector<float> two(heads, 0.5f), three(3, 0.5f);

}  // namespace

TEST_CASE("append to fp8 on the GPU: refusals") {
  const Rows f32(DType::f32), f16(DType::f16), bf16(DType::bf16), e4m3(DType::f8_e4m3), e5m2(DType::f8_e5m2);
  const Pool fp8(DType::f8_e4m3), wide(DType::f16);
  const PagedKvTable table{indptr, indices, last};
  const auto refused = [&](const std::string& argument, const Padded& key, const Padded& value, const Pool& to,
                           const KvScales& scales) {
    check_refused(argument, {&to.both}, [&] {
      gpu::append_paged_kv_cache(key.t(), value.t(), slots, to.cache(), nullptr, false, scales);
    });
    check_refused(argument, {&to.both}, [&] {
      gpu::append_paged_kv_cache(key.t(), value.t(), positions, positions, to.cache(), table, nullptr, false, scales);
    });
  };
  refused("append_value", f16.key, bf16.value, fp8, {});
  refused("append_key", e5m2.key, e5m2.value, fp8, {});
  refused("append_key", e4m3.key, e4m3.value, wide, {});
  refused("append_key", bf16.key, bf16.value, wide, {});
  refused("k_scale", f16.key, f16.value, wide, {.k = 0.5f});
  refused("v_scale", e4m3.key, e4m3.value, fp8, {.v = 0.5f});
  refused("k_scale_per_head size", e4m3.key, e4m3.value, fp8, {.k_per_head = two});
  refused("k_scale", f16.key, f16.value, fp8, {.k = 0});
  refused("v_scale", f16.key, f16.value, fp8, {.v = INFINITY});
  refused("k_scale_per_head", f16.key, f16.value, fp8, {.k_per_head = three});
  refused("v_scale", f16.key, f16.value, fp8, {.v = 2, .v_per_head = two});
  const std::span<const float> inside(reinterpret_cast<const float*>(fp8.both.bytes().data()), heads);
  refused("paged_kv_cache.k", f16.key, f16.value, fp8, {.k_per_head = inside});

  const auto rope_refused = [&](const std::string& argument, const Rows& rows, const Padded& q, const KvScales& scales) {
    check_refused(argument, {&fp8.both, &q}, [&] {
      gpu::rope_pos_ids_append_paged_kv_cache(q.t(), rows.key.t(), rows.value.t(), 0, false, 1, 1e4f, positions, slots,
                                              fp8.cache(), nullptr, false, {}, scales);
    });
    check_refused(argument, {&fp8.both, &q}, [&] {
      gpu::rope_pos_ids_append_paged_kv_cache(q.t(), rows.key.t(), rows.value.t(), 0, false, 1, 1e4f, positions, positions,
                                              fp8.cache(), table, nullptr, false, {}, scales);
    });
  };
  rope_refused("q", f32, f32.q, {});  // 16 bits on the GPU, as elsewhere
  rope_refused("q", f16, bf16.q, {});
  rope_refused("append_key", e4m3, f16.q, {});
  rope_refused("k_scale", f16, f16.q, {.k = -1});
  rope_refused("v_scale_per_head", f16, f16.q, {.v_per_head = three});
}

TEST_CASE("norms to fp8 on the GPU: refusals") {
  Padded x(DType::f16, {3, 8}), r(DType::f16, {3, 8}), w(DType::f16, {8}), out(DType::f8_e5m2, {3, 8});
  Padded wide(DType::f16, {3, 8}), x32(DType::f32, {3, 8}), r32(DType::f32, {3, 8}), w32(DType::f32, {8});
  const auto refused = [&](const std::string& argument, const Padded& to, const QuantScale& scale) {
    check_refused(argument, {&to, &r}, [&] { gpu::rmsnorm_quant(x.t(), w.t(), to.t(), scale, 1e-6f, nullptr); });
    check_refused(argument, {&to}, [&] { gpu::layernorm_quant(x.t(), w.t(), w.t(), to.t(), scale, 1e-6f, nullptr); });
    check_refused(argument, {&to, &r}, [&] {
      gpu::fused_add_rmsnorm_quant(x.t(), r.t(), w.t(), to.t(), scale, 1e-6f, nullptr);
    });
  };
  const float one = 1;
  refused("out", wide, {});
  refused("scale", out, {.number = 0});
  refused("scale", out, {.number = NAN});
  refused("scale", out, {.number = 2, .stored = &one});
  refused("out", out, {.stored = static_cast<const float*>(out.t().data)});
  check_refused("input", {&out}, [&] { gpu::rmsnorm_quant(x32.t(), w32.t(), out.t(), {}, 1e-6f, nullptr); });
  check_refused("input", {&out, &r32}, [&] {
    gpu::fused_add_rmsnorm_quant(x32.t(), r32.t(), w32.t(), out.t(), {}, 1e-6f, nullptr);
  });
  check_refused("residual", {&out, &x}, [&] {
    gpu::fused_add_rmsnorm_quant(x.t(), x.t(), w.t(), out.t(), {}, 1e-6f, nullptr);
  });
  check_refused("input", {&out}, [&] { gpu::layernorm_quant(x32.t(), w32.t(), w32.t(), out.t(), {}, 1e-6f, nullptr); });
  check_refused("gamma", {&out}, [&] { gpu::layernorm_quant(x.t(), x.t(), w.t(), out.t(), {}, 1e-6f, nullptr); });
  check_refused("eps", {&out}, [&] { gpu::rmsnorm_quant(x.t(), w.t(), out.t(), {}, -1, nullptr); });
}

TEST_CASE("norms to fp8 on the GPU: out takes pieces from multiples of eight bytes on") {
  gpu::NormParams p{.rows = 64, .d = 4096};
  p.input.stride = p.out.stride = p.residual.stride = 4096;
  for (const int at : {0, 1, 4, 8, 12, 16}) {
    p.out.data = reinterpret_cast<void*>(std::uintptr_t{4096} + static_cast<unsigned>(at));
    CHECK(gpu::norm_shape(p, false, 132, true).in_registers == (at % 8 == 0));
    CHECK(gpu::norm_shape(p, false, 132).in_registers == (at % 16 == 0));
  }
}
