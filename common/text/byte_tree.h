// byte_tree.h: strings as a tree of bytes, so that one walk finds the longest of them that begins at a place of a text.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <string_view>
#include <vector>

#include "common/base/errors.h"

struct ByteTree {
    // A node is a number; (node, byte) → node is a hash table with open addressing. 0 = nothing there; the roots are
    // nodes 1 and 2: two sets of strings in one tree.
    struct Edge {  // key = node << 8 | byte; free if node == 0
        uint32_t key, node;
    };
    std::vector<Edge> edges;     // a power of two, at most half full
    std::vector<int32_t> value;  // node → what add() was given for the string that ends here, or −1

    // An empty tree with room for strings of so many bytes together. `where` begins the message of an error.
    void reset(size_t bytes, const std::string& where) {
        if (bytes >= 1 << 24)
            fail("%s: expected tokens of less than 16 MB together, found %zu bytes", where.c_str(), bytes);
        size_t capacity = 64;
        while (capacity < 2 * bytes) capacity *= 2;
        edges.assign(capacity, {0, 0});
        value.assign(3, -1);
    }
    // The place of an edge in `edges`, or the free one where it would be
    uint32_t edge(uint32_t node, uint8_t byte) const {
        uint32_t key = node << 8 | byte, mask = edges.size() - 1;
        uint32_t i = (key * 2654435761u) >> 7 & mask;
        while (edges[i].node && edges[i].key != key) i = (i + 1) & mask;
        return i;
    }
    // The value at `s`, −1 if it was not there before
    int32_t& at(uint32_t root, std::string_view s) {
        uint32_t node = root;
        for (char byte : s) {
            Edge& e = edges[edge(node, byte)];
            if (!e.node) {
                e = {node << 8 | (uint8_t)byte, (uint32_t)value.size()};
                value.push_back(-1);
            }
            node = e.node;
        }
        return value[node];
    }
    // The value of the longest string that begins at p, and `match` moved to its end; −1 if there is none
    int32_t longest(uint32_t root, const char* p, const char* end, const char*& match) const {
        int32_t found = -1;
        for (uint32_t node = root; p < end && (node = edges[edge(node, *p)].node);) {
            p++;
            if (value[node] >= 0) {
                found = value[node];
                match = p;
            }
        }
        return found;
    }
};
