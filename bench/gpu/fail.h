// How the benchmark ends where it cannot go on.
#pragma once

#include <fusebn/types.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>

// Where a process that runs rows for another one leaves the sentence; null: nobody reads it.
inline char* failure_text = nullptr;
inline constexpr std::size_t failure_bytes = 512;

[[noreturn]] inline void fail(const std::string& sentence) {
    std::fprintf(stderr, "fusebn_gpu_bench: %s\n", sentence.c_str());
    if (failure_text != nullptr) std::snprintf(failure_text, failure_bytes, "%s", sentence.c_str());
    std::exit(1);
}

inline void require(const fusebn::Status& s) {
    if (!s.ok()) fail(s.message());
}
