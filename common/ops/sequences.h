// sequences.h: where the sequences of a batch lie, and the list of tiles that the attention kernels work off.
#pragma once
#include <algorithm>
#include <vector>

constexpr int ATTENTION_TILE = 128;  // queries of one entry of the work list, at most

// The keys that query i sees of its sequence: from i − before to i + after
struct Reach {
    int before, after;
};
constexpr Reach ALL_KEYS = {1 << 30, 1 << 30}, CAUSAL = {1 << 30, 0};

// The sequences of a batch; arrays in device memory. Unused capacity is padded with entries that mean nothing to do.
struct Sequences {
    int* start;  // (S+1)  sequence s is tokens [start[s], start[s+1])
    int* tiles;  // (W, 2) work list, an entry being one of
                 //   sequence, first query of the tile counted from the sequence's start
                 //   first sequence, −count: so many whole sequences, of at most one tile together
                 //   −1, 0: nothing to do
    int S, W;
    int N;  // tokens
};

// Writes the work list, returns W. With `group` neighbours that fit into a tile share one (the bf16 kernels can do
// that): a batch of tweets would otherwise be blocks with nothing to do but to start. A GPU starts blocks in the order
// of the list, so what takes longest comes first: long sequences before short ones, and of a sequence the last tile
// first, which in a causal model sees most keys. What starts last, and keeps the GPU waiting at the end, is then short.
// Tiles of a sequence stay together: its keys and values are read from memory once, then from the cache.
inline int make_tiles(int* tiles, const int* start, int S, bool group) {
    struct Run {
        int s, count, len;
    };
    std::vector<Run> runs;
    for (int s = 0; s < S; s++) {
        int len = start[s + 1] - start[s];
        Run* last = runs.empty() ? nullptr : &runs.back();
        if (group && last && last->s + last->count == s && last->len + len <= ATTENTION_TILE) {
            last->count++;
            last->len += len;
        } else if (len > 0) {
            runs.push_back({s, 1, len});
        }
    }
    std::stable_sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.len > b.len; });
    int W = 0;
    auto add = [&](int s, int i) {
        tiles[2 * W] = s;
        tiles[2 * W + 1] = i;
        W++;
    };
    for (const Run& r : runs)
        if (r.count > 1) add(r.s, -r.count);
        else
            for (int i = (r.len - 1) / ATTENTION_TILE * ATTENTION_TILE; i >= 0; i -= ATTENTION_TILE) add(r.s, i);
    return W;
}
