// loop.h: the training loop, which all programs share: load or resume; for each step collect micro-batches, accumulate
// their gradients, update; report, validate, save.
//
// What differs from program to program is its Task:
//
//   Optimizer opt                   the parameters
//   BatchShape shape; char* block   capacities of a micro-batch, and its place in device memory
//   BatchBuilder builder            an empty one, which knows the shape and how to pad
//   int fill(BatchBuilder&, Cursor&)                      collects the next micro-batch; returns its sequences
//   void forward_backward(const Batch&, StepStats*)       adds to the gradients, and to the sums of the step
//   double flops(tokens, targets, mean_length)            work of so many tokens, forward and backward
//   Eval evaluate()                                       on the validation data
//   void save_model(const std::string& dir)               writes the files of a model directory
//   float lr_factor(const ParamSpec&)                     of the learning rate; 0: the tensor stays as it is
//   void set_dropout(double rate)
//   Json identity()                                       what a resumed run has to share
#pragma once
#include <signal.h>
#include <unistd.h>

#include <functional>

#include "common/train/run_log.h"

inline void on_signals(void (*handler)(int)) {
    for (int number : {SIGINT, SIGTERM}) signal(number, handler);
    signal(SIGPIPE, SIG_IGN);  // writing to a console that is gone then fails, and is noticed
}
// The first Ctrl-C or SIGTERM ends a run after its step, the second one at once.
inline volatile sig_atomic_t interrupted = 0;
inline void finish_step(int) {
    if (interrupted) _exit(EXIT_INTERRUPTED);
    interrupted = 1;
    const char text[] = "\nfinishing the step, then saving; once more to stop at once\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;  // there is nobody to tell
}

// The part of a Task that is the same in most programs
template <class M> struct RunTask {
    const TrainFlags& f;
    M model{};
    Optimizer opt{};
    BatchShape shape{};
    BatchBuilder builder{};
    char* block = nullptr;  // a batch, in device memory

    // multiple: of which the tokens of a batch are, with its padding
    template <class Config>
    void set_up(const Config& config, const BatchShape& batch_shape, int pad_id, int64_t max_len, int multiple = 0) {
        set_shape(batch_shape);
        builder.set_up(shape, pad_id, (int)max_len, multiple);
        model.config = config;
        model.dropout = (float)f.dropout;
        model.recompute = f.recompute;
        opt.table = model.point(nullptr, nullptr);
        opt.n = total_count(opt.table);
    }
    void set_shape(const BatchShape& s) { shape = model.shape = s; }
    // All of the run's device memory, in order
    void plan(Arena& arena) {
        opt.plan(arena);
        model.plan_activations(arena, true);
        arena.region("batch");
        arena.take(block, shape.bytes());
    }
    void set_dropout(double rate) { model.dropout = (float)rate; }
    void forward_backward(const Batch& b, StepStats* stats) { model.forward_backward(b, stats); }
    float lr_factor(const ParamSpec&) const { return 1; }
    double flops(double tokens, double targets, double mean_length) const {
        return tokens * model.flops_per_token(mean_length, targets / tokens);
    }
};

// OUT/last, the model and what --resume needs beside it, and OUT/best, a model alone
template <class Task> struct Checkpoints {
    Task& task;
    std::string last, best, metrics;

    void save_last(const Progress& progress) {
        if (exists(metrics)) sync_file(metrics);  // its lines up to this step are never written again
        save_directory(last, [&](const std::string& dir) {
            task.save_model(dir);
            save_run(dir, task.opt, progress, task.identity());
        });
    }
};

// Evaluates, and saves last/, and best/ if it is the best model so far. Fails if the loss is not finite.
template <class Task> void validate(Task& task, Progress& progress, Checkpoints<Task>& checkpoints, RunLog& log) {
    Eval e = task.evaluate();
    if (e.targets == 0) return checkpoints.save_last(progress);
    const char* last = checkpoints.last.c_str();
    if (!std::isfinite(e.loss))
        throw Error(EXIT_NOT_FINITE,
            format("step %lld: the validation loss (%g) is not finite; %s holds the checkpoint before: "
                   "continue from it with --init %s --out ANOTHER and a smaller --lr or --clip",
                (long long)progress.step, e.loss, last, last));
    bool better = e.score > progress.best_score || (e.score == progress.best_score && e.loss < progress.best_loss);
    progress.evals_since_best = better ? 0 : progress.evals_since_best + 1;
    if (better) {
        progress.best_loss = e.loss;
        progress.best_score = e.score;
        progress.best_step = progress.step;
    }
    log.validation(e, progress);
    if (better)  // first: last/ says that it is there
        save_directory(checkpoints.best, [&](const std::string& dir) { task.save_model(dir); });
    checkpoints.save_last(progress);
}

// Ends a run at a step whose loss or gradient is not finite. The update left every parameter as it was, and so did the
// steps after it. They are saved, unless they are not finite themselves: the checkpoint before is then worth more.
template <class Task>
[[noreturn]] void stop_not_finite(const StepResult& r, Progress& progress, Checkpoints<Task>& checkpoints) {
    const Optimizer& opt = checkpoints.task.opt;
    const Optimizer::HostView values = opt.values();
    bool finite = std::all_of(values.data, values.data + opt.n, [](areal x) { return std::isfinite(x); });
    progress.cursor = r.step.before;
    if (finite) checkpoints.save_last(progress);
    const char* last = checkpoints.last.c_str();
    const char* held = finite ? "model before this step"
                              : "checkpoint before, as the parameters themselves are not finite";
    throw Error(EXIT_NOT_FINITE,
        format("step %lld: the loss (%g) or the norm of the gradient (%g) is not finite; no parameter was changed, %s "
               "holds the %s: continue from it with --init %s --out ANOTHER and a smaller --lr or --clip",
            (long long)progress.step + 1, r.loss, r.norm, last, held, last));
}

// Trains; returns the exit code. baseline_loss: the validation loss of a model that reads no context, to compare with.
// sample(steps done), if given, comes after every sample_every-th step and its validation.
template <class Task> int train(Task& task, Cli& cli, const TrainFlags& f, double baseline_loss,
    int64_t sample_every = 0, const std::function<void(int64_t)>& sample = nullptr) {
    Checkpoints<Task> checkpoints{task, f.out + "/last", f.out + "/best", f.out + "/metrics.jsonl"};
    Progress progress;
    task.opt.set_blocks(f.weight_decay, [&](const ParamSpec& s) { return task.lr_factor(s); });
    // of a finished run, too: sft may still have test rows to answer with its model
    device::open_tuning_cache(f.out + "/matmul_plans.jsonl", f.retune);
    if (f.resume) progress = restore_run(resolve_model_dir(checkpoints.last), task.opt, task.identity());
    if (f.resume && progress.finished(f)) {
        const char* length = f.epochs > 0 ? "epochs" : "steps";
        printf("the run is finished: step %lld of %lld; --%s with a larger number continues it\n",
            (long long)progress.step, (long long)f.steps, progress.step < f.steps ? "patience" : length);
        return EXIT_OK;
    }
    const std::string config = f.out + "/config.json";
    if (f.resume) {
        const Json saved = parse_json(read_file(config), config), *flags = saved.find("flags");
        if (const Json* steps = flags ? flags->find("steps") : nullptr; steps && steps->i != f.steps)
            printf(
                "the run had %lld steps and now has %lld: from here on the learning rate follows a schedule of that "
                "length\n",
                (long long)steps->i, (long long)f.steps);
    }
    Json run;
    run.set("program", cli.program).set("flags", cli.to_json()).set("identity", task.identity());
    write_file_atomic(config, dump_json(run, 2) + "\n");
    // A full disk shows now, and a run that is killed before its first validation can be resumed.
    if (!f.resume) checkpoints.save_last(progress);
    RunLog log(f, baseline_loss, progress.step);
    on_signals(finish_step);
    if (f.overfit) task.set_dropout(0);

    StepQueue<Task> queue{task, f, progress.step};
    auto report = [&] {  // the oldest step in flight
        StepResult r = queue.take();
        if (!r.finite()) stop_not_finite(r, progress, checkpoints);
        progress.step++;
        progress.tokens += r.step.tokens;
        progress.seconds += r.seconds;
        log.step(r, progress, task.flops(r.step.tokens, r.step.targets, r.step.tokens / r.step.sequences));
    };
    while (queue.launched < f.steps) {
        if (f.overfit) progress.cursor.next = 0;
        StepInFlight step;
        const Cursor before = progress.cursor;
        try {
            step = queue.collect(progress.cursor);
        } catch (const Error&) {  // the data cannot be read any more: what was learned from them is kept
            progress.cursor = before;
            while (!queue.in_flight.empty()) report();
            checkpoints.save_last(progress);
            throw;
        }
        queue.accumulate(step);
        queue.update(step);

        bool eval_due = queue.launched == f.steps || (f.eval_every > 0 && queue.launched % f.eval_every == 0);
        bool sample_due = sample_every > 0 && queue.launched % sample_every == 0;
        while (queue.ready()) report();
        const bool console_lost = ferror(stdout);  // a full disk, or nobody reads the pipe any more
        while ((eval_due || sample_due || interrupted || console_lost) && !queue.in_flight.empty()) report();
        // also when interrupted: nothing would make up for it
        if (eval_due) validate(task, progress, checkpoints, log);
        if (sample_due) sample(progress.step);
        if (progress.early_stop(f)) {
            if (progress.step < f.steps)
                printf("no better model in %lld validations: stopped early\n", (long long)progress.evals_since_best);
            break;
        }
        if (interrupted || console_lost) {
            while (!queue.in_flight.empty()) report();
            if (!eval_due) checkpoints.save_last(progress);
            if (console_lost)
                fail(
                    "cannot write standard output: stopped at step %lld, which is saved; continue with --resume --out "
                    "%s",
                    (long long)progress.step, f.out.c_str());
            printf("stopped at step %lld; continue with --resume --out %s; models: %s\n", (long long)progress.step,
                f.out.c_str(), models_of(f.out, progress).c_str());
            return EXIT_INTERRUPTED;
        }
    }
    // The model is saved and --resume makes up for the reports, so that a signal ends the program at once.
    on_signals([](int) { _exit(EXIT_INTERRUPTED); });
    log.summary(progress);
    flush_output();
    return interrupted ? EXIT_INTERRUPTED : EXIT_OK;
}
