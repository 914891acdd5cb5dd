// Functions marked FL_HD compile for the host and, under nvcc, for the device too: one definition of every index rule.
// FL_ROLLED, FL_APART: for code that runs once between two kernels, and should not be long. A loop whose body is not repeated,
// and a function that is there once and called.
#pragma once

#if defined(__CUDACC__)
#define FL_HD __host__ __device__
#else
#define FL_HD
#endif
#if defined(__CUDA_ARCH__)
#define FL_ROLLED _Pragma("unroll 1")
#define FL_APART __noinline__
#else
#define FL_ROLLED
#define FL_APART
#endif
