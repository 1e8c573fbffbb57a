// run_log.h: what a run writes while it trains: lines on the console, and OUT/metrics.jsonl with a line of JSON for
// every step and every validation.
#pragma once
#include <errno.h>
#include <stdio.h>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/json.h"
#include "common/base/text.h"
#include "common/text/line_reader.h"
#include "common/train/peak.h"
#include "common/train/resume.h"
#include "common/train/step_queue.h"
#include "common/train/validation.h"

struct MetricsLog {
    std::string path;
    FILE* file = nullptr;

    // Opens for appending; on resume drops the lines of steps after `step`, which will be done again, and what is no
    // line of JSON (a power cut may leave zeros). Returns whether the file is empty.
    bool open(const std::string& p, bool resume, int64_t step) {
        path = p;
        std::string kept;
        if (resume && exists(path)) {
            std::string text = read_file(path);
            for (size_t at = 0, end; at < text.size(); at = end + 1) {
                end = text.find('\n', at);
                if (end == std::string::npos) break;  // a line that was cut off
                std::string line = text.substr(at, end - at);
                try {
                    const Json json = parse_json(line, path);
                    const Json* line_step = json.find("step");
                    if (line_step && line_step->i <= step) kept += line + "\n";
                } catch (const Error&) {
                    printf("%s: dropped a line that is no JSON: %s\n", path.c_str(), start_of(line).c_str());
                }
            }
        }
        write_file_atomic(path, kept);
        file = fopen(path.c_str(), "a");
        if (!file) fail("%s: could not open it for writing: %s", path.c_str(), strerror(errno));
        return kept.empty();
    }
    void add(const Json& line) {
        std::string s = dump_json(line) + "\n";
        if (fwrite(s.data(), 1, s.size(), file) != s.size() || fflush(file))
            fail("%s: could not write: %s", path.c_str(), strerror(errno));
    }
    ~MetricsLog() {
        if (file) fclose(file);
    }
};

// Which model directories there are in a run that has come so far
inline std::string models_of(const std::string& out, const Progress& progress) {
    if (progress.best_step >= 0) return format("%s/best (best), %s/last (last)", out.c_str(), out.c_str());
    return out + "/last (nothing was validated, so there is no best/)";
}

struct RunLog {
    const TrainFlags& f;
    double baseline_loss;  // of a model that reads no context; NAN: not known
    MetricsLog metrics;
    double peak = peak_flops();      // FLOP/s of matrix products; 0: not known
    double step_seconds = 0;         // of recent steps, smoothed
    double tokens = 0, padding = 0;  // computed since the program began

    RunLog(const TrainFlags& f, double baseline_loss, int64_t first_step) : f(f), baseline_loss(baseline_loss) {
        if (metrics.open(f.out + "/metrics.jsonl", f.resume, first_step))
            // NAN is written as null
            metrics.add(Json::make_object().set("step", 0).set("unigram_loss", baseline_loss));
        if (peak > 0)
            printf("peak of matrix products: %.0f GFLOP/s; \"of peak\" below counts the model's FLOPs against it\n\n",
                   peak / 1e9);
    }
    // A step that is done and counted in `progress`; flops: its work
    void step(const StepResult& r, const Progress& progress, double flops) {
        tokens += r.step.tokens;
        padding += r.step.padding;
        step_seconds = step_seconds == 0 ? r.seconds : 0.9 * step_seconds + 0.1 * r.seconds;
        double speed = flops / r.seconds;
        if (peak > 0 && device_is_host) peak = std::max(peak, speed);  // others may have been busy when it was measured
        double of_peak = peak > 0 ? speed / peak : 0, lr = learning_rate(f, progress.step - 1);
        if (progress.step % f.log_every == 0 || progress.step == f.steps) {
            printf("step %lld/%lld | loss %.4f | lr %.2e | norm %.3f | %s tokens/s%s | %s left\n",
                   (long long)progress.step, (long long)f.steps, r.loss, lr, r.norm,
                   thousands(r.step.tokens / r.seconds).c_str(),
                   peak > 0 ? format(" | %.0f %% of peak", 100 * of_peak).c_str() : "",
                   duration(step_seconds * (double)(f.steps - progress.step)).c_str());
            fflush(stdout);
        }
        Json line = Json::make_object();
        line.set("step", progress.step)
            .set("loss", r.loss)
            .set("accuracy", r.accuracy)
            .set("lr", lr)
            .set("norm", r.norm)
            .set("tokens", progress.tokens)
            .set("tokens_per_s", r.step.tokens / r.seconds);
        if (peak > 0) line.set("of_peak", of_peak);
        metrics.add(line);
    }
    void validation(const Eval& e, const Progress& progress) {
        printf("step %lld | %s: %s%s\n%s", (long long)progress.step, e.name.c_str(), e.report.c_str(),
               progress.best_step == progress.step ? " | best so far" : "", e.table.c_str());
        fflush(stdout);
        Json line = Json::make_object();
        line.set("step", progress.step)
            .set("tokens", progress.tokens)
            .set("val_loss", e.loss)
            .set("val_accuracy", e.accuracy)
            .set("val_targets", e.targets);
        for (auto& [key, value] : e.numbers.o) line.set(key, value);
        metrics.add(line);
    }
    // The end of the run
    void summary(const Progress& progress) {
        if (padding > 0) printf("%.1f %% of the computed tokens were padding\n", 100 * padding / (tokens + padding));
        printf("\n%s tokens in %s of training", thousands(progress.tokens).c_str(), duration(progress.seconds).c_str());
        if (progress.best_step >= 0)
            printf("; best model: step %lld, validation loss %.4f%s", (long long)progress.best_step, progress.best_loss,
                   std::isfinite(baseline_loss) ? format(" (baseline: %.4f)", baseline_loss).c_str() : "");
        printf("\nmodels: %s\n", models_of(f.out, progress).c_str());
        fflush(stdout);  // the reports may be interrupted
    }
};
