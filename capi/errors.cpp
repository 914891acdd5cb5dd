#include "capi/errors.hpp"

#include <array>
#include <cstdio>
#include <new>
#include <string>

#include "api/placement.hpp"
#include "capi/structs.hpp"
#include "core/error.hpp"
#ifdef FLASHLADDER_CUDA
#include "gpu/check.hpp"
#endif

namespace flashladder::capi {
namespace {

// In memory of the thread's own, so that the message that there is no memory needs none. A longer text ends in "...".
struct Text {
  std::array<char, 1024> characters{};

  void keep(const char* text) noexcept {
    const int length = std::snprintf(characters.data(), characters.size(), "%s", text);
    if (length >= static_cast<int>(characters.size())) std::snprintf(&characters[characters.size() - 4], 4, "...");
  }
  const char* get() const noexcept { return characters.data(); }
};

struct LastError {
  fl_status status = FL_OK;
  std::int32_t request = -1;
  Text message, argument, value, rule;

  void keep(fl_status status_, const char* message_, const char* argument_ = "", const char* value_ = "",
            const char* rule_ = "", std::int32_t request_ = -1) noexcept {
    status = status_;
    request = request_;
    message.keep(message_);
    argument.keep(argument_);
    value.keep(value_);
    rule.keep(rule_);
  }
};

thread_local LastError last;

}  // namespace

fl_status keep_error() noexcept {
  try {
    throw;
  } catch (const InputError& e) {
    last.keep(FL_INVALID_ARGUMENT, e.what(), e.argument.c_str(), e.value.c_str(), e.rule.c_str(), e.request);
  } catch (const std::bad_alloc&) {
    last.keep(FL_OUT_OF_MEMORY, "the host has no memory left for this call");
#ifdef FLASHLADDER_CUDA
  } catch (const gpu::CudaError& e) {
    last.keep(FL_CUDA_ERROR, e.what());
#endif
  } catch (const std::exception& e) {
    last.keep(FL_INTERNAL_ERROR, e.what());
  } catch (...) {
    last.keep(FL_INTERNAL_ERROR, "something that is no std::exception was thrown");
  }
  return last.status;
}

}  // namespace flashladder::capi

using namespace flashladder;
using namespace flashladder::capi;

const char* fl_version(void) { return FLASHLADDER_VERSION; }
const char* fl_last_error(void) { return last.message.get(); }

fl_status fl_last_error_parts(fl_error* out) {
  // What is asked for is not overwritten by a call that asks in a wrong way.
  if (out == nullptr || out->size < first_size<fl_error>) return FL_INVALID_ARGUMENT;
  const fl_error parts{.size = sizeof(fl_error), .status = last.status, .request = last.request,
                       .message = last.message.get(), .argument = last.argument.get(), .value = last.value.get(),
                       .rule = last.rule.get()};
  return guarded([&] { write(parts, out, "out"); });
}

const char* fl_why_no_gpu(void) {
  const char* reason = "CUDA could not be asked";
  const fl_status status = guarded([&] { reason = api::why_no_gpu().c_str(); });
  return status == FL_OK ? reason : fl_last_error();
}
int32_t fl_best_device(void) { return *fl_why_no_gpu() == '\0' ? FL_GPU : FL_CPU; }
