// Nearest neighbours: reading rows, the best of many columns for many rows, exact distances, neighbours of neighbours.
#include "kernels.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <new>

namespace {

using i32 = std::int32_t;
using i64 = std::int64_t;
using u64 = std::uint64_t;

constexpr float kNone = -std::numeric_limits<float>::infinity();

INLINE float number(float value) { return value; }

// IEEE half to single without subnormal operands, in integer steps that compilers turn into vector code.
INLINE float number(std::uint16_t half) {
    const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7fff) << 13;
    const std::uint32_t is_small = (half & 0x7c00) == 0;
    const std::uint32_t bits = magnitude + (112u << 23) + (is_small << 23);
    float value, base;
    const std::uint32_t base_bits = is_small * (113u << 23);
    std::memcpy(&value, &bits, 4);
    std::memcpy(&base, &base_bits, 4);
    value -= base;
    return half & 0x8000 ? -value : value;
}

INLINE u64 bits_of(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
INLINE u64 bits_of(std::uint16_t half) { return half; }

struct Scored {
    float score;
    i32 id;
};

INLINE bool better(const Scored& a, const Scored& b) {
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// Keep the `keep` best of a buffer; return how many are left.
inline i64 compress(Scored* buffer, i64 count, i64 keep) {
    if (count <= keep) return count;
    std::nth_element(buffer, buffer + (keep - 1), buffer + count, better);
    return keep;
}

// -- surveying and reading rows ------------------------------------------------------------------------------------

template <typename T>
INLINE void survey_rows(const T* rows, i64 dim, const u64* keys, double* squares, u64* digests, i64 begin, i64 end) {
    for (i64 i = begin; i < end; ++i) {
        const T* row = rows + i * dim;
        double square = 0;
        u64 digest = 0;
        for (i64 j = 0; j < dim; ++j) {
            const double value = number(row[j]);
            square += value * value;
            digest += bits_of(row[j]) * keys[j];
        }
        squares[i] = square;
        digests[i] = digest;
    }
}
CLONES void survey_f32(const float* r, i64 d, const u64* k, double* s, u64* h, i64 b, i64 e) {
    survey_rows(r, d, k, s, h, b, e);
}
CLONES void survey_f16(const std::uint16_t* r, i64 d, const u64* k, double* s, u64* h, i64 b, i64 e) {
    // Infinities and NaN become numbers in the short conversion; the exponent tells them apart.
    survey_rows(r, d, k, s, h, b, e);
    for (i64 i = b; i < e; ++i) {
        std::uint32_t bad = 0;
        for (i64 j = 0; j < d; ++j) bad |= (r[i * d + j] & 0x7c00) == 0x7c00;
        if (bad) s[i] = std::numeric_limits<double>::infinity();
    }
}

template <typename T>
INLINE void read_rows(const T* rows, i64 dim, const i64* which, const float* scale, float* out, i64 begin, i64 end) {
    for (i64 i = begin; i < end; ++i) {
        const i64 from = which[i];
        const T* row = rows + from * dim;
        const float factor = scale ? scale[from] : 1.0f;
        for (i64 j = 0; j < dim; ++j) out[i * dim + j] = number(row[j]) * factor;
    }
}
CLONES void read_f32(const float* r, i64 d, const i64* w, const float* s, float* o, i64 b, i64 e) {
    read_rows(r, d, w, s, o, b, e);
}
CLONES void read_f16(const std::uint16_t* r, i64 d, const i64* w, const float* s, float* o, i64 b, i64 e) {
    read_rows(r, d, w, s, o, b, e);
}

// -- the best columns of each row ----------------------------------------------------------------------------------

// Rows of a matrix of singles or halves: row i is rows[which[i]] * scale[which[i]].
struct Source {
    const void* rows;
    i64 half;
    const i64* which;
    const float* scale;
    i64 dim;
};

template <typename T>
INLINE void load_row(const T* row, i64 dim, float factor, float* out) {
    for (i64 k = 0; k < dim; ++k) out[k] = number(row[k]) * factor;
}

INLINE void load(const Source& source, i64 i, float* out) {
    const i64 from = source.which ? source.which[i] : i;
    const float factor = source.scale ? source.scale[from] : 1.0f;
    const i64 at = from * source.dim;
    if (source.half) load_row(static_cast<const std::uint16_t*>(source.rows) + at, source.dim, factor, out);
    else load_row(static_cast<const float*>(source.rows) + at, source.dim, factor, out);
}

struct Join {
    Source x;
    Source y;
    const float* bias;
    const i64* segments;
    const i32* own;
    i64 first_id;
    float* best;
    i32* best_ids;
    i64 keep;
};

// R rows of x against the W * C columns of a packed panel: dot products, or minus half the squared distances.
template <int W, int R, int C, bool DIFFERENCES>
INLINE void tile(const float* const* x, const float* panel, i64 dim, float* out) {
    typedef float V __attribute__((vector_size(W * 4)));
    V sums[R][C];
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) sums[r][c] = V{};
    for (i64 k = 0; k < dim; ++k) {
        V y[C];
        std::memcpy(y, panel + k * W * C, sizeof y);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const V value = x[r][k] - V{};
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
                if (DIFFERENCES) {
                    const V step = value - y[c];
                    sums[r][c] += step * step;
                } else {
                    sums[r][c] += value * y[c];
                }
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) {
            if (DIFFERENCES) sums[r][c] *= -0.5f;
            std::memcpy(out + (r * C + c) * W, &sums[r][c], sizeof(V));
        }
}

// One group of rows against its segments of y, packed piece by piece.
template <int W, int R, int C, bool DIFFERENCES>
INLINE void join_group(const Join& join, i64 begin, i64 end, i64 first_segment, i64 last_segment) {
    constexpr int P = W * C;
    const i64 dim = join.x.dim, keep = join.keep, room = 2 * keep + P, rows = end - begin;
    const i64 panels = std::max<i64>(1, 98304 / (P * dim));
    std::vector<float> packed(panels * P * dim), bias(panels * P), given(rows * dim), column(dim);
    std::vector<i32> ids(panels * P);
    std::vector<Scored> buffers(rows * room);
    std::vector<i64> counts(rows);
    std::vector<float> floors(rows, kNone);
    alignas(64) float scores[R * P];
    for (i64 i = 0; i < rows; ++i) {
        load(join.x, begin + i, &given[i * dim]);
        for (i64 j = (begin + i) * keep; j < (begin + i + 1) * keep; ++j)
            if (join.best_ids[j] >= 0) buffers[i * room + counts[i]++] = {join.best[j], join.best_ids[j]};
        if (counts[i] == keep)
            floors[i] = std::min_element(&buffers[i * room], &buffers[i * room] + keep,
                                         [](const Scored& a, const Scored& b) { return a.score < b.score; })->score;
    }
    i64 segment = first_segment, at = first_segment < last_segment ? join.segments[2 * first_segment] : 0;
    while (segment < last_segment) {
        i64 filled = 0;
        for (; segment < last_segment && filled < panels * P;) {
            if (at >= join.segments[2 * segment + 1]) {
                if (++segment < last_segment) at = join.segments[2 * segment];
                continue;
            }
            load(join.y, at, column.data());
            float* into = &packed[(filled / P) * P * dim + filled % P];
            for (i64 k = 0; k < dim; ++k) into[k * P] = column[k];
            bias[filled] = join.bias ? join.bias[at] : 0.0f;
            ids[filled++] = static_cast<i32>(join.first_id + at++);
        }
        for (; filled % P; ++filled) {
            bias[filled] = std::numeric_limits<float>::infinity();
            ids[filled] = -1;
            float* into = &packed[(filled / P) * P * dim + filled % P];
            for (i64 k = 0; k < dim; ++k) into[k * P] = 0;
        }
        for (i64 row = 0; row < rows; row += R) {
            const float* x[R];
            for (int r = 0; r < R; ++r) x[r] = &given[std::min(row + r, rows - 1) * dim];
            for (i64 panel = 0; panel < filled / P; ++panel) {
                tile<W, R, C, DIFFERENCES>(x, &packed[panel * P * dim], dim, scores);
                const float* less = &bias[panel * P];
                for (int r = 0; r < R && row + r < rows; ++r) {
                    float* score = scores + r * P;
                    float most = kNone;
                    for (int j = 0; j < P; ++j) {
                        score[j] -= less[j];
                        most = most > score[j] ? most : score[j];
                    }
                    float& floor = floors[row + r];
                    if (!(most > floor)) continue;
                    Scored* buffer = &buffers[(row + r) * room];
                    i64& count = counts[row + r];
                    const i32 self = join.own ? join.own[begin + row + r] : -1;
                    const i32* id = &ids[panel * P];
                    for (int j = 0; j < P; ++j)
                        if (score[j] > floor && id[j] != self) buffer[count++] = {score[j], id[j]};
                    if (count >= 2 * keep) {
                        count = compress(buffer, count, keep);
                        floor = buffer[keep - 1].score;
                    }
                }
            }
        }
    }
    for (i64 i = 0; i < rows; ++i) {
        Scored* buffer = &buffers[i * room];
        const i64 count = compress(buffer, counts[i], keep);
        std::sort(buffer, buffer + count, better);
        for (i64 j = 0; j < keep; ++j) {
            join.best[(begin + i) * keep + j] = j < count ? buffer[j].score : kNone;
            join.best_ids[(begin + i) * keep + j] = j < count ? buffer[j].id : -1;
        }
    }
}

using JoinGroup = void (*)(const Join&, i64, i64, i64, i64);

// Registers differ: 32 of 16 numbers, 16 of 8, and at least 16 of 4.
#if defined(__x86_64__) && defined(__linux__) && !defined(GNOMONIC_ONE_CPU)
#define FOR_V4 __attribute__((target("arch=x86-64-v4")))
#define FOR_V3 __attribute__((target("arch=x86-64-v3")))
FOR_V4 void join_dot_v4(const Join& j, i64 b, i64 e, i64 s, i64 t) { join_group<16, 12, 2, false>(j, b, e, s, t); }
FOR_V4 void join_difference_v4(const Join& j, i64 b, i64 e, i64 s, i64 t) {
    join_group<16, 12, 2, true>(j, b, e, s, t);
}
FOR_V3 void join_dot_v3(const Join& j, i64 b, i64 e, i64 s, i64 t) { join_group<8, 6, 2, false>(j, b, e, s, t); }
FOR_V3 void join_difference_v3(const Join& j, i64 b, i64 e, i64 s, i64 t) { join_group<8, 5, 2, true>(j, b, e, s, t); }
#endif
void join_dot(const Join& j, i64 b, i64 e, i64 s, i64 t) { join_group<4, 6, 2, false>(j, b, e, s, t); }
void join_difference(const Join& j, i64 b, i64 e, i64 s, i64 t) { join_group<4, 5, 2, true>(j, b, e, s, t); }

JoinGroup join_for_this_cpu(bool differences) {
#if defined(__x86_64__) && defined(__linux__) && !defined(GNOMONIC_ONE_CPU)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        return differences ? join_difference_v4 : join_dot_v4;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        return differences ? join_difference_v3 : join_dot_v3;
#endif
    return differences ? join_difference : join_dot;
}

// -- exact distances -----------------------------------------------------------------------------------------------

template <typename T>
INLINE float squared_distance_to(const float* point, const T* row, i64 dim, float factor) {
    float sum = 0;
    for (i64 k = 0; k < dim; ++k) {
        const float step = point[k] - number(row[k]) * factor;
        sum += step * step;
    }
    return sum;
}

INLINE float squared_distance(const float* point, const Source& source, i64 i) {
    const i64 from = source.which ? source.which[i] : i;
    const float factor = source.scale ? source.scale[from] : 1.0f;
    const i64 at = from * source.dim;
    if (source.half)
        return squared_distance_to(point, static_cast<const std::uint16_t*>(source.rows) + at, source.dim, factor);
    return squared_distance_to(point, static_cast<const float*>(source.rows) + at, source.dim, factor);
}

CLONES void distance_rows(const Source& x, const Source& y, const i32* ids, i64 columns, float* out, i64 begin,
                          i64 end) {
    std::vector<float> query(x.dim);
    for (i64 i = begin; i < end; ++i) {
        load(x, i, query.data());
        float length = 0;
        for (i64 k = 0; k < x.dim; ++k) length += query[k] * query[k];
        for (i64 j = i * columns; j < (i + 1) * columns; ++j) {
            if (ids[j] < 0) {
                out[j] = std::numeric_limits<float>::infinity();
                continue;
            }
            const float square = squared_distance(query.data(), y, ids[j]);
            if (!y.scale) {
                out[j] = std::sqrt(square);
                continue;
            }
            const bool is_zero = y.scale[y.which ? y.which[ids[j]] : ids[j]] == 0;
            if (length == 0 || is_zero) out[j] = length == 0 && is_zero ? 0.0f : 1.0f;
            else out[j] = square < 2e-12f ? 0.0f : 0.5f * square;
        }
    }
}

// One query against many rows: its cosine with each, or minus its squared distance to each.
template <typename T>
INLINE void scan_rows(const T* rows, i64 dim, const i64* which, const float* query, bool cosine, float* out, i64 begin,
                      i64 end) {
    for (i64 i = begin; i < end; ++i) {
        const T* row = rows + (which ? which[i] : i) * dim;
        float product = 0, square = 0;
        if (cosine) {
            for (i64 k = 0; k < dim; ++k) {
                const float value = number(row[k]);
                product += query[k] * value;
                square += value * value;
            }
            // A zero vector comes before all others for a zero vector, which is at a right angle to them.
            out[i] = square > 0 ? product / std::sqrt(square) : 1e-6f;
        } else {
            for (i64 k = 0; k < dim; ++k) {
                const float step = query[k] - number(row[k]);
                square += step * step;
            }
            out[i] = -square;
        }
    }
}
CLONES void scan_f32(const float* r, i64 d, const i64* w, const float* q, bool c, float* o, i64 b, i64 e) {
    scan_rows(r, d, w, q, c, o, b, e);
}
CLONES void scan_f16(const std::uint16_t* r, i64 d, const i64* w, const float* q, bool c, float* o, i64 b, i64 e) {
    scan_rows(r, d, w, q, c, o, b, e);
}

// -- neighbours of neighbours --------------------------------------------------------------------------------------

struct Refine {
    Source points;
    const float* bias;
    const i32* near;
    i64 fan;
    const i32* cells;
    const std::uint8_t* searched;
    i64 cell_count;
    float* best;
    i32* best_ids;
    i64 keep;
};

CLONES void refine_rows(const Refine& job, i64 begin, i64 end) {
    const i64 fan = job.fan, keep = job.keep, dim = job.points.dim;
    u64 slots = 64;
    while (static_cast<i64>(slots) < 2 * (keep + fan * fan + 1)) slots *= 2;
    std::vector<i32> seen(slots, -1);
    std::vector<i64> taken;
    std::vector<Scored> buffer(keep + fan * fan + 1);
    std::vector<float> row(dim);
    const float* point = row.data();
    auto is_new = [&](i32 id) {
        u64 slot = (static_cast<u64>(id) * 0x9e3779b97f4a7c15ull) >> 20 & (slots - 1);
        while (seen[slot] >= 0) {
            if (seen[slot] == id) return false;
            slot = (slot + 1) & (slots - 1);
        }
        seen[slot] = id;
        taken.push_back(static_cast<i64>(slot));
        return true;
    };
    for (i64 i = begin; i < end; ++i) {
        load(job.points, i, row.data());
        float* best = job.best + i * keep;
        i32* best_ids = job.best_ids + i * keep;
        i64 count = 0;
        is_new(static_cast<i32>(i));
        for (i64 j = 0; j < keep && best_ids[j] >= 0; ++j) {
            is_new(best_ids[j]);
            buffer[count++] = {best[j], best_ids[j]};
        }
        const i64 before = count;
        const float floor = count == keep ? best[keep - 1] : kNone;
        const std::uint8_t* searched = job.searched + job.cells[i] * job.cell_count;
        for (i64 j = 0; j < fan; ++j) {
            const i32 middle = job.near[i * fan + j];
            if (middle < 0) continue;
            for (i64 l = 0; l < fan; ++l) {
                const i32 id = job.near[middle * fan + l];
                if (id < 0 || searched[job.cells[id]] || !is_new(id)) continue;
                const float score = -0.5f * squared_distance(point, job.points, id) - (job.bias ? job.bias[id] : 0.0f);
                if (score > floor) buffer[count++] = {score, id};
            }
        }
        if (count > before) {
            count = compress(buffer.data(), count, keep);
            std::sort(buffer.data(), buffer.data() + count, better);
            for (i64 j = 0; j < count; ++j) {
                best[j] = buffer[j].score;
                best_ids[j] = buffer[j].id;
            }
        }
        for (const i64 slot : taken) seen[slot] = -1;
        taken.clear();
    }
}

// Run pieces on threads; out of memory in one of them is told to the caller.
template <typename Body>
i32 guarded(i64 count, i64 piece, i64 threads, const Body& body) {
    std::atomic<i32> failed{0};
    try {
        parallel_for(count, piece, static_cast<int>(threads), [&](i64 begin, i64 end) {
            try {
                body(begin, end);
            } catch (const std::bad_alloc&) {
                failed = 1;
            }
        });
    } catch (const std::bad_alloc&) {
        failed = 1;
    }
    return failed;
}

}  // namespace

// Squared lengths (infinite where a number of the row is not finite) and digests of rows.
EXPORT i32 neighbors_survey(const void* rows, i64 half, i64 count, i64 dim, const u64* keys, double* squares,
                            u64* digests, i64 threads) {
    return guarded(count, 256, threads, [&](i64 b, i64 e) {
        if (half) survey_f16(static_cast<const std::uint16_t*>(rows), dim, keys, squares, digests, b, e);
        else survey_f32(static_cast<const float*>(rows), dim, keys, squares, digests, b, e);
    });
}

// Some rows as float32, each times its scale where there is one.
EXPORT i32 neighbors_read(const void* rows, i64 half, i64 dim, const i64* which, i64 count, const float* scale,
                          float* out, i64 threads) {
    return guarded(count, 256, threads, [&](i64 b, i64 e) {
        if (half) read_f16(static_cast<const std::uint16_t*>(rows), dim, which, scale, out, b, e);
        else read_f32(static_cast<const float*>(rows), dim, which, scale, out, b, e);
    });
}

// Merge into the best lists of x's rows the rows of y in their group's segments. groups: [n, 4] first row, end row,
// first segment, end segment. A score is x.y - bias, or -|x - y|^2 / 2 - bias where `differences` is set.
EXPORT i32 neighbors_join(const void* x, i64 x_half, const i64* x_which, const float* x_scale, const void* y,
                          i64 y_half, const i64* y_which, const float* y_scale, const float* bias, i64 dim,
                          i64 differences, const i64* groups, i64 group_count, const i64* segments, const i32* own,
                          i64 first_id, float* best, i32* best_ids, i64 keep, i64 threads) {
    const Source rows{x, x_half, x_which, x_scale, dim}, columns{y, y_half, y_which, y_scale, dim};
    const Join join{rows, columns, bias, segments, own, first_id, best, best_ids, keep};
    const JoinGroup run = join_for_this_cpu(differences != 0);
    return guarded(group_count, 1, threads, [&](i64 b, i64 e) {
        for (i64 g = b; g < e; ++g) run(join, groups[4 * g], groups[4 * g + 1], groups[4 * g + 2], groups[4 * g + 3]);
    });
}

// Distances of x's rows to the rows of y they name: half the squared ones (cosine) where y has scales, else Euclidean.
EXPORT i32 neighbors_distances(const void* x, i64 x_half, const i64* x_which, const float* x_scale, const void* y,
                               i64 y_half, const i64* y_which, const float* y_scale, i64 dim, i64 count,
                               const i32* ids, i64 columns, float* out, i64 threads) {
    const Source from{x, x_half, x_which, x_scale, dim}, to{y, y_half, y_which, y_scale, dim};
    return guarded(count, 64, threads, [&](i64 b, i64 e) { distance_rows(from, to, ids, columns, out, b, e); });
}

// One query's cosine with each of some rows, or minus its squared distance to each.
EXPORT i32 neighbors_scan(const void* rows, i64 half, i64 dim, const i64* which, i64 count, const float* query,
                          i64 cosine, float* out, i64 threads) {
    return guarded(count, 1024, threads, [&](i64 b, i64 e) {
        if (half) scan_f16(static_cast<const std::uint16_t*>(rows), dim, which, query, cosine != 0, out, b, e);
        else scan_f32(static_cast<const float*>(rows), dim, which, query, cosine != 0, out, b, e);
    });
}

// Try each row's neighbours' neighbours that lie in cells its own cell was not compared with.
EXPORT i32 neighbors_refine(const void* points, i64 half, const i64* which, const float* scale, i64 dim,
                            const float* bias, i64 count, const i32* near, i64 fan, const i32* cells,
                            const std::uint8_t* searched, i64 cell_count, float* best, i32* best_ids, i64 keep,
                            i64 threads) {
    const Source source{points, half, which, scale, dim};
    const Refine job{source, bias, near, fan, cells, searched, cell_count, best, best_ids, keep};
    return guarded(count, 256, threads, [&](i64 b, i64 e) { refine_rows(job, b, e); });
}

// Of the edges i -> ids[i][j], the first `width` that end at each row, by rank and then by row; the rest is left as is.
EXPORT i32 neighbors_reverse(const i32* ids, i64 count, i64 columns, i64 stride, i32* out, i64 width) {
    try {
        std::vector<i32> filled(count, 0);
        for (i64 j = 0; j < columns; ++j)
            for (i64 i = 0; i < count; ++i) {
                const i32 to = ids[i * stride + j];
                if (to >= 0 && filled[to] < width) out[to * width + filled[to]++] = static_cast<i32>(i);
            }
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
