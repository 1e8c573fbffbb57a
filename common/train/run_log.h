// run_log.h: what a run writes while it trains: lines on the console, and OUT/metrics.jsonl with a line of JSON for
// every step and every validation. How fast this machine can multiply matrices, which the FLOP/s are compared with.
#pragma once
#include <errno.h>

#include <fstream>
#include <tuple>

#include "common/ops/matmul.cuh"
#include "common/text/line_reader.h"
#include "common/train/resume.h"
#include "common/train/step_queue.h"
#include "common/train/validation.h"

// FLOP/s of dense matrix products at this precision; 0: not known. GPU: the data sheet. CPU: the best of some products.
inline double peak_flops() {
#ifdef __CUDACC__
    const std::string name = device::device_name();
    for (auto [part, half, single] : {std::tuple{"H200", 989e12, 67e12}, {"H100 PCIe", 756e12, 51e12},
             {"H100", 989e12, 67e12}, {"A100", 312e12, 19.5e12}, {"L40S", 362e12, 91.6e12}, {"4090", 165e12, 82.6e12}})
        if (name.find(part) != name.npos) return sizeof(real) == 2 ? half : single;
    return 0;
#elif defined(SHIM)
    return 0;
#else
    constexpr int n = 384;
    double best = 0;
#pragma omp parallel
    {
        std::vector<real> a(n * n, real(0.5f)), b(n * n, real(0.25f)), c(n * n, real(0.0f));
        for (int i = 0; i < 20; i++) {
#pragma omp barrier
            double t = omp_get_wtime();
            cpu::gemm(false, true, n, n, n, a.data(), n, b.data(), n, real(0.0f), c.data(), n);
#pragma omp barrier
            t = omp_get_wtime() - t;
#pragma omp single
            best = std::max(best, 2.0 * n * n * n * omp_get_num_threads() / t);
        }
    }
    return best;
#endif
}

// Which model directories there are in a run that has come so far
inline std::string models_of(const std::string& out, const Progress& progress) {
    if (progress.best_step >= 0) return format("%s/best (best), %s/last (last)", out.c_str(), out.c_str());
    return out + "/last (nothing was validated, so there is no best/)";
}

struct RunLog {
    const TrainFlags& f;
    double baseline_loss;  // of a model that reads no context; NAN: not known
    std::string path = f.out + "/metrics.jsonl";
    std::ofstream file;
    struct stat opened;              // the file
    double peak = peak_flops();      // FLOP/s of matrix products; 0: not known
    double step_seconds = 0;         // of recent steps, smoothed
    double tokens = 0, padding = 0;  // computed since the program began

    RunLog(const TrainFlags& f, double baseline_loss, int64_t first_step) : f(f), baseline_loss(baseline_loss) {
        const std::string kept = f.resume && exists(path) ? kept_lines(path, first_step) : "";
        write_file_atomic(path, kept);
        file.open(path, std::ios::app);
        if (!file || stat(path.c_str(), &opened) != 0)
            fail(path + ": could not open it for writing: " + strerror(errno));
        if (kept.empty()) add(Json().set("step", 0).set("unigram_loss", baseline_loss));  // NAN is written as null
        if (peak > 0)
            printf("peak of matrix products: %.0f GFLOP/s%s; \"of peak\" below counts the model's FLOPs against it\n\n",
                peak / 1e9,
                device_is_host && sizeof(real) == 2 ? format(" (%s)", cpu::bf16_instructions()).c_str() : "");
    }
    // The lines of metrics.jsonl up to `step`, as later ones are done again; what is no JSON is dropped (a power cut)
    static std::string kept_lines(const std::string& path, int64_t step) {
        std::string text = read_file(path), kept;
        text.resize(text.rfind('\n') + 1);  // without a line that was cut off
        for (const std::string& line : split_list(text, '\n')) {
            try {
                const Json json = parse_json(line, path), *line_step = json.find("step");
                if (line_step && line_step->i <= step) kept += line + "\n";
            } catch (const Error&) {
                printf("%s: dropped a line that is no JSON: %s\n", path.c_str(), start_of(line).c_str());
            }
        }
        return kept;
    }
    void add(const Json& line) {
        struct stat now;
        if (stat(path.c_str(), &now) != 0 || now.st_ino != opened.st_ino)
            fail("%s: the file is gone: the run's directory was removed or renamed while it trained", path.c_str());
        if (!(file << dump_json(line) << std::endl)) fail("%s: could not write: %s", path.c_str(), strerror(errno));
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
        Json line;
        line.set("step", progress.step).set("loss", r.loss).set("accuracy", r.accuracy).set("lr", lr);
        line.set("norm", r.norm).set("tokens", progress.tokens).set("tokens_per_s", r.step.tokens / r.seconds);
        if (peak > 0) line.set("of_peak", of_peak);
        add(line);
    }
    void validation(const Eval& e, const Progress& progress) {
        printf("step %lld | %s: %s%s\n%s", (long long)progress.step, e.name.c_str(), e.report.c_str(),
            progress.best_step == progress.step ? " | best so far" : "", e.table.c_str());
        fflush(stdout);
        Json line;
        line.set("step", progress.step).set("tokens", progress.tokens).set("val_loss", e.loss);
        line.set("val_accuracy", e.accuracy).set("val_targets", e.targets);
        for (auto& [key, value] : e.numbers.o) line.set(key, value);
        add(line);
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
