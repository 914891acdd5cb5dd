// cp.async: each thread's copies, in groups.
#pragma once

#include <functional>

namespace flashladder::simt {

void copy_16(void* shared, const void* global);  // nullptr: zeros
void commit_copies();
void wait_for_copies(std::size_t pending);        // groups that may still be under way
void after_copies(std::function<void()> then);    // when all that this thread has asked for so far has come

}  // namespace flashladder::simt
