// pack_text.h: data/tokenize pack --kind text: files of text → a .bin, a sequence for each document.
#pragma once
#include "data/bin_writer.h"
#include "data/text_blocks.h"
#include "data/tokenize.h"

// o.in and `files` → o.out, and says on the console what became of it.
inline void pack_text(const Options& o, std::vector<std::string> files, const Tokenizer& tokenizer) {
    const bool bpe = tokenizer.model == Tokenizer::BPE;
    // Bytes that have no token are left out, as tokenizers does it
    const bool loses = bpe && tokenizer.byte_level && tokenizer.unk < 0;
    auto is_lost = [&](char b) { return tokenizer.byte_id[(uint8_t)b] < 0; };
    files.insert(files.begin(), o.in);
    double total = total_size(files), bytes = 0, start = omp_get_wtime();
    make_directory_of(o.out);
    BinWriter out(o.out, BIN_TEXT, tokenizer.size(), tokenizer.fingerprint());

    struct Encoded {
        std::vector<int32_t> ids;
        std::vector<size_t> ends;                   // where in ids documents end
        size_t invalid = 0, unknown = 0, lost = 0;  // lost: bytes without a token
        size_t inner = 0;                           // <|endoftext|> that is no line of its own
    };
    std::vector<Encoded> encoded;  // of each part of a block
    size_t invalid = 0, unknown = 0, lost = 0, inner = 0;
    auto end_document = [&] {  // documents without a token are left out
        if (out.sequence_length() > 0) out.end_sequence();
    };
    Progress progress("packing", total);
    for (const std::string& file : files) {
        const CutRules rules = cut_rules(tokenizer);
        bool new_document = true;  // with the next block
        for_each_block(file, rules, [&](TextPart block) {
            auto parts = parts_of(block, rules);
            encoded.assign(parts.size(), {});
#pragma omp parallel for schedule(dynamic)
            for (size_t i = 0; i < parts.size(); i++) {
                Encoded& e = encoded[i];
                e.ids.reserve(parts[i].text.size() / 3);
                bool begins = i == 0 ? new_document : ends_document(parts[i - 1], o.documents);
                for_each_stretch(parts[i], o.documents, [&](std::string_view text, bool ends) {
                    const Specials specials = bpe ? SPECIALS_AS_TEXT : SPECIALS_PARSED;
                    e.invalid += tokenizer.encode(text, e.ids, specials, begins ? Steps::FIRST : Steps::GOES_ON);
                    if (loses) e.lost += std::count_if(text.begin(), text.end(), is_lost);
                    for (size_t at = 0; bpe && (at = text.find(Tokenizer::eot_name, at)) != text.npos; at++) e.inner++;
                    if (ends) e.ends.push_back(e.ids.size());
                    begins = ends;
                });
                if (!bpe) e.unknown = std::count(e.ids.begin(), e.ids.end(), tokenizer.unk);
            }
            for (const Encoded& e : encoded) {
                size_t done = 0;
                for (size_t end : e.ends) {
                    out.append(e.ids.data() + done, end - done);
                    end_document();
                    done = end;
                }
                out.append(e.ids.data() + done, e.ids.size() - done);
                invalid += e.invalid;
                lost += e.lost;
                unknown += e.unknown;
                inner += e.inner;
            }
            new_document = ends_document(block, o.documents);
            progress.update(bytes += block.text.size());
        });
        end_document();
    }
    out.finish();
    report_invalid(invalid, bpe);
    if (lost)
        fprintf(stderr, "warning: the tokenizer of %s has no token for %zu bytes of the input, which were left out\n",
            o.tokenizer.c_str(), lost);
    if (inner)
        fprintf(stderr,
            "warning: %zu times <|endoftext|> stands within a document and was read as plain text; documents end "
            "at a line of their own with it%s\n",
            inner, o.documents == "eot" ? "" : " (--documents eot)");
    double seconds = omp_get_wtime() - start;
    printf("%s: %llu documents, %llu tokens, %.0f bytes of text, %.3f tokens per byte, %sin %.2f s (%.1f MB/s)\n",
        o.out.c_str(), (unsigned long long)out.header.sequences, (unsigned long long)out.header.tokens, bytes,
        out.header.tokens / bytes, bpe ? "" : format("%.3f %% [UNK], ", 100.0 * unknown / out.header.tokens).c_str(),
        seconds, bytes / seconds / 1e6);
    warn_of_unknown(unknown, out.header.tokens, o.tokenizer);
}
