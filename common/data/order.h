// order.h: which sequences come next: an endless stream of shuffled epochs, taken into batches.
//
// Everything drawn at random depends on (seed, epoch, sequence, position) and nothing else: neither on the size of a
// batch nor on where a run was stopped. The whole state is a Cursor of one number, so a resumed run sees the same
// batches.
#pragma once
#include "common/base/errors.h"
#include "common/base/rng.h"
#include "common/data/batch.h"

// Position in an endless stream of epochs: sequence `next % sequences` of epoch `next / sequences`, in another order
// in each epoch.
struct Cursor {
    uint64_t next = 0;
};

// Fills the builder with whole sequences from the cursor on, until the next one does not fit. `shuffle` false: in file
// order. Stops before `end` (a count of sequences since the start of epoch 0). Returns the number of sequences taken.
template <class Data> int fill_batch(
    BatchBuilder& builder, Data& data, Cursor& cursor, uint64_t seed, bool shuffle, uint64_t end = UINT64_MAX) {
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
