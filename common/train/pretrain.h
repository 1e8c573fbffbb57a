// pretrain.h: what the two pretraining programs do alike, from the files of --data to train(). The models are theirs.
#pragma once
#include "common/data/bin_file.h"
#include "common/train/loop.h"
#include "common/train/memory.h"

// The files of --data: text for training and validation, and the tokenizer that packed both.
template <class Tokenizer> struct PretrainData {
    BinFile train, val;
    Tokenizer tokenizer;

    explicit PretrainData(const std::string& dir)
        : train(dir + "/train.bin"), val(dir + "/val.bin"), tokenizer(Tokenizer::load(dir)) {
        for (const BinFile* file : {&train, &val}) {
            file->require_tokenizer(tokenizer.fingerprint(), dir);
            if (file->vocab() != tokenizer.tokens.size())
                fail(
                    "%s: expected a vocabulary of %zu tokens, as %s has, found %zu: the file is damaged, pack it again",
                    file->path.c_str(), tokenizer.tokens.size(), dir.c_str(), file->vocab());
        }
    }
};

// The model directory that a run starts with or continues from, and whose dimensions it has; "": it starts from scratch
inline std::string starting_model(Cli& cli, const TrainFlags& f) {
    if (f.resume) return resolve_model_dir(f.out + "/last");
    if (f.init.empty()) return "";
    std::string dir = resolve_model_dir(f.init);
    ModelFlags::refuse_with_init(cli);
    return dir;
}

// The model to start from, of vocabulary V, beside the tokenizer of --data
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

// The part of a pretraining Task (loop.h) that does not depend on the model. Windows: MaskedLmData or CausalLmData.
template <class Model, class Windows, class Tokenizer> struct PretrainTask : RunTask<Model> {
    const PretrainData<Tokenizer>& data;
    Windows train_data, val_data;
    uint64_t val_sequences;         // how many of val_data are validated on
    int end_token = -1;             // a token that follows every document; −1: none does
    std::vector<std::string> head;  // prefixes of the tensors that a model may lack

    // more: of Windows, after the file
    template <class... More> PretrainTask(const TrainFlags& f, const PretrainData<Tokenizer>& data, const More&... more)
        : RunTask<Model>{f}, data(data), train_data(data.train, more...), val_data(data.val, more...) {
        train_data.seed = f.seed;
        val_sequences = validation_sequences(val_data, f.eval_tokens);
    }
    int fill(BatchBuilder& b, Cursor& cursor) { return fill_batch(b, train_data, cursor, this->f.seed, true); }
    Json identity() const {
        Json all = model_identity(this->model.config).set("tokenizer", hex(data.tokenizer.fingerprint()));
        all.set("train_tokens", (int64_t)data.train.tokens()).set("train_documents", (int64_t)data.train.sequences());
        return all.set("train_data", hex(data.train.header.content)).set("val_data", hex(data.val.header.content));
    }
};

// Gets the memory, makes the initial values or loads those of `init`, says what the data is, and trains. From its task
// it wants, beside what train() wants:
//   BatchShape shape_for(int64_t tokens)           of batches with that --batch-tokens
//   double tokens_per_epoch()                      with those that are added to the text
//   std::string sequences()                        "windows", or how many there are, for the console
template <class Task> int pretrain(Task& task, Cli& cli, TrainFlags& f, const std::string& init, int64_t max_len,
    int64_t sample_every = 0, const std::function<void(int64_t)>& sample = nullptr) {
    double tokens_per_step = (double)(f.batch_tokens * f.accum), tokens_per_epoch = task.tokens_per_epoch();
    if (f.epochs > 0) f.steps = std::max<int64_t>(1, llround(f.epochs * tokens_per_epoch / tokens_per_step));

    if (!init.empty()) check_tensors(init, task.opt.table, task.head);
    print_machine(cli.program.c_str());
    print_parameters(task.opt.table, f.verbose);
    Arena arena(allocate_run(task, "--batch-tokens", f.batch_tokens, 128, 1 << 22));
    task.plan(arena);
    task.model.point(task.opt.params, task.opt.grads);
    task.host.resize(task.shape.bytes());

    if (!f.resume) {
        std::vector<areal> values = initial_values(task.opt.table, task.opt.n, f.seed);
        if (!init.empty()) load_tensors(init, task.opt.table, values.data()).announce(init, task.head);
        task.opt.upload(values);
    }
    const BinFile &train_file = task.data.train, &val_file = task.data.val;
    double unigram = unigram_baseline(
        train_file, task.end_token, task.model.config.V, task.val_data, task.val_sequences);
    printf("data: %s tokens in %s documents for training, %s for validation; %s of at most %lld tokens\n",
        thousands((double)train_file.tokens()).c_str(), thousands((double)train_file.sequences()).c_str(),
        thousands((double)val_file.tokens()).c_str(), task.sequences().c_str(), (long long)max_len);
    printf("%lld steps of %lld x %lld tokens: %.2f epochs. The unigram baseline has a validation loss of %.4f\n",
        (long long)f.steps, (long long)f.accum, (long long)f.batch_tokens,
        (double)f.steps * tokens_per_step / tokens_per_epoch, unigram);
    return train(task, cli, f, unigram, sample_every, sample);
}
