// Loops over sorted edges: single linkage, the leaves of its tree, and growing labels along it.
#include <cstring>
#include <new>

#include "kernels.h"

namespace {

// Disjoint sets over [0, count): the root of a set is its own parent.
INLINE std::int32_t find(std::int32_t* parent, std::int32_t of) {
    while (parent[of] != of) {
        parent[of] = parent[parent[of]];
        of = parent[of];
    }
    return of;
}

}  // namespace

// Merge points by edges, shortest first. children [n - 1, 2] of each merge (a number below n is a point, n + i the
// i-th merge), sizes [n - 1], edges [n - 1] which edge made it, groups [n] the set each point ends in, numbered by
// first point. merges and sets get their counts.
EXPORT std::int32_t clusters_linkage(std::int64_t n, std::int64_t count, const std::int32_t* from,
                                     const std::int32_t* to, std::int32_t* children, std::int32_t* sizes,
                                     std::int64_t* edges, std::int32_t* groups, std::int64_t* merges,
                                     std::int64_t* sets) try {
    std::vector<std::int32_t> parent(n), node(n), size(n, 1);
    for (std::int32_t i = 0; i < n; ++i) parent[i] = node[i] = i;
    std::int64_t done = 0;
    for (std::int64_t e = 0; e < count && done < n - 1; ++e) {
        std::int32_t a = find(parent.data(), from[e]), b = find(parent.data(), to[e]);
        if (a == b) continue;
        children[2 * done] = node[a];
        children[2 * done + 1] = node[b];
        if (size[a] < size[b]) std::swap(a, b);
        parent[b] = a;
        size[a] += size[b];
        node[a] = static_cast<std::int32_t>(n + done);
        sizes[done] = size[a];
        edges[done++] = e;
    }
    std::int32_t next = 0;
    std::fill(node.begin(), node.end(), -1);
    for (std::int32_t i = 0; i < n; ++i) {
        const std::int32_t root = find(parent.data(), i);
        if (node[root] < 0) node[root] = next++;
        groups[i] = node[root];
    }
    *merges = done;
    *sets = next;
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

// Label [n] points by the leaves of the tree when only the merges marked in split [n - 1] part it in two; -1 between
// them. The tree has n - 1 merges.
EXPORT std::int32_t clusters_leaves(std::int64_t n, const std::int32_t* children, const std::uint8_t* split,
                                    std::int32_t* labels) try {
    const std::int64_t nodes = 2 * n - 1;
    std::vector<std::uint8_t> parted(nodes, 0);
    std::vector<std::int32_t> label(nodes, -1);
    for (std::int64_t i = 0; i < n - 1; ++i)
        parted[n + i] = split[i] | parted[children[2 * i]] | parted[children[2 * i + 1]];
    std::int32_t next = 0;
    if (!parted[nodes - 1]) label[nodes - 1] = next++;
    for (std::int64_t i = n - 2; i >= 0; --i)
        for (int side = 0; side < 2; ++side) {
            const std::int32_t child = children[2 * i + side];
            label[child] = label[n + i];
            if (split[i] && !parted[child]) label[child] = next++;
        }
    std::memcpy(labels, label.data(), n * sizeof(std::int32_t));
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

// Give points without a label (-1) that of the labelled point they are joined to first; heights [n] gets the place of
// the edge that joined them, -1 for those labelled before and those never joined.
EXPORT std::int32_t clusters_grow(std::int64_t n, std::int64_t count, const std::int32_t* from, const std::int32_t* to,
                                  std::int32_t* labels, std::int64_t* joined) try {
    std::vector<std::int32_t> parent(n), next(n), last(n), size(n, 1);
    for (std::int32_t i = 0; i < n; ++i) {
        parent[i] = last[i] = i;
        next[i] = -1;
        joined[i] = -1;
    }
    for (std::int64_t e = 0; e < count; ++e) {
        std::int32_t a = from[e], b = to[e];
        if (a == b || (labels[a] >= 0 && labels[b] >= 0)) continue;
        if (labels[a] < 0 && labels[b] < 0) {
            a = find(parent.data(), a);
            b = find(parent.data(), b);
            if (a == b) continue;
            if (size[a] < size[b]) std::swap(a, b);
            parent[b] = a;
            size[a] += size[b];
            next[last[a]] = b;
            last[a] = last[b];
            continue;
        }
        const std::int32_t given = std::max(labels[a], labels[b]);
        for (std::int32_t i = find(parent.data(), labels[a] < 0 ? a : b); i >= 0; i = next[i]) {
            labels[i] = given;
            joined[i] = e;
        }
    }
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}
