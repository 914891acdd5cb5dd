// The version of the library, and the language that its C++ headers are written in.
#pragma once

#include "api/version.h"

#if defined(_MSVC_LANG) ? _MSVC_LANG < 202002L : __cplusplus < 202002L
#error "FlashLadder needs C++20: compile with -std=c++20"
#endif
