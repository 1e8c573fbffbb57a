// batch.h: a batch: whole sequences, back to back, without padding between them, in a fixed budget of tokens and of
// rows with a target; and how one is built on the host and reaches the device.
#pragma once
#include <algorithm>
#include <vector>

#include "common/device/pipeline.cuh"
#include "common/ops/dropout.cuh"
#include "common/ops/embedding.cuh"
#include "common/ops/sequences.h"

struct Batch {  // pointers into one block of memory, on the host or on the device
    int N, M;   // tokens and rows with a target, both with their padding
    StepCounters* counters;
    double* loss_scale;  // (1) 1 / (targets in the whole step): what the gradient of every loss is multiplied with
    int *tokens, *types, *pos;  // (N)
    int *rows, *targets;        // (M)
    Sequences seq;
    SortedIds by_token, by_pos, by_type;

    // All that launches depend on and that is not in device memory: batches of the same sizes can share a CUDA graph.
    // (Those after W follow from N.)
    std::vector<int> sizes() const {
        return {N, M, seq.S, seq.W, by_token.R, by_token.U, by_pos.R, by_pos.U, by_type.R, by_type.U};
    }
};

// Rounded up to a number with so many significant bits: to one of 2^(bits − 1) sizes from a power of two to the next.
constexpr size_t round_up_bits(size_t n, int bits) {
    size_t unit = 1;
    while (ceil_div(n, unit) >> bits) unit *= 2;
    return round_up(n, unit);
}

// The arrays of a batch, to write: in a Batch most of them are const.
struct BatchArrays {
    StepCounters* counters;
    double* loss_scale;                              // (1)
    int *tokens, *types, *pos;                       // (N)
    int *rows, *targets;                             // (M)
    int *seq_start, *tiles;                          // (N+1), (2, max_tiles)
    struct Ids {                                     // of SortedIds
        int *order, *run_start, *run_id, *run_slot;  // (N), (N+1), (N), (N)
        int *multi_id, *multi_slot;                  // (U), (U+1)
    } by_token, by_pos, by_type;
};

// Capacities of a run. A batch's memory has this size whatever is in it.
struct BatchShape {
    int N = 0;              // tokens
    int M = 0;              // rows with a target
    size_t bytes() const {  // of a block
        BatchArrays counted;
        return lay_out(counted, nullptr);
    }
    // of a block on the device that a training step reads: with the slots of its upload
    size_t device_bytes() const { return (1 + device::Upload::SLOTS) * bytes(); }
    int max_tiles() const { return N + N / ATTENTION_TILE + 1; }
    // Points `a` into the block at `base`. Returns the block's bytes (with base = nullptr it only counts them).
    size_t lay_out(BatchArrays& a, char* base) const {
        size_t at = 0, ids = embedding_slots(N) + 1;
        auto take = [&](size_t bytes) {
            char* p = base + at;
            at = round_up(at + bytes, 64);
            return p;
        };
        auto ints = [&](size_t n) { return (int*)take(n * sizeof(int)); };
        a.counters = (StepCounters*)take(sizeof(StepCounters));
        a.loss_scale = (double*)take(sizeof(double));
        a.tokens = ints(N);
        a.types = ints(N);
        a.pos = ints(N);
        a.rows = ints(M);
        a.targets = ints(M);
        a.seq_start = ints(N + 1);
        a.tiles = ints(2 * (size_t)max_tiles());
        for (BatchArrays::Ids* s : {&a.by_token, &a.by_pos, &a.by_type}) {
            s->order = ints(N);
            s->run_start = ints(N + 1);
            s->run_id = ints(N);
            s->run_slot = ints(N);
            s->multi_id = ints(ids);
            s->multi_slot = ints(ids + 1);
        }
        return at;
    }
};

// The batch whose arrays these are, of the same sizes as `sizes`
inline Batch view(const BatchArrays& a, const Batch& sizes) {
    Batch b = sizes;
    b.counters = a.counters;
    b.loss_scale = a.loss_scale;
    b.tokens = a.tokens;
    b.types = a.types;
    b.pos = a.pos;
    b.rows = a.rows;
    b.targets = a.targets;
    b.seq.start = a.seq_start;
    b.seq.tiles = a.tiles;
    auto point = [](SortedIds& s, const BatchArrays::Ids& ids) {
        s.order = ids.order;
        s.run_start = ids.run_start;
        s.run_id = ids.run_id;
        s.run_slot = ids.run_slot;
        s.multi_id = ids.multi_id;
        s.multi_slot = ids.multi_slot;
    };
    point(b.by_token, a.by_token);
    point(b.by_pos, a.by_pos);
    point(b.by_type, a.by_type);
    return b;
}

// Collects sequences and lays them out as a Batch in host memory. For kernels it is padded, so that there are few
// different sizes (common/README.md, "Padding").
struct BatchBuilder {
    BatchShape shape;
    int pad_id = 0, pad_length = 1;   // padding: sequences of this token, at most so long
    int pad_multiple = 0;             // tokens are padded to a multiple of this; 0: nothing is padded
    const double* weights = nullptr;  // (K) of the classes; nullptr: 1
    std::vector<int> tokens, types, rows, targets, start{0};

    // On the CPU nothing is padded.
    void set_up(const BatchShape& capacities, int padding, int padding_length, [[maybe_unused]] int multiple) {
        shape = capacities;
        pad_id = padding;
        pad_length = padding_length;
#ifdef WITH_KERNELS
        pad_multiple = multiple;
#endif
    }
    void clear() {
        tokens.clear();
        types.clear();
        rows.clear();
        targets.clear();
        start.assign(1, 0);
    }
    bool fits(size_t n, size_t m) const {
        return tokens.size() + n <= (size_t)shape.N && rows.size() + m <= (size_t)shape.M;
    }
    // What the losses of its targets are divided by, together with those of the step's other micro-batches
    double weight() const {
        if (!weights) return (double)targets.size();
        double sum = 0;
        for (int t : targets) sum += weights[t];
        return sum;
    }
    // A sequence: its tokens and types, and of those with a target the positions in it (ascending) and the targets.
    void add(const std::vector<int>& t, const std::vector<int>& ty, const std::vector<int>& positions,
             const std::vector<int>& target) {
        for (size_t i = 0; i < positions.size(); i++) {
            rows.push_back((int)tokens.size() + positions[i]);
            targets.push_back(target[i]);
        }
        tokens.insert(tokens.end(), t.begin(), t.end());
        types.insert(types.end(), ty.begin(), ty.end());
        start.push_back((int)tokens.size());
    }
    // Lays the batch out at `base` (host memory of shape.bytes()).
    Batch finish(char* base, StepCounters counters, double loss_scale) {
        if (pad_multiple) pad_tokens_and_rows();
        BatchArrays a;
        shape.lay_out(a, base);
        Batch b{};
        b.N = (int)tokens.size();
        b.M = (int)rows.size();
        b.seq.N = b.N;
        b.seq.S = (int)start.size() - 1;
        *a.counters = counters;
        *a.loss_scale = loss_scale;
        std::copy(tokens.begin(), tokens.end(), a.tokens);
        std::copy(types.begin(), types.end(), a.types);
        std::copy(rows.begin(), rows.end(), a.rows);
        std::copy(targets.begin(), targets.end(), a.targets);
        std::copy(start.begin(), start.end(), a.seq_start);
        for (int s = 0; s < b.seq.S; s++)
            for (int n = start[s]; n < start[s + 1]; n++) a.pos[n] = n - start[s];
        b.seq.W = make_tiles(a.tiles, a.seq_start, b.seq.S, std::is_same_v<real, bf16>);
        sort_ids(b.by_token, a.by_token, a.tokens, b.N);
        sort_ids(b.by_pos, a.by_pos, a.pos, b.N);
        sort_ids(b.by_type, a.by_type, a.types, b.N);
        if (pad_multiple) pad_lists(b, a);
        return view(a, b);
    }

private:
    void pad_tokens_and_rows() {
        size_t full = std::min<size_t>(round_up_bits(ceil_div(tokens.size(), pad_multiple), 5) * pad_multiple, shape.N);
        while (tokens.size() < full) {
            int n = (int)std::min<size_t>(pad_length, full - tokens.size());
            tokens.insert(tokens.end(), n, pad_id);
            types.insert(types.end(), n, 0);
            start.push_back((int)tokens.size());
        }
        full = std::min<size_t>(round_up_bits(ceil_div(rows.size(), 128), 5) * 128, shape.M);
        rows.resize(std::max(full, rows.size()), -1);
        targets.resize(rows.size(), -1);
    }
    std::vector<uint64_t> keys;
    // The index of ids(N), see embedding.cuh
    void sort_ids(SortedIds& s, BatchArrays::Ids& a, const int* ids, int N) {
        keys.resize(N);
        for (int n = 0; n < N; n++) keys[n] = (uint64_t)ids[n] << 32 | (uint32_t)n;
        std::sort(keys.begin(), keys.end());
        int slots = 0;
        s.R = s.U = 0;
        for (int i = 0, end; i < N; i = end) {
            int id = (int)(keys[i] >> 32);
            for (end = i; end < N && (int)(keys[end] >> 32) == id; end++) a.order[end] = (int)(uint32_t)keys[end];
            bool several = end - i > EMBEDDING_RUN;
            if (several) {
                a.multi_id[s.U] = id;
                a.multi_slot[s.U++] = slots;
            }
            for (int j = i; j < end; j += EMBEDDING_RUN) {
                a.run_start[s.R] = j;
                a.run_id[s.R] = id;
                a.run_slot[s.R++] = several ? slots++ : -1;
            }
        }
        a.run_start[s.R] = N;
        a.multi_slot[s.U] = slots;
    }
    // Entries that mean nothing to do, up to lengths that follow from N (W: nearly)
    void pad_lists(Batch& b, BatchArrays& a) const {
        int N = b.N;
        for (; b.seq.S < N; b.seq.S++) a.seq_start[b.seq.S + 1] = N;
        for (int W = std::min((int)round_up_bits(b.seq.W, 3), shape.max_tiles()); b.seq.W < W; b.seq.W++) {
            a.tiles[2 * b.seq.W] = -1;
            a.tiles[2 * b.seq.W + 1] = 0;
        }
        // N tokens with at most `most` different ids have at most so many runs, and so many ids with several
        auto pad_ids = [&](SortedIds& s, BatchArrays::Ids& ids, int most) {
            for (int R = std::min(N, N / EMBEDDING_RUN + most); s.R < R; s.R++) {
                ids.run_start[s.R + 1] = N;
                ids.run_id[s.R] = 0;
                ids.run_slot[s.R] = -1;
            }
            for (int U = std::min(N / (EMBEDDING_RUN + 1), most); s.U < U; s.U++) {
                ids.multi_slot[s.U + 1] = ids.multi_slot[s.U];
                ids.multi_id[s.U] = 0;
            }
        };
        pad_ids(b.by_token, a.by_token, N);
        pad_ids(b.by_pos, a.by_pos, pad_length);  // no sequence is longer
        pad_ids(b.by_type, a.by_type, 2);
    }
};

// The same batch where a copy of its block lies in device memory
inline Batch on_device(const Batch& host, const BatchShape& shape, char* device_base) {
    BatchArrays a;
    shape.lay_out(a, device_base);
    return view(a, host);
}
// Copies the block as well. For validation and inference; training has an Upload.
inline Batch to_device(const Batch& host, const BatchShape& shape, char* device_base, const char* host_base) {
    device::copy_to_device(device_base, host_base, shape.bytes());
    return on_device(host, shape, device_base);
}
