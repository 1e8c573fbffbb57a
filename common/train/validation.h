// validation.h: the loss on validation data, and the unigram baseline that it is compared with.
#pragma once
#include <functional>
#include <numeric>

#include "common/data/batch.h"
#include "common/data/bin_file.h"
#include "common/ops/crossentropy.cuh"

struct Eval {
    double loss = 0, accuracy = 0;  // means over `targets`
    double sum = 0;                 // of the losses
    uint64_t targets = 0;           // 0: there is nothing to validate on, and the last model is the one to take
    double score = 0;               // the best model has the largest one; among equals, the smallest loss

    std::string name = "validation";     // what it is called on the console
    std::string report;                  // for the console, without a line's end
    std::string table;                   // below it, if there is one, with its line ends
    Json numbers = Json::make_object();  // more keys for metrics.jsonl
};

// Which sequence of the validation data is the i-th: a random order that never changes, fill_batch()'s with seed 0
template <class Data> uint64_t validation_order(const Data& data, uint64_t i) {
    return Permutation(data.sequences(), mix64(0, 0))(i);
}

// How many sequences are validated on: the first ones in that order that hold `tokens` tokens together (0: all).
template <class Data> uint64_t validation_sequences(Data& data, int64_t tokens) {
    uint64_t count = 0;
    for (double sum = 0; count < data.sequences() && (tokens == 0 || sum < (double)tokens); count++) {
        data.make(0, validation_order(data, count));
        sum += (double)data.tokens.size();
    }
    return count;
}

// A task's mean loss over the first `sequences` in that order, without dropout; on_batch(targets) hears of each batch.
template <class Task, class Data> Eval mean_loss(Task& task, Data& data, uint64_t sequences,
    const std::function<void(const std::vector<int>&)>& on_batch = nullptr) {
    NoDropout inference(task.model.dropout);
    device::device_zero(task.opt.stats, sizeof(StepStats));
    Eval e;
    Cursor cursor;
    while (cursor.next < sequences) {
        fill_batch(task.builder, data, cursor, 0, true, sequences);
        e.targets += task.builder.targets.size();
        if (on_batch) on_batch(task.builder.targets);
        task.model.forward(task.builder.send(task.block), task.opt.stats);
    }
    StepStats stats;
    device::copy_to_host(&stats, task.opt.stats, sizeof stats);
    e.sum = stats.loss;
    e.loss = stats.loss / (double)e.targets;
    e.accuracy = stats.correct / (double)e.targets;
    e.score = -e.loss;
    return e;
}

// The unigram baseline: the mean loss on the validation's targets of a model that predicts every token as often as it
// occurs in the training data, whatever the context. end: a token that follows every document; -1: none does
template <class Data> double unigram_baseline(const BinFile& train, int end, int64_t V, Data& val, uint64_t sequences) {
    std::vector<double> count(V, 1.0);  // add-one smoothing
    double loss = 0, targets = 0;
    size_t limit = 20000000;  // tokens to count: enough for the estimate
    for (size_t d = 0; d < train.sequences() && limit > 0; d++) {
        for (size_t i = 0; i < train.length(d) && limit > 0; i++, limit--) count[train.token(d, i)]++;
        if (end >= 0) count[end]++;
    }
    const double total = std::accumulate(count.begin(), count.end(), 0.0);
    for (uint64_t q = 0; q < sequences; q++) {
        val.make(0, validation_order(val, q));
        for (int t : val.targets) loss -= log(count[t] / total);
        targets += (double)val.targets.size();
    }
    return loss / targets;
}
