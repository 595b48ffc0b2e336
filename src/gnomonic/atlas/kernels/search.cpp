// Search: products, the best of many scores, and the scan of an inverted file (atlas/inverted_file.py).
#include "kernels.h"

#include <limits>
#include <new>

namespace {

constexpr std::int64_t kAlone = 16'384;  // rows that are not worth a second thread

struct Entry {
    float score;
    std::int64_t at;
    // What is better comes first; equal scores go by place.
    bool operator<(const Entry& other) const {
        return score > other.score || (score == other.score && at < other.at);
    }
};

// The best of the scores, best first; minus infinity is none.
std::vector<Entry> best_of(const float* scores, std::int64_t count, std::int64_t k) {
    std::vector<Entry> heap;
    const auto size = static_cast<std::size_t>(std::min(k, count));
    heap.reserve(size);
    float worst = -std::numeric_limits<float>::infinity();
    for (std::int64_t i = 0; size && i < count; ++i) {
        if (!(scores[i] > worst)) continue;
        if (heap.size() == size) {
            std::pop_heap(heap.begin(), heap.end());
            heap.pop_back();
        }
        heap.push_back({scores[i], i});
        std::push_heap(heap.begin(), heap.end());
        if (heap.size() == size) worst = heap.front().score;
    }
    std::sort_heap(heap.begin(), heap.end());
    return heap;
}

CLONES void multiply(const float* matrix, std::int64_t rows, std::int64_t width, const float* vector, float* out) {
    for (std::int64_t i = 0; i < rows; ++i) {
        float sum = 0;
        for (std::int64_t j = 0; j < width; ++j) sum += matrix[i * width + j] * vector[j];
        out[i] = sum;
    }
}

}  // namespace

// The same fields as `_Layout` in atlas/inverted_file.py. Rows stand in slots, cell by cell.
struct Layout {
    const std::int8_t* codes;     // [n, width]
    const float* scales;          // [n] what a code is worth
    const float* bias;            // [n] taken off a row's score
    const std::int64_t* order;    // [n] the row in a slot
    const std::int64_t* offsets;  // [cells + 1] first slot of a cell
    std::int64_t width;
};

namespace {

CLONES void score_codes(const Layout& layout, const std::int16_t* query, float query_scale, std::int64_t begin,
                        std::int64_t end, const std::uint8_t* mask, float* out) {
    for (std::int64_t slot = begin; slot < end; ++slot) {
        if (mask && !mask[layout.order[slot]]) {
            out[slot - begin] = -std::numeric_limits<float>::infinity();
            continue;
        }
        const std::int8_t* codes = layout.codes + slot * layout.width;
        std::int32_t sum = 0;
        for (std::int64_t j = 0; j < layout.width; ++j) sum += static_cast<std::int32_t>(query[j]) * codes[j];
        out[slot - begin] = static_cast<float>(sum) * (layout.scales[slot] * query_scale) - layout.bias[slot];
    }
}

}  // namespace

// matrix [rows, width] times vector [width]; on one thread, since the threads of a BLAS cost more than so little work.
EXPORT int search_multiply(const float* matrix, std::int64_t rows, std::int64_t width, const float* vector, float* out) {
    multiply(matrix, rows, width, vector, out);
    return 0;
}

// The k best of scores, best first, equal ones by place; returns how many there are (minus infinity is none), -1 for no
// memory.
EXPORT std::int64_t search_top(const float* scores, std::int64_t count, std::int64_t k, std::int64_t* found) {
    try {
        const std::vector<Entry> best = best_of(scores, count, k);
        for (std::size_t i = 0; i < best.size(); ++i) found[i] = best[i].at;
        return static_cast<std::int64_t>(best.size());
    } catch (const std::bad_alloc&) {
        return -1;
    }
}

// Walk the cells in the order given until `quota` rows that pass the mask were seen, and return the `keep` best of them,
// best first; equal ones in the order in which they were met. Returns how many, -1 for no memory.
EXPORT std::int64_t search_cells(const Layout* layout, const std::int16_t* query, float query_scale,
                                 const std::int32_t* cells, std::int64_t cell_count, std::int64_t quota,
                                 const std::uint8_t* mask, std::int64_t keep, std::int64_t* found, int threads) {
    try {
        std::vector<std::int64_t> starts{0};
        std::int64_t seen = 0;
        for (std::int64_t i = 0; i < cell_count && seen < quota; ++i) {
            const std::int64_t begin = layout->offsets[cells[i]], end = layout->offsets[cells[i] + 1];
            if (mask)
                for (std::int64_t slot = begin; slot < end; ++slot) seen += mask[layout->order[slot]] != 0;
            else
                seen += end - begin;
            starts.push_back(starts.back() + end - begin);
        }
        const auto walked = static_cast<std::int64_t>(starts.size()) - 1;
        std::vector<float> scores(starts.back());
        parallel_for(walked, 16, starts.back() <= kAlone ? 1 : threads, [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t i = first; i < last; ++i)
                score_codes(*layout, query, query_scale, layout->offsets[cells[i]], layout->offsets[cells[i] + 1], mask,
                            scores.data() + starts[i]);
        });
        const std::vector<Entry> best = best_of(scores.data(), starts.back(), keep);
        for (std::size_t i = 0; i < best.size(); ++i) {
            const auto cell = std::upper_bound(starts.begin(), starts.end(), best[i].at) - starts.begin() - 1;
            found[i] = layout->order[layout->offsets[cells[cell]] + best[i].at - starts[cell]];
        }
        return static_cast<std::int64_t>(best.size());
    } catch (const std::bad_alloc&) {
        return -1;
    }
}
