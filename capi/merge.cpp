// Merging of states: each call of the C++ interface, with its arrays as long as the tensors say.
#include "api/operations.hpp"
#include "capi/errors.hpp"
#include "capi/structs.hpp"

using namespace flashladder;
using namespace flashladder::capi;

fl_status fl_merge_state(const fl_tensor* v_a, const fl_tensor* s_a, const fl_tensor* v_b, const fl_tensor* s_b,
                         const fl_tensor* v_out, const fl_tensor* s_out, const fl_on* on) {
  return guarded([&] {
    api::merge_state(tensor_of(v_a, "v_a"), tensor_of(s_a, "s_a"), tensor_of(v_b, "v_b"), tensor_of(s_b, "s_b"),
                     tensor_of(v_out, "v_out"), tensor_of(s_out, "s_out"), on_of(on));
  });
}

fl_status fl_merge_state_in_place(const fl_tensor* v, const fl_tensor* s, const fl_tensor* v_other, const fl_tensor* s_other,
                                  const std::uint8_t* mask, const fl_on* on) {
  return guarded([&] {
    const Tensor state = tensor_of(v, "v");
    api::merge_state_in_place(state, tensor_of(s, "s"), tensor_of(v_other, "v_other"), tensor_of(s_other, "s_other"),
                              if_given(mask, rows_of(state)), on_of(on));
  });
}

fl_status fl_merge_states(const fl_tensor* v, const fl_tensor* s, const fl_tensor* v_out, const fl_tensor* s_out,
                          const fl_on* on) {
  return guarded([&] {
    api::merge_states(tensor_of(v, "v"), tensor_of(s, "s"), tensor_of(v_out, "v_out"), tensor_of(s_out, "s_out"), on_of(on));
  });
}

fl_status fl_variable_length_merge_states(const fl_tensor* v, const fl_tensor* s, const std::int32_t* indptr,
                                          const fl_tensor* v_out, const fl_tensor* s_out, const fl_on* on) {
  return guarded([&] {
    const Tensor merged = tensor_of(v_out, "v_out");
    api::variable_length_merge_states(tensor_of(v, "v"), tensor_of(s, "s"), array(indptr, rows_of(merged) + 1, "indptr"),
                                      merged, tensor_of(s_out, "s_out"), on_of(on));
  });
}
