// pack_instruct.h: data/tokenize pack --kind instruct: rows of instructions → a .bin, a sequence for each row. What a
// row is: common/text/instruct_rows.h; how it is rendered: common/text/chat_template.h,
// common/data/instruct_encoding.h.
#pragma once
#include <unordered_map>

#include "common/base/text.h"
#include "data/bin_writer.h"
#include "data/instruct_text.h"
#include "data/templates.h"
#include "data/tokenize.h"

struct RowToPack {
    InstructRow row;
    RenderedRow tokens;
    Truncation truncation;
    std::string text;  // what evaluation needs
};
// Renders the first n rows, all threads together.
inline void render_rows(
    std::vector<RowToPack>& rows, size_t n, const Tokenizer& bpe, const ChatTemplate& templ, const Options& o) {
#pragma omp parallel for schedule(dynamic, 64)
    for (size_t i = 0; i < n; i++) {
        RowToPack& r = rows[i];
        if (r.row.outputs.empty() || !r.row.error.empty()) continue;
        try {
            r.truncation = render_row(
                bpe, templ, r.row, (size_t)templ.shots, true, o.max_len, o.overlong == "truncate", r.tokens);
            if (r.truncation.input)  // so that a copy of the input is a copy of what was shown
                r.row.turns.back().input.resize(r.truncation.input_bytes);
            r.text = dump_instruct_text(r.row);
        } catch (const Error& e) {  // no exception may leave a parallel loop
            r.row.error = e.what();
        }
    }
}

// Rows that are packed, and those that are not
struct RowCounts {
    size_t read = 0, nothing_to_learn = 0, too_long = 0, dropped = 0;
    size_t fewer_examples = 0, fewer_turns = 0, shorter_inputs = 0;  // truncated
    size_t supervised = 0, longest = 0;                              // tokens

    std::string lost(int64_t max_len) const {
        std::string s = format("%zu dropped with nothing to learn, %zu too long", nothing_to_learn, too_long);
        if (too_long) s += format(" (more than %lld tokens): %zu dropped", (long long)max_len, dropped);
        if (fewer_examples) s += format(", %zu without some of their examples", fewer_examples);
        if (fewer_turns) s += format(", %zu without their earliest turns", fewer_turns);
        if (shorter_inputs) s += format(", %zu with the end of their input cut off", shorter_inputs);
        return s;
    }
};

// o.in and `files` → o.out, and says on the console what became of it. overlong: was --overlong given?
inline void pack_instruct(Options o, std::vector<std::string> files, bool overlong) {
    files.insert(files.begin(), o.in);
    double total = total_size(files), bytes = 0, start = omp_get_wtime();
    const std::string dir = tokenizer_dir(o.tokenizer);
    const Tokenizer bpe = Tokenizer::load(dir);
    if (bpe.model != Tokenizer::BPE)
        fail_usage(
            "--tokenizer %s: expected byte-level BPE (vocab.json and merges.txt) for --kind instruct, as sft needs it, "
            "found WordPiece",
            dir.c_str());
    const int64_t gpt2 = longest_input(dir, "n_positions");
    const int64_t positions = gpt2 ? gpt2 : longest_input(dir, "max_position_embeddings");
    if (o.max_len == 0) o.max_len = positions;
    if (overlong && o.max_len == 0)
        fail_usage("--overlong: expected --max-len N, beyond which a row is too long, found none");
    ChatTemplate templ = alpaca_template();
    if (o.templ != "auto") templ = load_template(o.templ);
    else ChatTemplate::of_model(dir, templ);
    end_token(bpe, templ);  // has the tokenizer what the template needs?
    if (o.shots >= 0) templ.shots = o.shots;
    make_directory_of(o.out);
    BinWriter out(o.out, BIN_INSTRUCT, bpe.size(), bpe.fingerprint());
    out.templ = templ.json();

    std::vector<RowToPack> rows;                      // of a block, the first n; the others are kept for their memory
    std::unordered_map<std::string, int32_t> number;  // of a task
    std::vector<size_t> rows_of;                      // of each task
    RowCounts count;
    std::string too_long;  // the first rows that are dropped, and how many more
    Progress progress("packing", total);
    for (const std::string& file : files) {
        InstructFile in(file, true);
        const size_t before = count.read;
        for (size_t n = 1; n > 0; progress.update(bytes + in.lines.bytes)) {
            n = 0;
            for (size_t begin = in.lines.bytes; in.lines.bytes - begin < 4 << 20; n++) {
                if (n == rows.size()) rows.emplace_back();
                if (!in.next(rows[n].row)) break;
            }
            render_rows(rows, n, bpe, templ, o);
            for (size_t i = 0; i < n; i++) {
                const RowToPack& r = rows[i];
                count.read++;
                if (!r.row.error.empty()) {
                    o.bad_rows.add(r.row.error);
                    continue;
                }
                if (r.row.outputs.empty()) {
                    count.nothing_to_learn++;
                    continue;
                }
                count.too_long += !r.truncation.fits || r.truncation.cut();
                if (!r.truncation.fits) {
                    if (o.overlong == "error")
                        fail(
                            "%s: expected at most %lld tokens (--max-len), found %zu; --overlong drop leaves such rows "
                            "out, --overlong truncate cuts their inputs",
                            r.row.where.c_str(), (long long)o.max_len, r.tokens.ids.size());
                    if (++count.dropped <= BadRows::shown)
                        too_long += format("too long: %s: %zu tokens\n", r.row.where.c_str(), r.tokens.ids.size());
                    continue;
                }
                count.fewer_examples += r.truncation.examples;
                count.fewer_turns += r.truncation.turns;
                count.shorter_inputs += r.truncation.input;
                auto [task, is_new] = number.emplace(r.row.task.empty() ? o.task : r.row.task, (int32_t)number.size());
                if (is_new) {
                    out.tasks.push_back(task->first);
                    rows_of.push_back(0);
                }
                rows_of[task->second]++;
                out.append(r.tokens.ids.data(), r.tokens.ids.size());
                out.end_row(task->second, r.tokens.spans, r.text);
                count.supervised += count_supervised(r.tokens.spans);
                count.longest = std::max(count.longest, r.tokens.ids.size());
            }
        }
        if (count.read == before) fail("%s: expected rows of instructions, found none", file.c_str());
        bytes += in.lines.bytes;
        if (in.prompts_beside_messages)
            fprintf(stderr, "note: %s: %zu rows have a \"prompt\" beside their \"messages\"; the messages were taken\n",
                file.c_str(), in.prompts_beside_messages);
    }
    const size_t S = out.task.size(), N = out.header.tokens;
    const std::string lost = count.lost(o.max_len);
    if (S == 0)
        fail("%s: expected rows to learn, found none in %zu: %s%s", o.in.c_str(), count.read, lost.c_str(),
            count.dropped ? "; take a shorter template (--template short) or a model with more positions" : "");
    out.finish();

    double seconds = omp_get_wtime() - start;
    const size_t tasks = rows_of.size();
    std::vector<std::string> counts;
    for (size_t t = 0; t < tasks; t++) counts.push_back(format("%s %zu", out.tasks[t].c_str(), rows_of[t]));
    std::string per_task = name_list(counts, 20);
    if (tasks > 20)
        per_task = format("%zu to %zu rows each", *std::min_element(rows_of.begin(), rows_of.end()),
            *std::max_element(rows_of.begin(), rows_of.end()));
    printf(
        "%s: %zu rows, %zu tokens, %zu of them supervised (%.1f %%), the longest row has %zu; %s; template %s; %zu "
        "task%s %s; in %.2f s (%.1f MB/s)\n",
        o.out.c_str(), S, N, count.supervised, 100.0 * count.supervised / N, count.longest, lost.c_str(),
        templ.name.c_str(), tasks, tasks == 1 ? ":" : "s:", per_task.c_str(), seconds, bytes / seconds / 1e6);
    if (count.dropped > BadRows::shown) too_long += format("too long: %zu more\n", count.dropped - BadRows::shown);
    fprintf(stderr, "%s", too_long.c_str());
    if (count.too_long)
        printf("%zu of %zu rows (%.1f %%) were too long: %s\n", count.too_long, count.read,
            100.0 * count.too_long / count.read,
            o.max_len == positions ? "the limit is the model's longest input"
            : positions ? format("--max-len can be up to %lld, the model's longest input", (long long)positions).c_str()
                        : "--max-len takes longer ones");
    if (o.show) {
        BinFile file(o.out, BIN_INSTRUCT);
        for (size_t s = 0; s < std::min<size_t>(o.show, S); s++)
            printf("%s", visible(show_row(file, bpe, s), "\n\t").c_str());
    }
    o.bad_rows.finish("the others are in " + o.out);
}
