/* The version of the library, in the one place where it is written: meson.build reads it here, and so do `flashladder
   --version`, flashladder.pc and the CMake package. Plain C, for capi/flashladder.h; C++ takes api/version.hpp. */
#ifndef FLASHLADDER_VERSION_H
#define FLASHLADDER_VERSION_H

#define FLASHLADDER_VERSION_MAJOR 0
#define FLASHLADDER_VERSION_MINOR 1
#define FLASHLADDER_VERSION_PATCH 0

#define FLASHLADDER_QUOTED(x) #x
#define FLASHLADDER_JOINED(a, b, c) FLASHLADDER_QUOTED(a) "." FLASHLADDER_QUOTED(b) "." FLASHLADDER_QUOTED(c)
#define FLASHLADDER_VERSION \
  FLASHLADDER_JOINED(FLASHLADDER_VERSION_MAJOR, FLASHLADDER_VERSION_MINOR, FLASHLADDER_VERSION_PATCH)

#endif
