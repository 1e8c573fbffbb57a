// pack_instruct.h: data/tokenize pack --kind instruct: rows of instructions → a .bin, a sequence for each row. What a
// row is: common/text/instruct_rows.h; how it is rendered: common/text/chat_template.h,
// common/data/instruct_encoding.h.
#pragma once
#include <unordered_map>

#include "common/base/text.h"
#include "common/data/instruct_encoding.h"
#include "data/tokenize.h"

// overlong: was --overlong given?
inline void pack_instruct(Options o, std::vector<std::string> files, bool overlong) {
    files.insert(files.begin(), o.in);
    double total = total_size(files), bytes = 0, start = omp_get_wtime();
    const std::string dir = tokenizer_dir(o.tokenizer);
    if (!Bpe::is_in(dir))
        fail_usage(
            "--tokenizer %s: expected byte-level BPE (vocab.json and merges.txt) for --kind instruct, as sft needs it, "
            "found WordPiece",
            dir.c_str());
    if (o.max_len == 0 && exists(dir + "/config.json")) {  // the directory of a model says how long a row may be
        const Json config = parse_json(read_file(dir + "/config.json"), dir + "/config.json");
        if (const Json* positions = config.find("n_positions"); positions && positions->kind == Json::integer)
            o.max_len = positions->i;
    }
    if (overlong && o.max_len == 0)
        fail_usage("--overlong: expected --max-len N, beyond which a row is too long, found none");
    const Bpe bpe = Bpe::load(dir);
    ChatTemplate templ = ChatTemplate::load(o.templ);
    if (o.shots >= 0) templ.shots = o.shots;
    make_directory_of(o.out);
    BinWriter out(o.out, BIN_INSTRUCT, bpe.size(), bpe.fingerprint());
    out.templ = templ.json();

    struct Rendered {
        InstructRow row;
        RenderedRow tokens;
        Truncation truncation;
        std::string text;
    };
    std::vector<Rendered> rows;                       // of a block, the first n; the others are kept for their memory
    std::unordered_map<std::string, int32_t> number;  // of a task
    std::vector<size_t> count;                        // rows of each task
    size_t read = 0, nothing = 0, too_long = 0, dropped = 0, supervised = 0, longest = 0, examples = 0, turns = 0,
           inputs = 0;
    Progress progress("packing", total);
    for (const std::string& file : files) {
        InstructFile in(file, true);
        const size_t before = read;
        for (size_t n = 1; n > 0; progress.update(bytes + in.bytes())) {
            n = 0;
            for (size_t begin = in.bytes(); in.bytes() - begin < 4 << 20; n++) {
                if (n == rows.size()) rows.emplace_back();
                if (!in.next(rows[n].row)) break;
            }
            std::string error;  // of the first row that has one: no exception may leave a parallel loop
            size_t error_at = n;
#pragma omp parallel for schedule(dynamic, 64)
            for (size_t i = 0; i < n; i++) {
                Rendered& r = rows[i];
                if (r.row.outputs.empty()) continue;
                try {
                    r.truncation = render_row(bpe, templ, r.row, (size_t)templ.shots, true, o.max_len,
                                              o.overlong == "truncate", r.tokens);
                    if (r.truncation.input)
                        r.row.turns.back().input.resize(
                            r.truncation.input_bytes);  // so that a copy of it is of what was shown
                    r.text = dump_instruct_text(r.row);
                } catch (const Error& e) {
#pragma omp critical
                    if (i < error_at) {
                        error = e.what();
                        error_at = i;
                    }
                }
            }
            if (!error.empty()) fail("%s", error.c_str());
            for (size_t i = 0; i < n; i++) {
                const Rendered& r = rows[i];
                read++;
                if (r.row.outputs.empty()) {
                    nothing++;
                    continue;
                }
                too_long += !r.truncation.fits || r.truncation.cut();
                if (!r.truncation.fits) {
                    if (o.overlong == "error")
                        fail(
                            "%s: expected at most %lld tokens (--max-len), found %zu; --overlong drop leaves such rows "
                            "out, --overlong truncate cuts their inputs",
                            r.row.where.c_str(), (long long)o.max_len, r.tokens.ids.size());
                    dropped++;
                    continue;
                }
                examples += r.truncation.examples;
                turns += r.truncation.turns;
                inputs += r.truncation.input;
                auto [task, is_new] = number.emplace(r.row.task.empty() ? o.task : r.row.task, (int32_t)number.size());
                if (is_new) {
                    out.tasks.push_back(task->first);
                    count.push_back(0);
                }
                count[task->second]++;
                out.append(r.tokens.ids.data(), r.tokens.ids.size());
                out.end_row(task->second, r.tokens.spans, r.text);
                supervised += r.tokens.supervised();
                longest = std::max(longest, r.tokens.ids.size());
            }
        }
        if (read == before) fail("%s: expected rows of instructions, found none", file.c_str());
        bytes += in.bytes();
    }
    const size_t S = out.task.size(), N = out.header.tokens;
    std::string lost = format("%zu dropped with nothing to learn, %zu too long", nothing, too_long);
    if (too_long) {
        lost += format(" (more than %lld tokens): %zu dropped", (long long)o.max_len, dropped);
        if (examples) lost += format(", %zu without some of their examples", examples);
        if (turns) lost += format(", %zu without their earliest turns", turns);
        if (inputs) lost += format(", %zu with the end of their input cut off", inputs);
    }
    if (S == 0)
        fail("%s: expected rows to learn, found none in %zu: %s%s", o.in.c_str(), read, lost.c_str(),
             dropped ? "; take a shorter template (--template short) or a model with more positions" : "");
    out.finish();

    double seconds = omp_get_wtime() - start;
    std::vector<std::string> counts;
    for (size_t i = 0; i < count.size(); i++) counts.push_back(format("%s %zu", out.tasks[i].c_str(), count[i]));
    std::string per_task = name_list(counts, 20);
    if (count.size() > 20)
        per_task = format("%zu to %zu rows each", *std::min_element(count.begin(), count.end()),
                          *std::max_element(count.begin(), count.end()));
    printf(
        "%s: %zu rows, %zu tokens, %zu of them supervised (%.1f %%), the longest row has %zu; %s; template %s; %zu "
        "task%s %s; in %.2f s (%.1f MB/s)\n",
        o.out.c_str(), S, N, supervised, 100.0 * supervised / N, longest, lost.c_str(), templ.name.c_str(),
        count.size(), count.size() == 1 ? ":" : "s:", per_task.c_str(), seconds, bytes / seconds / 1e6);
    if (o.show) {
        BinFile file(o.out, BIN_INSTRUCT);
        for (size_t s = 0; s < std::min<size_t>(o.show, S); s++) printf("%s", show_row(file, bpe, s).c_str());
    }
}
