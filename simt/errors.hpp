// Errors as CUDA keeps them: the last one until it is asked for; a kernel's for whoever synchronises next.
#pragma once

#include <string>

#include "simt/include/cuda_runtime_api.h"

namespace flashladder::simt {

cudaError_t said(cudaError_t error);  // ... and kept, unless it is success
cudaError_t take_last_error();
void a_kernel_failed(std::string why);
cudaError_t failure();        // of kernels since it was asked for last
const char* why_it_failed();  // the last that did

}  // namespace flashladder::simt
