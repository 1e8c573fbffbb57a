// loop.h: the training loop, which all programs share.
#pragma once
#include <sys/time.h>
#include <cmath>
#include <deque>
#include <functional>

#include "common/data/dataloader.h"
#include "common/device/device.cuh"
#include "common/train/console.h"
#include "common/train/flags.h"
#include "common/train/metrics_log.h"
#include "common/train/model_dir.h"
#include "common/train/optimizer.h"
#include "common/train/peak.h"
#include "common/train/resume.h"
#include "common/train/schedule.h"
#include "common/train/signals.h"
#include "common/train/training_state.h"
#include "common/train/validation.h"

inline double seconds_now() {
    timeval t;
    gettimeofday(&t, nullptr);
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

// Trains. A Task brings what differs from program to program:
//   Optimizer opt; BatchShape shape; char* block;  parameters; capacities of a micro-batch, and its place in device
//   memory BatchBuilder builder                           one that knows shape and filler int fill(BatchBuilder&,
//   Cursor&)               collects the next micro-batch in the order of this run; the number of sequences void
//   forward_backward(const Batch&, StepStats*) Eval evaluate()                                on the validation data
//   void save_model(const std::string& dir)        writes the files of a model directory
//   double flops(double tokens, double targets, double mean_length)   work of so many tokens, forward and backward
//   float lr_factor(const ParamSpec&)                   of the learning rate; 0: the tensor stays as it is
//   Json identity()                                what a resumed run has to share: sizes, fingerprints of data and
//   tokenizer void set_dropout(double p)
// sample(steps done), if given, comes after every sample_every-th step and its validation.
//
// A GPU works while the host goes on: it hands over a step, then collects the next one's batches, and reads a step's
// figures when they are there, at the latest when it has handed over the one behind it. Else the host waits only where
// it is more than a batch ahead, and where a new shape is timed. Validation, checkpoints, samples and the end wait for
// all that is under way.
template <class Task>
int train(Task& task, Cli& cli, TrainFlags& f, double unigram_loss, int64_t sample_every = 0,
          const std::function<void(int64_t)>& sample = nullptr) {
    Optimizer& opt = task.opt;
    std::string last = f.out + "/last", best_dir = f.out + "/best";
    int64_t step = 0, best_step = -1;
    Cursor cursor;
    double best = INFINITY, best_score = -INFINITY, tokens_seen = 0, trained_s = 0;
    int64_t stale = 0;  // validations since the best one
    opt.set_blocks(f.weight_decay, [&](const ParamSpec& s) { return task.lr_factor(s); });
    device::keep_plans(f.out + "/matmul_plans.jsonl",
                       f.retune);  // for a finished run too: its model may have answers to give

    if (f.resume) {
        std::string from = resolve_model_dir(last);
        std::vector<areal> m(opt.n), v(opt.n), master(opt.n);
        constexpr bool exact = std::is_same_v<real, float>;  // model.safetensors holds every bit of the parameters
        Json state = load_training_state(from, opt.table, m.data(), v.data(), exact ? nullptr : master.data());
        auto counter = [&](const char* key) -> const Json& {
            const Json* j = state.find(key);
            if (!j)
                fail("%s/training_state.safetensors: expected \"%s\" in its counters, found none: the file is damaged",
                     from.c_str(), key);
            return *j;
        };
        const Json identity = task.identity();
        for (const auto& [key, value] : identity.o) {
            const Json* saved = counter("identity").find(key);
            if (!saved || dump_json(*saved) != dump_json(value))
                fail("%s: %s: it was trained with %s, this run has %s: give --data and --out of the same run",
                     from.c_str(), key.c_str(), saved ? dump_json(*saved).c_str() : "none", dump_json(value).c_str());
        }
        if (exact) load_tensors(from, opt.table, master.data()).refuse_missing(from);
        opt.upload(master);
        device::copy_to_device(opt.m, m.data(), opt.n * sizeof(areal));
        device::copy_to_device(opt.v, v.data(), opt.n * sizeof(areal));
        device::device_sync();
        step = counter("step").i;
        cursor.next = (uint64_t)counter("next_sequence").i;
        tokens_seen = counter("tokens").d;
        trained_s = counter("seconds").d;
        if (counter("best_loss").kind != Json::null) {
            best = counter("best_loss").d;
            best_score = counter("best_score").d;
            best_step = counter("best_step").i;
        }
        stale = counter("stale").i;
        printf("resumed %s at step %lld\n", from.c_str(), (long long)step);
        if (step >= f.steps || (f.patience > 0 && stale >= f.patience)) {
            printf("the run is finished: step %lld of %lld; %s with a larger number goes on\n", (long long)step,
                   (long long)f.steps,
                   step < f.steps ? "--patience"
                   : f.epochs > 0 ? "--epochs"
                                  : "--steps");
            return EXIT_OK;
        }
    }
    Json run = Json::make_object();
    run.set("program", cli.program).set("flags", cli.to_json()).set("identity", task.identity());
    write_file_atomic(f.out + "/config.json", dump_json(run, 2) + "\n");
    auto save = [&](const std::string& dir, bool with_state) {
        save_directory(dir, [&](const std::string& tmp) {
            task.save_model(tmp);
            if (!with_state) return;
            Json state = Json::make_object();
            state.set("step", step)
                .set("next_sequence", cursor.next)
                .set("tokens", tokens_seen)
                .set("seconds", trained_s);
            state.set("best_loss", best)
                .set("best_score", best_score)
                .set("best_step", best_step)
                .set("stale", stale)
                .set("identity", task.identity());
            std::vector<areal> m = opt.host_copy(opt.m), v = opt.host_copy(opt.v), master;
            if (!std::is_same_v<real, float>) master = opt.download();
            save_training_state(tmp, opt.table, m.data(), v.data(), master.empty() ? nullptr : master.data(), state);
        });
    };
    if (!f.resume)
        save(last, true);  // a full disk shows now, and a run that is killed before its first validation can be resumed
    MetricsLog metrics;
    if (metrics.open(f.out + "/metrics.jsonl", f.resume, step))
        metrics.add(Json::make_object().set("step", 0).set("unigram_loss", unigram_loss));  // nan: null

    auto validate = [&] {
        Eval e = task.evaluate();
        if (e.targets == 0) return save(last, true);
        if (!std::isfinite(e.loss))
            throw Error(EXIT_NOT_FINITE, format("step %lld: the validation loss (%g) is not finite; %s holds the "
                                                "checkpoint before: go on with --init %s --out "
                                                "ANOTHER and a smaller --lr or --clip",
                                                (long long)step, e.loss, last.c_str(), last.c_str()));
        bool better = e.score > best_score || (e.score == best_score && e.loss < best);
        stale = better ? 0 : stale + 1;
        if (better) {
            best = e.loss;
            best_score = e.score;
            best_step = step;
        }
        printf("step %lld | %s: %s%s\n%s", (long long)step, e.name.c_str(), e.report.c_str(),
               better ? " | best so far" : "", e.table.c_str());
        fflush(stdout);
        Json line = Json::make_object();
        line.set("step", step)
            .set("tokens", tokens_seen)
            .set("val_loss", e.loss)
            .set("val_accuracy", e.accuracy)
            .set("val_targets", e.targets);
        for (auto& [key, value] : e.numbers.o) line.set(key, value);
        metrics.add(line);
        if (better) save(best_dir, false);  // first: last/ says that it is there
        save(last, true);
    };

    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (f.overfit) task.set_dropout(0);
    double peak = peak_flops();
    if (peak > 0)
        printf("peak of matrix products: %.0f GFLOP/s; \"of peak\" below counts the model's FLOPs against it\n\n",
               peak / 1e9);

    std::vector<BatchBuilder> micro(f.accum, task.builder);
    device::Upload batches(task.block, task.shape.bytes()), hyper(opt.hyper, sizeof(AdamWStep));
    device::Graphs graphs;
    device::Readback<StepStats> figures;
    struct Queued {  // a step that was handed to the device
        Cursor before;
        double begin, tokens, targets, weight, sequences, filler;
    };
    std::deque<Queued> under_way;   // `step` of them are done; these are behind it
    int64_t queued = step;          // steps handed over
    double step_s = 0;              // of recent steps, smoothed
    double computed = 0, used = 0;  // tokens with and without filler
    double reported = 0;            // when the step before was done
    auto report = [&] {             // of the oldest step under way: waits for its figures
        Queued s = under_way.front();
        under_way.pop_front();
        StepStats stats = figures.take();
        double loss = stats.loss / s.weight, norm = sqrt(stats.norm2), now = seconds_now(),
               seconds = std::max(1e-6, now - std::max(s.begin, reported));
        reported = now;
        if (!std::isfinite(loss) || !std::isfinite(norm)) {
            std::vector<areal> values = opt.download();  // what came behind this step has changed nothing either
            bool sound = std::all_of(values.begin(), values.end(), [](areal x) {
                return std::isfinite(x);
            });  // else the checkpoint before is worth more
            cursor = s.before;
            if (sound) save(last, true);
            throw Error(EXIT_NOT_FINITE,
                        format("step %lld: the loss (%g) or the norm of the gradient (%g) is not finite; no parameter "
                               "was changed, %s holds the "
                               "%s: go on with --init %s --out ANOTHER and a smaller --lr or --clip",
                               (long long)step + 1, loss, norm, last.c_str(),
                               sound ? "model before this step"
                                     : "checkpoint before, as the parameters themselves are not finite",
                               last.c_str()));
        }
        double lr = learning_rate(f, step);
        step++;
        tokens_seen += s.tokens;
        trained_s += seconds;
        used += s.tokens;
        computed += s.tokens + s.filler;
        step_s = step_s == 0 ? seconds : 0.9 * step_s + 0.1 * seconds;
        double speed = task.flops(s.tokens, s.targets, s.tokens / s.sequences) / seconds;
        if (peak > 0 && device_is_host) peak = std::max(peak, speed);  // the probe may have met a busy moment
        double share = peak > 0 ? speed / peak : 0;
        if (step % f.log_every == 0 || step == f.steps) {
            printf("step %lld/%lld | loss %.4f | lr %.2e | norm %.3f | %s tokens/s%s | %s left\n", (long long)step,
                   (long long)f.steps, loss, lr, norm, thousands(s.tokens / seconds).c_str(),
                   peak > 0 ? format(" | %.0f %% of peak", 100 * share).c_str() : "",
                   duration(step_s * (double)(f.steps - step)).c_str());
            fflush(stdout);
        }
        Json line = Json::make_object();
        line.set("step", step)
            .set("loss", loss)
            .set("accuracy", stats.correct / s.targets)
            .set("lr", lr)
            .set("norm", norm)
            .set("tokens", tokens_seen);
        line.set("tokens_per_s", s.tokens / seconds);
        if (peak > 0) line.set("of_peak", share);
        metrics.add(line);
    };
    while (queued < f.steps) {
        // the whole step's micro-batches, to know the number of its targets before it starts
        if (f.overfit) cursor.next = 0;
        Queued s{cursor, seconds_now(), 0, 0, 0, 0, 0};
        for (BatchBuilder& b : micro) {
            s.sequences += task.fill(b, cursor);
            s.tokens += (double)b.tokens.size();
            s.targets += (double)b.targets.size();
            s.weight += b.weight();
        }
        if (s.targets == 0)
            fail("step %lld: none of its %.0f tokens can be a target: is the text made of special tokens?",
                 (long long)queued + 1, s.tokens);
        opt.zero_gradients();
        uint64_t token0 = 0;
        s.filler = -s.tokens;
        for (BatchBuilder& b : micro) {
            StepCounters counters{(uint64_t)f.seed, (uint64_t)queued, token0};
            token0 += b.tokens.size();
            Batch batch = on_device(b.finish(batches.next(), counters, 1 / s.weight), task.shape, task.block);
            batches.send();
            s.filler += batch.N;
            device::time_products(
                true);  // of these shapes a run computes thousands; not those of a validation or a sample
            graphs.run(batch.sizes(), [&] { task.forward_backward(batch, opt.stats); });
            device::time_products(false);
        }
        *(AdamWStep*)hyper.next() = Optimizer::step_values(f, queued);
        hyper.send();
        graphs.run({}, [&] { opt.update(); });
        figures.send(opt.stats);
        under_way.push_back(s);
        queued++;
        bool due = queued == f.steps || (f.eval_every > 0 && queued % f.eval_every == 0),
             sample_due = sample_every > 0 && queued % sample_every == 0;
        while (!under_way.empty() && (under_way.size() > 1 || due || sample_due || interrupted || figures.ready()))
            report();
        if (due) validate();  // before the run may stop: nothing would make up for it
        if (sample_due) sample(step);
        bool enough = f.patience > 0 && stale >= f.patience;
        if (enough && step < f.steps) printf("no better model in %lld validations: stopped early\n", (long long)stale);
        if (enough) break;
        if (interrupted) {
            while (!under_way.empty()) report();
            if (!due) save(last, true);
            printf("stopped at step %lld; go on with --resume --out %s\n", (long long)step, f.out.c_str());
            return EXIT_INTERRUPTED;
        }
    }
    if (computed > used) printf("%.1f %% of the computed tokens were filler\n", 100 * (1 - used / computed));
    printf("\n%s tokens in %s of training", thousands(tokens_seen).c_str(), duration(trained_s).c_str());
    if (best_step >= 0)
        printf("; best model: step %lld, validation loss %.4f%s\nmodels: %s (best), %s (last)\n", (long long)best_step,
               best, std::isfinite(unigram_loss) ? format(" (guessing by frequency: %.4f)", unigram_loss).c_str() : "",
               best_dir.c_str(), last.c_str());
    else
        printf("\nmodel: %s\n", last.c_str());
    return EXIT_OK;
}
