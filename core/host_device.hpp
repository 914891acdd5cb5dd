// Functions marked FL_HD compile for the host and, under nvcc, for the device too: one definition of every index rule.
#pragma once

#if defined(__CUDACC__)
#define FL_HD __host__ __device__
#else
#define FL_HD
#endif
