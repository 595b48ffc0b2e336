// Groups of rows within a cut-off of the row that is kept of each.
#include <cmath>
#include <functional>
#include <new>
#include <queue>
#include <utility>

#include "kernels.h"

namespace {

INLINE std::int32_t root_of(std::int32_t* parent, std::int32_t row) {
    while (parent[row] != row) {
        parent[row] = parent[parent[row]];
        row = parent[row];
    }
    return row;
}

}  // namespace

// indices, distances [n, k] of the neighbour graph (-1 for none); same [n] a row each row is identical to, itself or an
// earlier one. farthest: the largest distance of an edge that counts. limit: the largest sum of lengths of a path that
// counts, where the length of an edge is its distance or, with angles, acos(1 - distance). kept [n] gets the row that is
// kept of each row's group.
EXPORT std::int32_t duplicates_groups(std::int64_t n, std::int64_t k, const std::int32_t* indices,
                                      const float* distances, const std::int32_t* same, double farthest,
                                      double limit, std::int32_t angles, std::int32_t* kept) try {
    // Rows at distance 0 are one, and its number is their lowest.
    std::vector<std::int32_t> parent(same, same + n);
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t at = i * k; at < (i + 1) * k && distances[at] <= 0; ++at) {
            if (indices[at] < 0) continue;
            const std::int32_t a = root_of(parent.data(), static_cast<std::int32_t>(i));
            const std::int32_t b = root_of(parent.data(), indices[at]);
            parent[std::max(a, b)] = std::min(a, b);
        }
    std::vector<std::int64_t> begins(n + 1, 0);
    auto each_edge = [&](auto&& use) {
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t at = i * k; at < (i + 1) * k && distances[at] <= farthest; ++at) {
                if (indices[at] < 0) continue;
                const std::int32_t a = root_of(parent.data(), static_cast<std::int32_t>(i));
                const std::int32_t b = root_of(parent.data(), indices[at]);
                if (a != b) use(a, b, distances[at]);
            }
    };
    each_edge([&](std::int32_t a, std::int32_t b, float) { ++begins[a + 1], ++begins[b + 1]; });
    for (std::int64_t i = 0; i < n; ++i) begins[i + 1] += begins[i];
    std::vector<std::int64_t> next(begins.begin(), begins.end() - 1);
    std::vector<std::pair<std::int32_t, double>> edges(begins[n]);
    each_edge([&](std::int32_t a, std::int32_t b, float distance) {
        const double away = angles ? std::acos(1.0 - std::min(distance, 2.0f)) : distance;
        edges[next[a]++] = {b, away};
        edges[next[b]++] = {a, away};
    });

    std::vector<std::int32_t> order;
    for (std::int32_t i = 0; i < n; ++i)
        if (begins[i + 1] > begins[i]) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
        return begins[a + 1] - begins[a] > begins[b + 1] - begins[b];
    });
    std::vector<std::int32_t> leader(n, -1);
    using Reached = std::pair<double, std::int32_t>;
    std::priority_queue<Reached, std::vector<Reached>, std::greater<Reached>> queue;
    for (const std::int32_t first : order) {
        if (leader[first] >= 0) continue;
        leader[first] = first;
        queue.push({0.0, first});
        while (!queue.empty()) {
            const auto [far, row] = queue.top();
            queue.pop();
            if (row != first) {
                if (leader[row] >= 0) continue;
                leader[row] = first;
            }
            for (std::int64_t at = begins[row]; at < begins[row + 1]; ++at) {
                const auto [other, away] = edges[at];
                if (leader[other] >= 0) continue;
                if (row == first || far + away <= limit) queue.push({far + away, other});
            }
        }
    }
    for (std::int32_t i = 0; i < n; ++i) {
        const std::int32_t one = root_of(parent.data(), i);
        kept[i] = leader[one] < 0 ? one : leader[one];
    }
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}
