// identity.h: do data, tokenizer and model belong together? And what says that a resumed run is the same run: sizes of
// the model, fingerprints of data and tokenizer. A Task's identity() is compared by restore_run().
#pragma once
#include "common/base/hash.h"
#include "common/data/bin_file.h"
#include "common/train/console.h"

// Fails if the tokenizer of `dir` has ids that a model of vocabulary V does not know.
inline void check_vocabulary(const std::string& dir, size_t tokens, int64_t V) {
    if ((int64_t)tokens > V)
        fail("%s: the tokenizer has %zu tokens, the model's vocabulary %lld", dir.c_str(), tokens, (long long)V);
}
// Pretraining: a file of --data beside its tokenizer
template <class Tokenizer> void check_text(const BinFile& file, const Tokenizer& tokenizer, const std::string& data) {
    file.require_tokenizer(tokenizer.fingerprint(), data);
    if (file.vocab() != tokenizer.tokens.size())
        fail("%s: expected a vocabulary of %zu tokens, as %s has, found %zu: the file is damaged, pack it again",
             file.path.c_str(), tokenizer.tokens.size(), data.c_str(), file.vocab());
}
// Pretraining: the model to start from, of vocabulary V, beside the tokenizer of --data
template <class Tokenizer>
void check_init(const std::string& init, int64_t V, const Tokenizer& tokenizer, const std::string& data) {
    if ((int64_t)tokenizer.tokens.size() > V)
        fail(
            "%s: its vocabulary has %lld tokens, that of %s %zu: pack the data with the model's tokenizer (--tokenizer "
            "%s)",
            init.c_str(), (long long)V, data.c_str(), tokenizer.tokens.size(), init.c_str());
    if (Tokenizer::load(init).fingerprint() != tokenizer.fingerprint())
        fail("%s: %s was packed with another tokenizer: make it again with --tokenizer %s", init.c_str(), data.c_str(),
             init.c_str());
}

// What of a model may not change in a resumed run
template <class Config> Json model_identity(const Config& c) {
    return Json::make_object()
        .set("precision", precision())
        .set("V", c.V)
        .set("T", c.T)
        .set("L", c.L)
        .set("C", c.C)
        .set("NH", c.NH)
        .set("FF", c.FF);
}
template <class Config>
Json pretraining_identity(const Config& c, uint64_t tokenizer, const BinFile& train, const BinFile& val) {
    return model_identity(c)
        .set("tokenizer", hex(tokenizer))
        .set("train_tokens", (int64_t)train.tokens())
        .set("train_documents", (int64_t)train.sequences())
        .set("train_data", hex(train.header.content))
        .set("val_data", hex(val.header.content));
}
