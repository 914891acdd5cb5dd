/* What the C tests share: they are a user's programs, C11, and see the installed tree alone.
   CHECK counts; REFUSED wants an argument, and the beginning of the sentence. */
#ifndef CHECK_H
#define CHECK_H

#include <flashladder/flashladder.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checked, failed;

#define CHECK(condition)                                                  \
  do {                                                                    \
    ++checked;                                                            \
    if (!(condition)) {                                                   \
      ++failed;                                                           \
      printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);    \
    }                                                                     \
  } while (0)

#define OK(call)                                                                                     \
  do {                                                                                               \
    ++checked;                                                                                       \
    if ((call) != FL_OK) {                                                                           \
      ++failed;                                                                                      \
      printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, fl_last_error());                         \
    }                                                                                                \
  } while (0)

#define REFUSED(call, sentence)                                                                          \
  do {                                                                                                   \
    const fl_status status_ = (call);                                                                    \
    ++checked;                                                                                           \
    if (status_ != FL_INVALID_ARGUMENT || strncmp(fl_last_error(), sentence, strlen(sentence)) != 0) {   \
      ++failed;                                                                                          \
      printf("%s:%d: status %d, \"%s\", and not \"%s\"\n", __FILE__, __LINE__, (int)status_,             \
             fl_last_error(), sentence);                                                                 \
    }                                                                                                    \
  } while (0)

/* NaN is never close. */
static inline int close_to(double a, double b, double tolerance) { return fabs(a - b) <= tolerance; }

/* Numbers in [-1, 1): the same everywhere. */
static inline float drawn(uint32_t* state) {
  *state = *state * 1664525u + 1013904223u;
  return (float)(*state >> 8) / (float)(1 << 23) - 1.0f;
}
static inline void draw(float* data, size_t n, uint32_t seed) {
  size_t i;
  for (i = 0; i < n; ++i) data[i] = drawn(&seed);
}

static inline int ended(void) {
  printf("%d checked, %d failed\n", checked, failed);
  return failed == 0 && checked > 0 ? 0 : 1;
}

#endif
