// Nearest neighbours on the plane by a balanced k-d tree; exact, ties to the lower index.
#include "kernels.h"

#include <cmath>
#include <limits>
#include <new>

namespace {

constexpr std::int64_t kLeaf = 12;

struct Point {
    float at[2];
    std::int32_t index;
};

struct Node {
    float low[2], high[2];
    std::int32_t begin, end;
    std::int32_t least;  // the lowest index inside: what makes ties between very many equal points cheap
};

struct Tree {
    std::vector<Point> points;
    std::vector<Node> nodes;  // a heap: the children of i are 2i+1 and 2i+2
    std::int64_t leaves = 1;
};

void measure(const Tree& tree, Node& node) {
    node.least = std::numeric_limits<std::int32_t>::max();
    for (int axis = 0; axis < 2; ++axis) {
        node.low[axis] = std::numeric_limits<float>::infinity();
        node.high[axis] = -std::numeric_limits<float>::infinity();
    }
    for (std::int32_t i = node.begin; i < node.end; ++i) {
        const Point& point = tree.points[i];
        node.least = std::min(node.least, point.index);
        for (int axis = 0; axis < 2; ++axis) {
            node.low[axis] = std::min(node.low[axis], point.at[axis]);
            node.high[axis] = std::max(node.high[axis], point.at[axis]);
        }
    }
}

void split(Tree& tree, std::int64_t at) {
    const Node& node = tree.nodes[at];
    const int axis = node.high[1] - node.low[1] > node.high[0] - node.low[0] ? 1 : 0;
    const std::int32_t middle = node.begin + (node.end - node.begin) / 2;
    // By index among equals, so that equal points lie in the tree in their order.
    std::nth_element(
        tree.points.begin() + node.begin, tree.points.begin() + middle, tree.points.begin() + node.end,
        [axis](const Point& one, const Point& other) {
            return one.at[axis] < other.at[axis] || (one.at[axis] == other.at[axis] && one.index < other.index);
        });
    Node &left = tree.nodes[2 * at + 1], &right = tree.nodes[2 * at + 2];
    left.begin = node.begin;
    left.end = right.begin = middle;
    right.end = node.end;
    measure(tree, left);
    measure(tree, right);
}

Tree grow(const float* xy, std::int64_t count, int threads) {
    Tree tree;
    tree.points.resize(count);
    for (std::int64_t i = 0; i < count; ++i)
        tree.points[i] = {{xy[2 * i], xy[2 * i + 1]}, static_cast<std::int32_t>(i)};
    while (count > kLeaf * tree.leaves) tree.leaves *= 2;
    tree.nodes.resize(2 * tree.leaves - 1);
    tree.nodes[0].begin = 0;
    tree.nodes[0].end = static_cast<std::int32_t>(count);
    measure(tree, tree.nodes[0]);
    for (std::int64_t width = 1; width < tree.leaves; width *= 2)
        parallel_for(width, 1 + width / 64, threads, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) split(tree, width - 1 + i);
        });
    return tree;
}

// The k nearest so far, ascending by squared distance and then index.
struct Nearest {
    double* squared;
    std::int32_t* index;
    std::int64_t k;

    bool takes(double distance, std::int32_t candidate) const {
        return distance < squared[k - 1] || (distance == squared[k - 1] && candidate < index[k - 1]);
    }
    void put(double distance, std::int32_t candidate) {
        std::int64_t at = k - 1;
        for (; at > 0 && (distance < squared[at - 1] || (distance == squared[at - 1] && candidate < index[at - 1]));
             --at) {
            squared[at] = squared[at - 1];
            index[at] = index[at - 1];
        }
        squared[at] = distance;
        index[at] = candidate;
    }
};

INLINE double distance_to(const Node& node, const Point& point) {
    double sum = 0;
    for (int axis = 0; axis < 2; ++axis) {
        const double below = static_cast<double>(node.low[axis]) - point.at[axis];
        const double above = static_cast<double>(point.at[axis]) - node.high[axis];
        const double outside = std::max(0.0, std::max(below, above));
        sum += outside * outside;
    }
    return sum;
}

void search(const Tree& tree, const Point& point, Nearest& nearest) {
    struct Visit {
        std::int64_t at;
        double distance;
    } stack[96];
    int height = 0;
    stack[height++] = {0, 0.0};
    const std::int64_t first_leaf = tree.leaves - 1;
    while (height > 0) {
        const Visit visit = stack[--height];
        const Node& node = tree.nodes[visit.at];
        if (!nearest.takes(visit.distance, node.least)) continue;
        if (visit.at >= first_leaf) {
            for (std::int32_t i = node.begin; i < node.end; ++i) {
                const Point& other = tree.points[i];
                const double dx = static_cast<double>(other.at[0]) - point.at[0];
                const double dy = static_cast<double>(other.at[1]) - point.at[1];
                const double distance = dx * dx + dy * dy;
                if (nearest.takes(distance, other.index) && other.index != point.index)
                    nearest.put(distance, other.index);
            }
            continue;
        }
        const std::int64_t left = 2 * visit.at + 1, right = left + 1;
        const Visit to_left{left, distance_to(tree.nodes[left], point)};
        const Visit to_right{right, distance_to(tree.nodes[right], point)};
        const bool left_first =
            to_left.distance < to_right.distance ||
            (to_left.distance == to_right.distance && tree.nodes[left].least < tree.nodes[right].least);
        stack[height++] = left_first ? to_right : to_left;
        stack[height++] = left_first ? to_left : to_right;
    }
}

}  // namespace

// xy [count, 2] finite; indices and distances [count, k] are written, -1 and infinity where there are fewer.
EXPORT int plane_neighbors(
    const float* xy, std::int64_t count, std::int64_t k, std::int32_t* indices, float* distances, std::int64_t threads) {
    constexpr std::int32_t kFree = std::numeric_limits<std::int32_t>::max();  // loses every tie
    try {
        const Tree tree = grow(xy, count, static_cast<int>(threads));
        const std::int64_t piece = 1024;
        // Allocated here, where running out of memory can be told.
        std::vector<double> squared(k * ((count + piece - 1) / piece));
        parallel_for(count, piece, static_cast<int>(threads), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
                const Point& point = tree.points[i];
                const std::int64_t row = point.index * k;
                Nearest nearest{squared.data() + k * (begin / piece), indices + row, k};
                std::fill_n(nearest.squared, k, std::numeric_limits<double>::infinity());
                std::fill_n(nearest.index, k, kFree);
                search(tree, point, nearest);
                for (std::int64_t j = 0; j < k; ++j) {
                    distances[row + j] = static_cast<float>(std::sqrt(nearest.squared[j]));
                    if (nearest.index[j] == kFree) nearest.index[j] = -1;
                }
            }
        });
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
