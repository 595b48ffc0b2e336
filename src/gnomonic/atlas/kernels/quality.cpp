// How many of a row's scores lie above each of a few thresholds: ranks without sorting.
#include "kernels.h"

namespace {

constexpr std::int64_t kSpan = 4096;  // scores that stay in the nearest cache while every threshold passes over them

CLONES void count_row(
    const float* scores, std::int64_t width, const float* thresholds, std::int64_t k, std::int64_t* counts) {
    for (std::int64_t begin = 0; begin < width; begin += kSpan) {
        const std::int64_t end = std::min(begin + kSpan, width);
        for (std::int64_t j = 0; j < k; ++j) {
            const float threshold = thresholds[j];
            std::int32_t above = 0;
            for (std::int64_t i = begin; i < end; ++i) above += scores[i] > threshold;
            counts[j] += above;
        }
    }
}

}  // namespace

// scores [rows, width], thresholds [rows, k]; counts [rows, k] are added to.
EXPORT int count_above(
    const float* scores, std::int64_t rows, std::int64_t width, const float* thresholds, std::int64_t k,
    std::int64_t* counts, std::int64_t threads) {
    parallel_for(rows, 16, static_cast<int>(threads), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row)
            count_row(scores + row * width, width, thresholds + row * k, k, counts + row * k);
    });
    return 0;
}
