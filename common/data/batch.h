// batch.h: a batch: whole sequences, back to back, without padding between them, in a fixed budget of tokens and of
// rows with a target; how one is built on the host and reaches the device; and which sequences come next.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "common/base/rng.h"
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

// Tokens of a batch that has room for n; more than any memory holds count as 2³⁰.
inline int batch_tokens(int64_t n) { return (int)std::min<int64_t>(round_up(n, 128), 1 << 30); }
// Capacities of a run. A batch's memory has this size whatever is in it.
struct BatchShape {
    int N = 0;              // tokens
    int M = 0;              // rows with a target
    size_t bytes() const {  // of a block
        Batch counted;
        return lay_out(counted, nullptr);
    }
    int max_tiles() const { return N + N / ATTENTION_TILE + 1; }
    // Points the arrays of `b` into the block at `base`. Returns the block's bytes (base = nullptr: only counts them).
    size_t lay_out(Batch& b, char* base) const {
        size_t at = 0, ids = embedding_slots(N) + 1;
        auto take = [&](size_t bytes) {
            char* p = base + at;
            at = round_up(at + bytes, 64);
            return p;
        };
        auto ints = [&](size_t n) { return (int*)take(n * sizeof(int)); };
        b.counters = (StepCounters*)take(sizeof(StepCounters));
        b.loss_scale = (double*)take(sizeof(double));
        for (int** list : {&b.tokens, &b.types, &b.pos}) *list = ints(N);
        for (int** list : {&b.rows, &b.targets}) *list = ints(M);
        b.seq.start = ints(N + 1);
        b.seq.tiles = ints(2 * (size_t)max_tiles());
        for (SortedIds* s : {&b.by_token, &b.by_pos, &b.by_type}) {
            s->order = ints(N);
            s->run_start = ints(N + 1);
            s->run_id = ints(N);
            s->run_slot = ints(N);
            s->multi_id = ints(ids);
            s->multi_slot = ints(ids + 1);
        }
        return at;
    }
    // The batch, laid out on the host, where a copy of its block lies in device memory
    Batch on_device(Batch b, char* base) const {
        lay_out(b, base);
        return b;
    }
};

// Collects sequences and lays them out as a Batch in host memory. For kernels it is padded, so that there are few
// different sizes (dev/kernels.md, "Padding").
struct BatchBuilder {
    BatchShape shape;
    int pad_id = 0, pad_length = 1;   // padding: sequences of this token, at most so long
    int pad_multiple = 0;             // tokens are padded to a multiple of this; 0: nothing is padded
    int last_type = 1;                // of the model: what has a higher type gets this one
    const double* weights = nullptr;  // (K) of the classes; nullptr: 1
    std::vector<int> tokens, types, rows, targets, start{0};

    // On the CPU nothing is padded. multiple 0: of all that fits, so that every batch has the same size
    void set_up(const BatchShape& capacities, int padding, int padding_length, int multiple = 0) {
        shape = capacities;
        pad_id = padding;
        pad_length = padding_length;
        pad_multiple = device_is_host ? 0 : multiple ? multiple : shape.N;
    }
    void clear() {
        for (std::vector<int>* list : {&tokens, &types, &rows, &targets}) list->clear();
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
        for (int type : ty) types.push_back(std::min(type, last_type));
        start.push_back((int)tokens.size());
    }
    // Lays the batch out at `base` (host memory of shape.bytes()).
    Batch finish(char* base, StepCounters counters, double loss_scale) {
        if (pad_multiple) pad_tokens_and_rows();
        Batch b{};
        shape.lay_out(b, base);
        b.N = (int)tokens.size();
        b.M = (int)rows.size();
        b.seq.N = b.N;
        b.seq.S = (int)start.size() - 1;
        *b.counters = counters;
        *b.loss_scale = loss_scale;
        const std::vector<int>* lists[] = {&tokens, &types, &rows, &targets, &start};
        int* copies[] = {b.tokens, b.types, b.rows, b.targets, b.seq.start};
        for (int i = 0; i < 5; i++) std::copy(lists[i]->begin(), lists[i]->end(), copies[i]);
        for (int s = 0; s < b.seq.S; s++)
            for (int n = start[s]; n < start[s + 1]; n++) b.pos[n] = n - start[s];
        b.seq.W = make_tiles(b.seq.tiles, b.seq.start, b.seq.S, std::is_same_v<real, bf16>);
        sort_ids(b.by_token, b.tokens, b.N);
        sort_ids(b.by_pos, b.pos, b.N);
        sort_ids(b.by_type, b.types, b.N);
        if (pad_multiple) pad_lists(b);
        return b;
    }
    // Copies it to `block` in device memory as well: for validation and inference. Training has an Upload.
    Batch send(char* block) {
        host->resize(shape.bytes());
        const Batch b = finish(host->data(), StepCounters{}, 1);
        device::copy_to_device(block, host->data(), host->size());
        return shape.on_device(b, block);
    }

private:
    std::shared_ptr<std::vector<char>> host = std::make_shared<std::vector<char>>();  // a block; copies share it
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
    void sort_ids(SortedIds& s, const int* ids, int N) {
        keys.resize(N);
        for (int n = 0; n < N; n++) keys[n] = (uint64_t)ids[n] << 32 | (uint32_t)n;
        std::sort(keys.begin(), keys.end());
        int slots = 0;
        s.R = s.U = 0;
        for (int i = 0, end; i < N; i = end) {
            int id = (int)(keys[i] >> 32);
            for (end = i; end < N && (int)(keys[end] >> 32) == id; end++) s.order[end] = (int)(uint32_t)keys[end];
            bool several = end - i > EMBEDDING_RUN;
            if (several) {
                s.multi_id[s.U] = id;
                s.multi_slot[s.U++] = slots;
            }
            for (int j = i; j < end; j += EMBEDDING_RUN) {
                s.run_start[s.R] = j;
                s.run_id[s.R] = id;
                s.run_slot[s.R++] = several ? slots++ : -1;
            }
        }
        s.run_start[s.R] = N;
        s.multi_slot[s.U] = slots;
    }
    // Entries that mean nothing to do, up to lengths that follow from N (W: nearly)
    void pad_lists(Batch& b) const {
        int N = b.N;
        for (; b.seq.S < N; b.seq.S++) b.seq.start[b.seq.S + 1] = N;
        for (int W = std::min((int)round_up_bits(b.seq.W, 3), shape.max_tiles()); b.seq.W < W; b.seq.W++) {
            b.seq.tiles[2 * b.seq.W] = -1;
            b.seq.tiles[2 * b.seq.W + 1] = 0;
        }
        // N tokens with at most `most` different ids have at most so many runs, and so many ids with several
        auto pad_ids = [&](SortedIds& s, int most) {
            for (int R = std::min(N, N / EMBEDDING_RUN + most); s.R < R; s.R++) {
                s.run_start[s.R + 1] = N;
                s.run_id[s.R] = 0;
                s.run_slot[s.R] = -1;
            }
            for (int U = std::min(N / (EMBEDDING_RUN + 1), most); s.U < U; s.U++) {
                s.multi_slot[s.U + 1] = s.multi_slot[s.U];
                s.multi_id[s.U] = 0;
            }
        };
        pad_ids(b.by_token, N);
        pad_ids(b.by_pos, pad_length);  // no sequence is longer
        pad_ids(b.by_type, 2);
    }
};

// ---------------------------------------------------------------- which sequences come next
// Position in an endless stream of shuffled epochs: sequence `next % sequences` of epoch `next / sequences`. Whatever
// is drawn depends on (seed, epoch, sequence, position), not on the size of a batch or where a run was stopped: a
// Cursor is its whole state.
struct Cursor {
    uint64_t next = 0;
};

// Fills the builder with whole sequences from the cursor on, until the next one does not fit. `shuffle` false: in file
// order. Stops before `end` (a count of sequences since the start of epoch 0). Returns the number of sequences taken.
template <class Data> int fill_batch(
    BatchBuilder& builder, Data& data, Cursor& cursor, uint64_t seed, bool shuffle, uint64_t end = UINT64_MAX) {
    data.file.require_unchanged();
    builder.clear();
    uint64_t n = data.sequences();
    int taken = 0;
    for (; cursor.next < end; cursor.next++, taken++) {
        uint64_t epoch = cursor.next / n, i = cursor.next % n;
        data.make(epoch, shuffle ? Permutation(n, mix64(seed, epoch))(i) : i);
        if (data.tokens.empty()) continue;  // an empty window (CausalLmData)
        if (!builder.fits(data.tokens.size(), data.targets.size())) break;
        builder.add(data.tokens, data.types, data.positions, data.targets);
    }
    if (taken == 0 && cursor.next < end)
        fail_usage("a sequence of %zu tokens, %zu targets, does not fit into a batch of %d and %d: lower --max-len",
            data.tokens.size(), data.targets.size(), builder.shape.N, builder.shape.M);
    return taken;
}
