// What every kernel file shares: exported names, one function for several kinds of CPU, and a parallel loop.
//
// Kernels are C functions over caller-owned arrays. They allocate what they need, never throw across the boundary
// (return 0 for success, 1 for out of memory), and give the same result whatever the number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

// The compiler makes one version a CPU generation and the loader picks one. What such a function calls in its inner
// loop must be INLINE, or it is compiled for the oldest CPU only.
#if defined(__x86_64__) && defined(__linux__) && !defined(GNOMONIC_ONE_CPU)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

// Run body(begin, end) over pieces of [0, count) on some threads; pieces are handed out as threads become free.
template <typename Body>
static void parallel_for(std::int64_t count, std::int64_t piece, int threads, const Body& body) {
    if (threads <= 1 || count <= piece) {
        for (std::int64_t begin = 0; begin < count; begin += piece) body(begin, std::min(begin + piece, count));
        return;
    }
    std::atomic<std::int64_t> next{0};
    auto work = [&] {
        for (std::int64_t begin; (begin = next.fetch_add(piece)) < count;) body(begin, std::min(begin + piece, count));
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
    work();
    for (auto& other : others) other.join();
}
