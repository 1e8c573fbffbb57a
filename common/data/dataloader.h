// dataloader.h: from .bin files to batches: whole sequences, back to back, in a fixed budget of tokens.
//
// Everything drawn at random depends on (seed, epoch, sequence, position) and nothing else: neither on the size of a
// batch nor on where a run was stopped. The loader's whole state is a Cursor of one number, so a resumed run sees the
// same batches.
#pragma once
#include <algorithm>
#include <vector>

#include "common/data/bin_file.h"
#include "common/device/pipeline.cuh"
#include "common/ops/attention.cuh"
#include "common/ops/crossentropy.cuh"
#include "common/ops/embedding.cuh"
#include "common/text/wordpiece.h"

// ---------------------------------------------------------------- batches
struct Batch {  // pointers into one block of memory, on the host or on the device
    int N, M;   // tokens and rows with a target, both with their filler
    StepCounters* counters;
    double* loss_scale;  // (1) 1 / (targets in the whole step): what the gradient of every loss is multiplied with
    int *tokens, *types, *pos;  // (N)
    int *rows, *targets;        // (M)
    Sequences seq;
    SortedIds by_token, by_pos, by_type;

    // All that launches depend on and that is not in device memory: batches of the same sizes can share a CUDA graph.
    // (Those behind W follow from N.)
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

// Capacities of a run. A batch's memory has this size whatever is in it.
struct BatchShape {
    int N = 0;  // tokens
    int M = 0;  // rows with a target
    // Lays a batch out in the block at `base`: `batch` points into it. Returns the block's bytes (nullptr: only
    // counts).
    size_t plan(Batch* batch, char* base) const {
        size_t at = 0, ids = embedding_slots(N) + 1;
        auto take = [&](size_t bytes) {
            char* p = base + at;
            at = round_up(at + bytes, 64);
            return p;
        };
        auto ints = [&](size_t n) { return (int*)take(n * sizeof(int)); };
        Batch b{};
        b.N = N;
        b.M = M;
        b.counters = (StepCounters*)take(sizeof(StepCounters));
        b.loss_scale = (double*)take(sizeof(double));
        b.tokens = ints(N);
        b.types = ints(N);
        b.pos = ints(N);
        b.rows = ints(M);
        b.targets = ints(M);
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
        if (batch) *batch = b;
        return at;
    }
    size_t bytes() const { return plan(nullptr, nullptr); }  // of a block
    // of a block on the device that a training step reads: with the slots of its upload
    size_t device_bytes() const { return (1 + device::Upload::SLOTS) * bytes(); }
    int max_tiles() const { return N + N / ATTENTION_TILE + 1; }
};

// Collects sequences and lays them out as a Batch in host memory.
//
// For kernels it is filled up, so that there are few different sizes (a CUDA graph for each). What costs time is
// rounded finely: tokens to a multiple of `fill`, rows to one of 128, and of these multiples only those with 5
// significant bits: at most 1/16 more, 1/50 on average. Fine-tuning on ragged texts then meets a dozen or two of sizes
// in thousands of batches (test_ops counts them). In pretraining `fill` is all that fits: one N (a masked LM still has
// a few M). What a list is filled up with costs a block that finds nothing to do: tiles are rounded to 3 bits, the
// sorted ids to the most that so many tokens can need.
struct BatchBuilder {
    BatchShape shape;
    int pad_id = 0, pad_length = 1;   // filler: sequences of this token, at most so long
    int fill = 0;                     // 0: nothing is filled up
    const double* weights = nullptr;  // (K) of the classes; nullptr: 1
    std::vector<int> tokens, types, rows, targets, start{0};

    void set_up(const BatchShape& capacities, int filler, int filler_length, [[maybe_unused]] int multiple) {
        shape = capacities;
        pad_id = filler;
        pad_length = filler_length;
#ifdef WITH_KERNELS
        fill = multiple;
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
    // Lays the batch out at `base` (host memory of shape.plan() bytes).
    Batch finish(char* base, StepCounters counters, double loss_scale) {
        if (fill) {
            size_t full = std::min<size_t>(round_up_bits(ceil_div(tokens.size(), fill), 5) * fill, shape.N);
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
        Batch b;
        shape.plan(&b, base);
        b.N = (int)tokens.size();
        b.M = (int)rows.size();
        *b.counters = counters;
        *b.loss_scale = loss_scale;
        std::copy(tokens.begin(), tokens.end(), b.tokens);
        std::copy(types.begin(), types.end(), b.types);
        std::copy(rows.begin(), rows.end(), b.rows);
        std::copy(targets.begin(), targets.end(), b.targets);
        b.seq.N = b.N;
        b.seq.S = (int)start.size() - 1;
        std::copy(start.begin(), start.end(), (int*)b.seq.start);
        for (int s = 0; s < b.seq.S; s++)
            for (int n = start[s]; n < start[s + 1]; n++) b.pos[n] = n - start[s];
        b.seq.W = make_tiles((int*)b.seq.tiles, b.seq.start, b.seq.S, std::is_same_v<real, bf16>);
        sort_ids(b.by_token, b.tokens, b.N);
        sort_ids(b.by_pos, b.pos, b.N);
        sort_ids(b.by_type, b.types, b.N);
        if (fill) fill_lists(b);
        return b;
    }

private:
    std::vector<uint64_t> keys;
    void sort_ids(SortedIds& s, const int* ids, int N) {  // see embedding.cuh
        keys.resize(N);
        for (int n = 0; n < N; n++) keys[n] = (uint64_t)ids[n] << 32 | (uint32_t)n;
        std::sort(keys.begin(), keys.end());
        int *order = (int*)s.order, *run_start = (int*)s.run_start, *run_id = (int*)s.run_id,
            *run_slot = (int*)s.run_slot;
        int *multi_id = (int*)s.multi_id, *multi_slot = (int*)s.multi_slot;
        int slots = 0;
        s.R = s.U = 0;
        for (int i = 0, end; i < N; i = end) {
            int id = (int)(keys[i] >> 32);
            for (end = i; end < N && (int)(keys[end] >> 32) == id; end++) order[end] = (int)(uint32_t)keys[end];
            bool several = end - i > EMBEDDING_RUN;
            if (several) {
                multi_id[s.U] = id;
                multi_slot[s.U++] = slots;
            }
            for (int j = i; j < end; j += EMBEDDING_RUN) {
                run_start[s.R] = j;
                run_id[s.R] = id;
                run_slot[s.R++] = several ? slots++ : -1;
            }
        }
        run_start[s.R] = N;
        multi_slot[s.U] = slots;
    }
    // Entries that mean nothing to do, up to lengths that follow from N (W: nearly)
    void fill_lists(Batch& b) {
        int N = b.N;
        int *seq_start = (int*)b.seq.start, *tiles = (int*)b.seq.tiles;
        for (; b.seq.S < N; b.seq.S++) seq_start[b.seq.S + 1] = N;
        for (int W = std::min((int)round_up_bits(b.seq.W, 3), shape.max_tiles()); b.seq.W < W; b.seq.W++) {
            tiles[2 * b.seq.W] = -1;
            tiles[2 * b.seq.W + 1] = 0;
        }
        // N tokens with at most `ids` different ids have at most so many runs, and so many ids with several
        auto fill_ids = [&](SortedIds& s, int ids) {
            int *run_start = (int*)s.run_start, *run_id = (int*)s.run_id, *run_slot = (int*)s.run_slot,
                *multi_id = (int*)s.multi_id, *multi_slot = (int*)s.multi_slot;
            for (int R = std::min(N, N / EMBEDDING_RUN + ids); s.R < R; s.R++) {
                run_start[s.R + 1] = N;
                run_id[s.R] = 0;
                run_slot[s.R] = -1;
            }
            for (int U = std::min(N / (EMBEDDING_RUN + 1), ids); s.U < U; s.U++) {
                multi_slot[s.U + 1] = multi_slot[s.U];
                multi_id[s.U] = 0;
            }
        };
        fill_ids(b.by_token, N);
        fill_ids(b.by_pos, pad_length);  // no sequence is longer
        fill_ids(b.by_type, 2);
    }
};

// The same batch where a copy of its block lies in device memory
inline Batch on_device(const Batch& host, const BatchShape& shape, char* device_base) {
    Batch b;
    shape.plan(&b, device_base);
    b.N = host.N;
    b.M = host.M;
    b.seq.N = host.seq.N;
    b.seq.S = host.seq.S;
    b.seq.W = host.seq.W;
    b.by_token.R = host.by_token.R;
    b.by_token.U = host.by_token.U;
    b.by_pos.R = host.by_pos.R;
    b.by_pos.U = host.by_pos.U;
    b.by_type.R = host.by_type.R;
    b.by_type.U = host.by_type.U;
    return b;
}
// Copies the block as well. For validation and questions; training has an Upload.
inline Batch to_device(const Batch& host, const BatchShape& shape, char* device_base, const char* host_base) {
    device::copy_to_device(device_base, host_base, shape.bytes());
    return on_device(host, shape, device_base);
}

// ---------------------------------------------------------------- masked-LM sequences
// A document's tokens in pieces, each a sequence of at most T tokens, never across documents. Pieces alternate between
//   [CLS] A [SEP]           T − 2 tokens of text
//   [CLS] A [SEP] B [SEP]   T − 3 tokens of text, B follows A, types 0 and 1, the cut drawn anew in every epoch
// beginning with the one or the other by the document's number. In each, max(1, round(rate · n)) of the n tokens of
// text that are no special tokens become targets (Devlin et al. 2018): 80 % are replaced by [MASK], 10 % by any id of
// the vocabulary, 10 % stay.
struct MaskedLmData {
    const BinFile& file;
    int T, V, cls, sep, mask, pad;
    double rate = 0.15;
    uint64_t seed = 0;
    bool whole_words = false;                            // all pieces of a word are chosen together (needs `continues`)
    std::vector<char> continues;                         // (V) is this id a continuation piece (##…)?
    std::vector<uint64_t> first;                         // (documents + 1) number of the first piece of each document
    std::vector<int> tokens, types, positions, targets;  // the sequence that make() made
    std::vector<std::pair<uint64_t, int>> drawn;

    MaskedLmData(const BinFile& file, int T, int V, const WordPiece& words)
        : file(file), T(T), V(V), cls(words.cls()), sep(words.sep()), mask(words.mask()), pad(words.pad()) {
        if (T < 5) fail_usage("--max-len: expected at least 5, found %d", T);
        first.assign(1, 0);
        for (uint64_t d = 0; d < file.sequences(); d++) first.push_back(first.back() + pieces(d, file.length(d)));
        if (first.back() == 0) fail("%s: it has no tokens to train on", file.path.c_str());
    }
    uint64_t sequences() const { return first.back(); }
    // Piece k of document d begins at token begin(d, k): two neighbouring pieces hold 2T − 5 tokens.
    uint64_t begin(uint64_t d, uint64_t k) const {
        return k / 2 * (2 * (uint64_t)T - 5) + (k % 2 ? (d % 2 ? T - 3 : T - 2) : 0);
    }
    uint64_t pieces(uint64_t d, uint64_t n) const {
        uint64_t k = n / (2 * (uint64_t)T - 5) * 2;
        while (begin(d, k) < n) k++;
        return k;
    }
    // Makes sequence q of an epoch in tokens, types, positions, targets.
    void make(uint64_t epoch, uint64_t q) {
        uint64_t d = std::upper_bound(first.begin(), first.end(), q) - first.begin() - 1, k = q - first[d];
        uint64_t from = begin(d, k), to = std::min(begin(d, k + 1), file.length(d)), n = to - from;
        uint64_t key = mix64(seed, epoch, q);
        bool pair = (k + d) % 2 && n > 1;
        uint64_t cut = pair ? 1 + below(mix64(key, 1), n - 1) : n;  // tokens of A
        tokens.assign(1, cls);
        types.assign(1, 0);
        positions.clear();
        targets.clear();
        drawn.clear();
        for (uint64_t i = 0; i < n; i++) {
            if (i == cut) {
                tokens.push_back(sep);
                types.push_back(0);
            }
            int p = (int)tokens.size(), id = file.token(d, from + i);
            tokens.push_back(id);
            types.push_back(i >= cut);
            if (id == cls || id == sep || id == mask || id == pad) continue;  // written in the text: nothing to guess
            if (whole_words && !drawn.empty() && i != cut && continues[id])
                drawn.push_back({drawn.back().first, p});  // its word's draw
            else
                drawn.push_back({mix64(key, 2, p), p});
        }
        tokens.push_back(sep);
        types.push_back(pair);
        if (!drawn.empty()) choose(key, std::max(1, (int)lround(rate * (double)drawn.size())));
    }

private:
    // The positions with the smallest draws become targets; of whole words, those that still fit (at least one word).
    void choose(uint64_t key, int want) {
        if (!whole_words) {
            std::nth_element(drawn.begin(), drawn.begin() + want - 1, drawn.end());
            drawn.resize(want);
        } else {
            std::sort(drawn.begin(), drawn.end());
            size_t kept = 0;
            for (size_t i = 0, end; i < drawn.size() && (int)kept < want; i = end) {
                for (end = i; end < drawn.size() && drawn[end].first == drawn[i].first; end++) {}
                if (kept > 0 && kept + (end - i) > (size_t)want) continue;
                for (size_t j = i; j < end; j++) drawn[kept++] = drawn[j];
            }
            drawn.resize(kept);
        }
        std::sort(drawn.begin(), drawn.end(), [](auto& a, auto& b) { return a.second < b.second; });
        for (auto& [draw, p] : drawn) {
            positions.push_back(p);
            targets.push_back(tokens[p]);
            double u = uniform(mix64(key, 3, p));
            if (u < 0.8)
                tokens[p] = mask;
            else if (u < 0.9)
                tokens[p] = (int)below(mix64(key, 4, p), V);
        }
    }
};

// ---------------------------------------------------------------- windows of text
// A document d0 … d(n−1) is read as <|endoftext|> d0 … d(n−1), and every token predicts the next one, the last token
// <|endoftext|>: n + 1 tokens with n + 1 targets. A sequence is a window of at most T of them, and the target of its
// last token is the token that follows in the document. In training the windows of a document that is longer than T
// begin at an offset drawn anew in every epoch, so that no token is always the first of its window; validation cuts at
// multiples of T.
struct CausalLmData {
    const BinFile& file;
    int T, eot;
    uint64_t seed = 0;
    bool draw_offsets = false;
    std::vector<uint64_t> first;                         // (documents + 1) number of the first window of each document
    std::vector<int> tokens, types, positions, targets;  // the sequence that make() made

    CausalLmData(const BinFile& file, int T, int eot) : file(file), T(T), eot(eot) {
        first.assign(1, 0);
        for (uint64_t d = 0; d < file.sequences(); d++) first.push_back(first.back() + windows(file.length(d) + 1));
        if (first.back() == 0) fail("%s: it has no tokens to train on", file.path.c_str());
    }
    uint64_t sequences() const { return first.back(); }
    // Of a document of n tokens with its <|endoftext|>; an empty document has none. A drawn offset makes one more, and
    // its last one may then be empty.
    uint64_t windows(uint64_t n) const { return n <= 1 ? 0 : n <= (uint64_t)T ? 1 : ceil_div(n, T) + 1; }
    // Makes sequence q of an epoch in tokens, types, positions, targets.
    void make(uint64_t epoch, uint64_t q) {
        uint64_t d = std::upper_bound(first.begin(), first.end(), q) - first.begin() - 1, k = q - first[d],
                 n = file.length(d) + 1;
        uint64_t head = draw_offsets ? 1 + below(mix64(seed, epoch, d), T)
                                     : T;  // tokens of the document's first window
        uint64_t from = k == 0 ? 0 : std::min(n, head + (k - 1) * T),
                 to = first[d + 1] - first[d] == 1 ? n : std::min(n, head + k * T);
        tokens.clear();
        targets.clear();
        for (uint64_t i = from; i < to; i++) {
            tokens.push_back(i == 0 ? eot : file.token(d, i - 1));
            targets.push_back(i + 1 == n ? eot : file.token(d, i));
        }
        types.assign(tokens.size(), 0);
        positions.resize(tokens.size());
        for (size_t i = 0; i < positions.size(); i++) positions[i] = (int)i;
    }
};

// ---------------------------------------------------------------- order
// Position in an endless stream of epochs: sequence `next % sequences` of epoch `next / sequences`, shuffled anew in
// each epoch.
struct Cursor {
    uint64_t next = 0;
};

// Fills the builder with whole sequences from the cursor on, until the next one does not fit. `shuffle` false: in file
// order. Stops before `end` (a count of sequences since the start of epoch 0). Returns the number of sequences taken.
template <class Data>
int fill_batch(BatchBuilder& builder, Data& data, Cursor& cursor, uint64_t seed, bool shuffle,
               uint64_t end = UINT64_MAX) {
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
        fail_usage(
            "--batch-tokens: a sequence of %zu tokens with %zu targets does not fit into %d tokens and %d targets",
            data.tokens.size(), data.targets.size(), builder.shape.N, builder.shape.M);
    return taken;
}
