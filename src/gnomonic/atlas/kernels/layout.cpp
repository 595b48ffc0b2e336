// Loops of the plane: weights of the graph's edges, averages over neighbours, and an epoch of the layout.
// Owner-computes throughout: a row's thread writes that row alone and reads what stood before the call.
#include "kernels.h"

#include <cmath>

namespace {

// ---- Weights ------------------------------------------------------------------------------------------------------

INLINE float strength(float distance, float nearest, float width) {
    const float beyond = distance - nearest;
    if (beyond <= 0.0f) return 1.0f;
    return width > 0.0f ? std::exp(-beyond / width) : 0.0f;
}

// The width at which a row's strengths sum to `target`.
double find_width(const float* distances, int valid, float nearest, double target) {
    double low = 0.0, high = INFINITY, width = 1.0;
    for (int round = 0; round < 64; ++round) {
        double sum = 0.0;
        for (int j = 0; j < valid; ++j) {
            const double beyond = static_cast<double>(distances[j]) - nearest;
            sum += beyond <= 0.0 ? 1.0 : std::exp(-beyond / width);
        }
        if (std::fabs(sum - target) < 1e-5) break;
        if (sum > target) {
            high = width;
            width = 0.5 * (low + high);
        } else {
            low = width;
            width = std::isinf(high) ? 2.0 * width : 0.5 * (low + high);
        }
    }
    return width;
}

void weigh_row(const float* distances, float* weights, int valid, int local, double mean_of_all) {
    double sum = 0.0;
    int zeros = 0;
    for (int j = 0; j < valid; ++j) {
        sum += distances[j];
        zeros += distances[j] <= 0.0f;
    }
    const float nearest = zeros == valid ? 0.0f : distances[std::min(zeros + local, valid) - 1];
    double width = find_width(distances, valid, nearest, std::log2(valid + 1.0));
    width = std::max(width, 1e-3 * (nearest > 0.0f ? sum / valid : mean_of_all));
    for (int j = 0; j < valid; ++j) weights[j] = strength(distances[j], nearest, static_cast<float>(width));
}

struct Arc {
    std::int32_t row;
    float weight;
};

// A row's arcs out and in, each sorted by the other end, joined by w + v - w v.
template <typename Emit>
void join(const Arc* out, std::int64_t outs, const std::int32_t* rows, const float* weights, std::int64_t ins,
          const Emit& emit) {
    std::int64_t i = 0, j = 0;
    while (i < outs || j < ins) {
        if (j == ins || (i < outs && out[i].row < rows[j])) {
            emit(out[i].row, out[i].weight);
            ++i;
        } else if (i == outs || rows[j] < out[i].row) {
            emit(rows[j], weights[j]);
            ++j;
        } else {
            const float w = out[i].weight, v = weights[j];
            emit(rows[j], w + v - w * v);
            ++i;
            ++j;
        }
    }
}

std::int64_t sorted_arcs(const std::int32_t* indices, const float* weights, int k, Arc* arcs) {
    std::int64_t count = 0;
    for (int j = 0; j < k; ++j) {
        if (indices[j] < 0 || weights[j] <= 0.0f) continue;
        std::int64_t at = count++;
        for (; at > 0 && arcs[at - 1].row > indices[j]; --at) arcs[at] = arcs[at - 1];
        arcs[at] = {indices[j], weights[j]};
    }
    return count;
}

// ---- The layout ---------------------------------------------------------------------------------------------------

constexpr int LANES = 8;
constexpr int PULLS = 2;

// Eight numbers that the compiler computes with at once, in whatever registers the CPU has.
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef std::int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef std::uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef std::uint64_t Longs __attribute__((vector_size(8 * LANES)));

#define SCRAMBLE(x) \
    do {                  \
        x ^= x >> 16;     \
        x *= 0x21f0aaadu; \
        x ^= x >> 15;     \
        x *= 0xd35a2d97u; \
        x ^= x >> 15;     \
    } while (0)

struct Epoch {
    const std::int64_t* offsets;
    const std::int32_t* targets;
    const std::uint32_t* rates;
    const float* from;
    float* to;
    std::int64_t rows;
    std::uint32_t number;
    std::uint32_t key;
    float rate, a, b;
};

// result = x ** power for normal x > 0, to about 1e-6.
INLINE void power_of(const Floats& x, float power, Floats& result) {
    const Ints bits = (Ints)x;
    const Ints exponent = (bits - 0x3f3504f3) >> 23;  // of x over the root of a half: the mantissa lies around 1
    const Floats m = (Floats)(bits - (exponent << 23));
    // log2 by the series of atanh((m - 1) / (m + 1)).
    const Floats s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
    const Floats log2 = __builtin_convertvector(exponent, Floats) +
                        s * (2.8853900818f + s2 * (0.9617966939f + s2 * (0.5770780164f + s2 * 0.4121985831f)));
    Floats y = log2 * power;
    y = y < -120.0f ? Floats{} - 120.0f : y;
    y = y > 120.0f ? Floats{} + 120.0f : y;
    const Ints whole = __builtin_convertvector(y + 128.5f, Ints) - 128;
    const Floats f = (y - __builtin_convertvector(whole, Floats)) * 0.69314718056f;
    const Floats e = 1.0f + f * (1.0f + f * (0.5f + f * (0.16666667f + f * (0.041666667f + f * 0.0083333333f))));
    result = e * (Floats)((whole + 127) << 23);
}

// One step of a row: pulls and pushes from where it stands, all at once.
INLINE void step(const Epoch& epoch, const Ints& others, std::int32_t own, float& x, float& y) {
    Floats dx, dy;
    for (int lane = 0; lane < LANES; ++lane) {
        const float* other = epoch.from + 2 * static_cast<std::int64_t>(others[lane]);
        dx[lane] = other[0];
        dy[lane] = other[1];
    }
    dx = x - dx;
    dy = y - dy;
    const Ints pulls = Ints{0, 1, 2, 3, 4, 5, 6, 7} < PULLS;
    const Floats square = dx * dx + dy * dy;
    const Floats safe = square > 1e-12f ? square : Floats{} + 1e-12f;
    Floats power;
    power_of(safe, epoch.b, power);
    const Floats above = pulls ? -2.0f * epoch.a * epoch.b * power : Floats{} + 2.0f * epoch.b;
    const Floats softened = pulls ? safe : safe + 0.001f;
    Floats coefficient = above / (softened * (1.0f + epoch.a * power));
    coefficient = (square > 0.0f) & (others != own) ? coefficient : Floats{};
    dx *= coefficient;
    dy *= coefficient;
    dx = dx < -4.0f ? Floats{} - 4.0f : (dx > 4.0f ? Floats{} + 4.0f : dx);
    dy = dy < -4.0f ? Floats{} - 4.0f : (dy > 4.0f ? Floats{} + 4.0f : dy);
    float sx = 0.0f, sy = 0.0f;
    for (int lane = 0; lane < LANES; ++lane) {
        sx += dx[lane];
        sy += dy[lane];
    }
    x += epoch.rate * sx;
    y += epoch.rate * sy;
}

INLINE std::int64_t collect_due(const Epoch& epoch, std::int64_t row, std::int32_t* due) {
    std::int64_t count = 0;
    for (std::int64_t edge = epoch.offsets[row]; edge < epoch.offsets[row + 1]; ++edge) {
        const std::uint32_t rate = epoch.rates[edge];
        const std::uint32_t turn = static_cast<std::uint32_t>(edge) * 0x9e3779b9u + epoch.number * rate;
        due[count] = epoch.targets[edge];
        count += turn < rate;
    }
    return count;
}

CLONES void move_rows(const Epoch& epoch, std::int64_t begin, std::int64_t end, std::int32_t* due) {
    const auto rows = static_cast<std::uint64_t>(epoch.rows);
    const Words lanes = Words{0, 1, 2, 3, 4, 5, 6, 7} * 0x85ebca6bu;
    for (std::int64_t row = begin; row < end; ++row) {
        const auto own = static_cast<std::int32_t>(row);
        const std::int64_t count = collect_due(epoch, row, due);
        float x = epoch.from[2 * row], y = epoch.from[2 * row + 1];
        std::uint32_t key = epoch.key + static_cast<std::uint32_t>(row) * 0x9e3779b9u;
        SCRAMBLE(key);
        std::int64_t turn = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            Words draws = key + static_cast<std::uint32_t>(i) * (LANES * 0x85ebca6bu) + lanes;
            SCRAMBLE(draws);
            Ints others = __builtin_convertvector((__builtin_convertvector(draws, Longs) * rows) >> 32, Ints);
            // Every edge pulls twice, as it stands in the graph in both directions.
            for (int lane = 0; lane < PULLS; ++lane) {
                others[lane] = due[turn];
                turn = turn + 1 == count ? 0 : turn + 1;
            }
            others[LANES - 1] = own;
            step(epoch, others, own, x, y);
        }
        epoch.to[2 * row] = x;
        epoch.to[2 * row + 1] = y;
    }
}

constexpr std::int64_t PIECE = 512;

// As parallel_for, in so few shares that each can have a place of its own to work in, made beforehand: nothing may be
// thrown from a thread. body(begin, end, place).
template <typename Place, typename Body>
void parallel_shares(std::int64_t count, int threads, const Place& fresh, const Body& body) {
    const std::int64_t pieces = threads <= 1 ? 1 : 8 * static_cast<std::int64_t>(threads);
    const std::int64_t piece = std::max(PIECE, (count + pieces - 1) / pieces);
    std::vector<Place> places((count + piece - 1) / piece, fresh);
    parallel_for(count, piece, threads,
                 [&](std::int64_t begin, std::int64_t end) { body(begin, end, places[begin / piece]); });
}

}  // namespace

// weights [n, k] of directed edges; distances ascend in a row, indices are -1 where a row has no more.
EXPORT std::int32_t layout_weigh(const std::int32_t* indices, const float* distances, float* weights, std::int64_t n,
                                 std::int64_t k, std::int64_t stride, std::int64_t local, double mean_of_all,
                                 std::int32_t threads) {
    parallel_for(n, PIECE, threads, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            int valid = 0;
            while (valid < k && indices[row * stride + valid] >= 0) ++valid;
            std::fill(weights + row * k, weights + (row + 1) * k, 0.0f);
            if (valid) weigh_row(distances + row * stride, weights + row * k, valid, static_cast<int>(local), mean_of_all);
        }
    });
    return 0;
}

// Joins directed edges into a symmetric graph. With targets null, offsets [n + 1] get their sums only.
EXPORT std::int32_t layout_join(const std::int32_t* indices, const float* weights, std::int64_t n, std::int64_t k,
                                std::int64_t stride, std::int64_t* offsets, std::int32_t* targets, float* joined,
                                std::int32_t threads) try {
    std::vector<std::int64_t> starts(n + 1, 0);
    for (std::int64_t row = 0; row < n; ++row)
        for (std::int64_t j = 0; j < k; ++j) {
            const std::int32_t other = indices[row * stride + j];
            if (other >= 0 && weights[row * k + j] > 0.0f) ++starts[other + 1];
        }
    for (std::int64_t row = 0; row < n; ++row) starts[row + 1] += starts[row];
    std::vector<std::int32_t> sources(starts[n]);
    std::vector<float> strengths(starts[n]);
    std::vector<std::int64_t> next(starts.begin(), starts.end() - 1);
    for (std::int64_t row = 0; row < n; ++row)
        for (std::int64_t j = 0; j < k; ++j) {
            const std::int32_t other = indices[row * stride + j];
            if (other < 0 || weights[row * k + j] <= 0.0f) continue;
            sources[next[other]] = static_cast<std::int32_t>(row);
            strengths[next[other]++] = weights[row * k + j];
        }
    parallel_shares(n, threads, std::vector<Arc>(k), [&](std::int64_t begin, std::int64_t end, std::vector<Arc>& arcs) {
        for (std::int64_t row = begin; row < end; ++row) {
            const std::int64_t outs = sorted_arcs(indices + row * stride, weights + row * k, static_cast<int>(k), arcs.data());
            std::int64_t at = targets ? offsets[row] : 0;
            join(arcs.data(), outs, sources.data() + starts[row], strengths.data() + starts[row],
                 starts[row + 1] - starts[row], [&](std::int32_t other, float weight) {
                     if (targets) {
                         targets[at] = other;
                         joined[at] = weight;
                     }
                     ++at;
                 });
            if (!targets) offsets[row + 1] = at;
        }
    });
    if (!targets) {
        offsets[0] = 0;
        for (std::int64_t row = 0; row < n; ++row) offsets[row + 1] += offsets[row];
    }
    return 0;
} catch (...) {
    return 1;
}

// One epoch: `to` [n, 2] from `from` [n, 2]. rates [edges] are 2^32 times an edge's share of the epochs.
EXPORT std::int32_t layout_epoch(const std::int64_t* offsets, const std::int32_t* targets, const std::uint32_t* rates,
                                 const float* from, float* to, std::int64_t n, std::uint32_t number, std::uint32_t key,
                                 float rate, float a, float b, std::int32_t threads) try {
    const Epoch epoch{offsets, targets, rates, from, to, n, number, key, rate, a, b};
    std::int64_t most = 0;
    for (std::int64_t row = 0; row < n; ++row) most = std::max(most, offsets[row + 1] - offsets[row]);
    using Due = std::vector<std::int32_t>;
    parallel_shares(n, threads, Due(most + 1), [&epoch](std::int64_t begin, std::int64_t end, Due& due) {
        move_rows(epoch, begin, end, due.data());
    });
    return 0;
} catch (...) {
    return 1;
}

// indices and distances [m, k] of the landmarks nearest to some rows [m], within two steps of the graph [n, k];
// slots [n] hold a landmark's number and -1 for other rows. squared: whether steps add in squares.
EXPORT std::int32_t layout_landmarks(const std::int32_t* near, const float* apart, const std::int32_t* slots,
                                     const std::int64_t* rows, std::int64_t m, std::int64_t k, std::int32_t squared,
                                     std::int32_t* indices, float* distances, std::int32_t threads) try {
    struct Found {
        std::int32_t slot;
        float distance;
    };
    using Ways = std::vector<Found>;
    parallel_shares(m, threads, Ways(k + k * k), [&](std::int64_t begin, std::int64_t end, Ways& ways) {
        Found* found = ways.data();
        for (std::int64_t at = begin; at < end; ++at) {
            const std::int64_t row = rows[at];
            std::int64_t count = 0;
            const auto add = [&](std::int32_t other, float distance) {
                if (other >= 0 && other != row && slots[other] >= 0) found[count++] = {slots[other], distance};
            };
            for (std::int64_t j = 0; j < k; ++j) {
                const std::int64_t middle = near[row * k + j];
                if (middle < 0) continue;
                const float first = apart[row * k + j];
                add(near[row * k + j], first);
                for (std::int64_t i = middle * k; i < (middle + 1) * k; ++i)
                    add(near[i], squared ? std::sqrt(first * first + apart[i] * apart[i]) : first + apart[i]);
            }
            // The shortest way to each landmark comes first among its ways.
            std::sort(found, found + count, [](const Found& a, const Found& b) {
                return a.slot != b.slot ? a.slot < b.slot : a.distance < b.distance;
            });
            count = std::unique(found, found + count, [](const Found& a, const Found& b) { return a.slot == b.slot; }) - found;
            std::sort(found, found + count, [](const Found& a, const Found& b) {
                return a.distance != b.distance ? a.distance < b.distance : a.slot < b.slot;
            });
            for (std::int64_t j = 0; j < k; ++j) {
                indices[at * k + j] = j < count ? found[j].slot : -1;
                distances[at * k + j] = j < count ? found[j].distance : INFINITY;
            }
        }
    });
    return 0;
} catch (...) {
    return 1;
}
