// Functions marked FL_HD compile for the host and, under nvcc, for the device too: one definition of every index rule.
// FL_ROLLED: a loop whose body is not repeated, in code that runs once between two kernels and should not be long.
#pragma once

#if defined(__CUDACC__)
#define FL_HD __host__ __device__
#else
#define FL_HD
#endif
#if defined(__CUDA_ARCH__)
#define FL_ROLLED _Pragma("unroll 1")
#else
#define FL_ROLLED
#endif
