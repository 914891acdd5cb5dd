// The version of the library, and the language that it is written in. Meson refuses to configure a tree in which this and
// the version of the project differ (api/meson.build).
#pragma once

#define FLASHLADDER_VERSION_MAJOR 0
#define FLASHLADDER_VERSION_MINOR 1
#define FLASHLADDER_VERSION_PATCH 0
#define FLASHLADDER_VERSION "0.1.0"

#if defined(_MSVC_LANG) ? _MSVC_LANG < 202002L : __cplusplus < 202002L
#error "FlashLadder needs C++20: compile with -std=c++20"
#endif
