// sequences.h: where the sequences of a batch lie, and the list of tiles that the attention kernels work off.
#pragma once
#include <algorithm>

#include "common.h"

constexpr int ATTENTION_TILE = 128;  // queries of one entry of the work list

// The sequences of a batch; arrays in device memory. Unused capacity is filled up with entries that mean nothing to do.
struct Sequences {
    const int* start;  // (S+1)  sequence s is tokens [start[s], start[s+1])
    const int* tiles;  // (W, 2) work list: sequence, first query of the tile counted from the sequence's start; sequence −1: nothing
    int S, W;
    int N;             // tokens
};

// Writes the work list, returns W. A GPU starts blocks in the order of the list, so what takes longest comes first: long sequences before
// short ones, and of a sequence the last tile first, which in a causal model sees most keys. What starts last, and keeps the GPU waiting at
// the end, is then short. Tiles of a sequence stay together: its keys and values are read from memory once and then from the cache.
inline int make_tiles(int* tiles, const int* start, int S) {
    std::vector<int> order(S);
    for (int s = 0; s < S; s++) order[s] = s;
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return start[a + 1] - start[a] > start[b + 1] - start[b]; });
    int W = 0;
    for (int s : order)
        for (int i = (int)round_up(start[s + 1] - start[s], ATTENTION_TILE) - ATTENTION_TILE; i >= 0; i -= ATTENTION_TILE, W++)
            tiles[2 * W] = s, tiles[2 * W + 1] = i;
    return W;
}
