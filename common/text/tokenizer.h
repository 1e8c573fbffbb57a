// tokenizer.h: text → ids → text, for encoders and decoders. The ids equal those of Hugging Face's tokenizers.
//
//   text       "Hé, [MASK] unaffable!"
//   1 added tokens, such as [MASK] and <|endoftext|>, are cut out (added_tokens.h)
//   2 what lies between them is normalised and split into words (pretokenizer.h); as BERT does it
//              he , [MASK] unaffable !
//   3 each word becomes tokens of the vocabulary, by one of two models:
//     WordPiece  the longest token that fits, from left to right; all but a word's first begin with ##. A word of more
//                than 100 code points, or one that cannot be pieced together, is one [UNK]
//              he , [MASK] un ##aff ##able !
//     BPE        bytes or characters, of which pairs are merged (bpe.h)
//   4 where a model reads a text, tokens stand around it, as the post-processor has it: [CLS] A [SEP] B [SEP]
//
// Two kinds of BPE differ in what a word begins as, and in how a vocabulary is written:
//   byte-level (GPT-2, Llama 3, Qwen, SmolLM, RoBERTa)   bytes, as printable characters (ByteNames). Decoding gives
//                   back every byte, also those that are not UTF-8: each is a character that is no letter, digit or
//                   space. (WordPiece drops them.)
//   SentencePiece (Llama 2, TinyLlama)                   characters, "▁" for a space; a character without a token
//                   becomes tokens of its bytes, <0xE2> <0x82> <0xAC> (byte_fallback), or unk_token
//
// A tokenizer directory holds, besides what special_tokens.h names,
//   tokenizer.json           all: rules, vocabulary, merges. A rule that is not obeyed is refused by name. (No rules
//                            for us: truncation and padding, since a text is encoded whole; WordPiece's decoder.)
// or, where this file is missing,
//   vocab.txt                WordPiece, a token a line, the line number (from 0) is its id. The rules are BERT's
//   vocab.json, merges.txt   byte-level BPE, {"token": id} and a pair a line, in the order of learning; line 1 may be
//                            "#version: 0.2". Older names: encoder.json, vocab.bpe. Rules of GPT-2, Qwen2, RoBERTa
// and tokenizer_config.json  BERT's do_lower_case, strip_accents, tokenize_chinese_chars, add_bos_token, add_eos_token:
//                            where they are given they have the last word, as in transformers
// All of it is saved again as it was.
#pragma once
#include <atomic>

#include "common/base/hash.h"
#include "common/text/bpe.h"
#include "common/text/pretokenizer.h"
#include "common/text/special_tokens.h"

// Do special tokens in a text become their ids, or does it stay text, as what a user writes?
enum Specials : bool { SPECIALS_AS_TEXT, SPECIALS_PARSED };

struct Tokenizer {
    enum Model : uint8_t { WORDPIECE, BPE } model;
    static constexpr const char* eot_name = "<|endoftext|>";  // GPT-2's, and of what data/tokenize learns
    static constexpr const char* mark = "\u2581";             // SentencePiece's space
    static constexpr const char* special_names[5] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};  // BERT's
    static constexpr Role special_roles[5] = {PAD, UNK, CLS, SEP, MASK};
    static constexpr size_t max_word_chars = 100;  // of WordPiece

    // id → the token: of byte-level BPE its bytes, else as the vocabulary has it; of an added token its content
    std::vector<std::string> tokens;
    std::vector<std::pair<int32_t, int32_t>> merges;  // in the order of learning
    std::string merge_place = "merge ";  // where merges[0] stands, for messages: "FILE, line " and the number
    size_t first_merge = 1;
    // The rules; those of BERT or GPT-2 unless load() reads others
    Steps normalizer, words;
    SpecialTokens special;  // added tokens, and their roles
    bool byte_level = true, byte_fallback = false, ignore_merges = false, fuse_unk = false;  // of BPE
    int32_t unk = -1;                                                                        // −1: none
    // SentencePiece, decoding: tokens <0x0A> are bytes; one space is taken off the text's beginning; all of its first
    // token's are
    bool decodes_bytes = false, strips_space = false, strips_first_token = false;
    // What a model reads of a text A, −1, or of two, A and B, −2: these, and tokens around them (post-processor)
    std::vector<int32_t> single{-1}, pair{-1, -2};
    int pair_type = 1;  // token type of B and of what follows
    // A prompt comes after bos(), as a text that begins. encode() does not look at it.
    bool add_bos = false;
    TokenizerFiles files;  // what load() read, for save()

    // Without a vocabulary yet, but it finds special tokens in a text
    explicit Tokenizer(Model model = BPE, bool lower_case = true) : model(model) {
        if (model == BPE) {
            words.steps = {{Step::GPT2}};
            for (Role role : {BOS, EOS, UNK}) special.set_default(role, eot_name);
        } else {
            normalizer.steps = {{Step::BERT, "", "", true, true, lower_case, lower_case}};
            words.steps = {{Step::BERT_WORDS}};
            for (int s = 0; s < 5; s++) special.set_default(special_roles[s], special_names[s]);
        }
        index_added();
    }
    size_t size() const { return tokens.size(); }
    int32_t pad() const { return of_role(PAD); }
    int32_t cls() const { return of_role(CLS); }
    int32_t sep() const { return of_role(SEP); }
    int32_t mask() const { return of_role(MASK); }
    // The token that ends a text, and the one that begins one: eos_token and bos_token; without the latter the former
    int32_t eot() const { return of_role(EOS); }
    int32_t bos() const {
        const int32_t id = role_id[BOS];
        return single[0] >= 0 ? single[0] : id >= 0 ? id : eot();
    }
    bool is_special(int32_t id) const { return (size_t)id < special_id.size() && special_id[id]; }
    // Does this token continue the word of the one before it? (whole-word masking)
    bool is_continuation(int32_t id) const {
        const std::string& t = tokens[id];
        return model == WORDPIECE ? has_sharps(t) : !starts_with(t, mark) && byte_table.kind[(uint8_t)t[0]] != SPACE;
    }
    bool has_sharps(std::string_view t) const { return model == WORDPIECE && t.size() > 2 && starts_with(t, "##"); }
    // Are the rules BERT's own, whatever lower_case, strip_accents and split_cjk are?
    bool are_berts() const {
        return words.description() == "BertPreTokenizer;" && normalizer.description() == "BertNormalizer;" &&
               normalizer.steps[0].clean_text;
    }

    // ------------------------------------------------------------ what build() makes of these
    MergeTable table;
    // ids of the vocabulary, from root 1 what words are made of; from root 2, of WordPiece, what comes after ##; of
    // byte-level BPE tokens that are not written as bytes, such as <｜begin｜>: no word is one
    ByteTree tree;
    std::vector<bool> unwritten;                     // id → is it such a one?
    std::unordered_map<int32_t, std::string> shown;  // added tokens that are another text after normalisation
    int32_t byte_id[256];
    int32_t vocab_size = 0;          // without added tokens that are not in it
    int32_t role_id[7];              // of each Role; −1: none
    std::vector<bool> special_id;    // id → is it a special token?
    bool cuts_before_marks = false;  // no token goes on from another character to a ▁: each run of them begins a word
    bool fast = false;               // BERT's rules, and no added token is looked for after normalisation
    uint64_t serial = 0;             // of this vocabulary among all that were built: what the caches of words belong to

    int32_t of_role(Role role) const {
        if (role_id[role] < 0)
            fail("%s: expected a%s %s, found none in tokenizer_config.json nor elsewhere: this is no tokenizer of %s",
                files.dir.c_str(), role == EOS ? "n" : "", role_names[role], role == EOS ? "a decoder" : "an encoder");
        return role_id[role];
    }
    // Fails unless encoders can read with it
    void check_encoder() const {
        for (Role role : {CLS, SEP, PAD, MASK}) of_role(role);
        if (single[0] < 0 || std::count(pair.begin(), pair.end(), -1) != 1 ||
            std::count(pair.begin(), pair.end(), -2) != 1)
            fail(
                "%s/tokenizer.json: post_processor: expected tokens before a text, and before a pair of texts, found "
                "%s",
                files.dir.c_str(), dump_json(template_of(single, pair)).c_str());
    }
    bool cuts_left() const { return json_text(files.config, files.dir, "truncation_side", "right") == "left"; }
    // How many tokens stand around a text, or around two
    size_t added(bool two) const { return two ? pair.size() - 2 : single.size() - 1; }
    // Files without tokenizer.json, of which transformers makes a RobertaTokenizer
    bool is_roberta() const {
        const std::string type = json_text(files.config, files.path("tokenizer_config.json"), "tokenizer_class");
        const bool named = starts_with(type, "RobertaTokenizer");
        const Json* model_type = files.model.find("model_type");
        return !files.find("tokenizer.json") && (named || (type.empty() && model_type && model_type->s == "roberta"));
    }
    int32_t id_of(std::string_view token) const {  // −1: not in the vocabulary
        return has_sharps(token) ? tree.find(2, token.substr(2)) : tree.find(1, token);
    }
    // The same of a token as files write it
    int32_t id_of_name(const std::string& name) const {
        std::string bytes;
        if (model == WORDPIECE || !byte_level) return id_of(name);
        return byte_names.bytes(name, bytes) ? id_of(bytes) : tree.find(2, name);
    }
    std::string name(int32_t id) const {
        const bool written = model == BPE && byte_level && id < vocab_size && !unwritten[id];
        return written ? byte_names.name(tokens[id]) : tokens[id];
    }
    static size_t end_of_marks(std::string_view text, size_t at) {
        while (text.substr(at, 3) == mark) at += 3;
        return at;
    }

    // `where` begins the message of an error
    void build_index(const std::string& where) {
        size_t bytes = 0;
        for (const std::string& t : tokens) bytes += t.size();
        // A word can begin with ## itself where "#" is no word alone
        const bool both = model == WORDPIECE && !are_berts();
        tree.reset(both ? 2 * bytes : bytes, where);
        vocab_size = (int32_t)tokens.size();
        unwritten.resize(vocab_size);
        for (int32_t id = 0; id < vocab_size; id++) {
            const std::string& t = tokens[id];
            if (t.empty()) fail("%s: line %d: expected a token, found an empty line", where.c_str(), id + 1);
            const bool continues = has_sharps(t);
            int32_t& place = tree.at(continues || unwritten[id] ? 2 : 1, std::string_view(t).substr(continues ? 2 : 0));
            if (place >= 0)
                fail(
                    "%s: line %d: the token %s stands in line %d already", where.c_str(), id + 1, t.c_str(), place + 1);
            place = id;
            if (continues && both) tree.at(1, t) = id;
        }
    }
    void index_added() {
        special.added.build([&](const std::string& t) { return normalized(t); });
        fast = model == WORDPIECE && are_berts() && !special.added.any_normalized;
    }
    void build(const std::string& where) {
        build_index(where);
        if (model == BPE) build_bytes(where);
        else
            for (int s = 0; s < 5; s++) {
                std::string& name = special.roles[special_roles[s]];
                if (name.empty()) name = special_names[s];
                // tokenizer.json says itself which of them are cut out of a text
                if (files.all.kind == Json::null) special.set_default(special_roles[s], special_names[s]);
                if (id_of(name) < 0 && special.added.id_of(name) < 0)
                    fail("%s: expected the token %s, found none: this is no BERT vocabulary", where.c_str(),
                        name.c_str());
            }
        special.added.number(
            tokens.size(), [&](const std::string& content) { return id_of_name(content); },
            [&](const std::string& content) { tokens.push_back(content); });
        index_added();
        special_id.assign(tokens.size(), false);
        shown.clear();
        for (const AddedToken& t : special.added.tokens) {
            special_id[t.id] = t.special;
            if (model == BPE && t.normalized && normalized(t.content) != t.content) shown[t.id] = normalized(t.content);
        }
        for (int r = 0; r < 7; r++) {
            const std::string& name = special.roles[r];
            role_id[r] = special.added.id_of(name);
            if (model == WORDPIECE && role_id[r] < 0) role_id[r] = id_of(name);
            if (model == WORDPIECE && role_id[r] >= 0) special_id[role_id[r]] = true;
        }
        if (model == WORDPIECE) {
            unk = role_id[UNK];
            single = {cls(), -1, sep()};
            pair = {cls(), -1, sep(), -2, sep()};
        } else {
            special.find_stops(files, tokens.size());
            int32_t& eot = role_id[EOS];
            if (eot < 0) eot = special.stops.empty() ? special.added.id_of(eot_name) : special.stops[0];
            build_merges();
        }
        static std::atomic<uint64_t> built{0};
        serial = ++built;
    }
    void build_bytes(const std::string& where) {
        std::string missing;
        for (int b = 0; b < 256; b++) {
            byte_id[b] = id_of(byte_level ? std::string(1, (char)b) : format("<0x%02X>", b));
            if (byte_id[b] < 0) missing = format("0x%02x (%s)", b, byte_names.name(std::string(1, (char)b)).c_str());
        }
        // GPT-2's own files have all bytes; other vocabularies may leave some out, which then become unk_token or
        // nothing, as in tokenizers
        if (!missing.empty() && (byte_fallback || files.all.kind == Json::null) && (byte_level || byte_fallback))
            fail("%s: expected a token for each of the 256 bytes, found none for %s: this is no %s vocabulary",
                where.c_str(), missing.c_str(), byte_level ? "byte-level" : "byte_fallback");
    }
    std::string merge_where(size_t merge) const { return merge_place + std::to_string(first_merge + merge); }
    void build_merges() {
        table.reset(merges.size());
        cuts_before_marks = !byte_level && id_of(mark) >= 0;
        for (size_t i = 0; i < merges.size(); i++) {
            auto [left, right] = merges[i];
            const std::string both = tokens[left] + tokens[right];
            const int32_t joined = id_of(both);
            if (joined < 0)
                fail("%s: expected the pair %s %s to make a token, found no %s in the vocabulary",
                    merge_where(i).c_str(), name(left).c_str(), name(right).c_str(),
                    (name(left) + name(right)).c_str());
            if (const MergeTable::Merge* m = table.find(left, right))
                fail("%s: the pair %s %s stands in %s already", merge_where(i).c_str(), name(left).c_str(),
                    name(right).c_str(), merge_where(m->rank).c_str());
            if (is_special(left) || is_special(right) || is_special(joined)) continue;  // never comes out of text
            table.add(left, right, (int32_t)i, joined);
            cuts_before_marks = cuts_before_marks && both.find(mark, end_of_marks(both, 0)) == both.npos;
        }
    }

    // ------------------------------------------------------------ text → words
    // What the normalizer makes of a text, or of a piece of one. WordPiece drops bytes that are not UTF-8.
    std::string normalized(std::string_view raw, Steps::Place place = Steps::FIRST) const {
        std::string text;
        if (model == BPE) text = raw;
        else append_utf8(text, code_points(raw));
        return normalizer.normalized(std::move(text), place);
    }
    // Calls word(bytes, length) for every word, normalised, and found(id) for every added token, in order. The pointer
    // is good during the call only. place: GOES_ON if the text was cut off from what came before. Returns how many
    // bytes were not UTF-8.
    template <class Word, class Found> size_t for_each_word(std::string_view text, Word&& word, Found&& found,
        Specials specials = SPECIALS_PARSED, Steps::Place place = Steps::FIRST) const {
        const bool stays = fast || (model == BPE && normalizer.steps.empty());
        const char* begin = nullptr;  // of what the normalizer gave, if it is the text's first
        auto place_of = [&](const char* p, const char* first) { return p == first ? place : Steps::LATER; };
        auto normalize = [&](std::string_view raw, std::string& room) {
            const std::string_view s = stays ? raw : (room = normalized(raw, place_of(raw.data(), text.data())));
            begin = raw.data() == text.data() ? s.data() : nullptr;
            return s;
        };
        auto piece = [&](std::string_view s) {
            fast ? bert_words(s, normalizer, words, word) : words.split(s, place_of(s.data(), begin), word);
        };
        special.added.split(text, specials == SPECIALS_AS_TEXT, normalize, piece, found);
        return count_invalid(text);
    }

    // ------------------------------------------------------------ words → ids
    bool too_long(std::string_view word) const {  // for WordPiece
        return word.size() > max_word_chars && code_points(word).size() > max_word_chars;
    }
    void encode_wordpiece(std::string_view word, std::vector<int32_t>& ids) const {
        const size_t first = ids.size();
        const char *w = word.data(), *end = w + word.size(), *match = w;
        if (too_long(word)) return ids.push_back(unk);
        for (uint32_t root = 1; w < end; root = 2, w = match) {
            const int32_t longest = tree.longest(root, w, end, match);
            if (longest < 0) {
                ids.resize(first);
                return ids.push_back(unk);
            }
            ids.push_back(longest);
        }
    }
    void encode_bpe(std::string_view word, std::vector<int32_t>& ids, MergeTable::Room& room) const {
        if (ignore_merges)
            if (int32_t id = id_of(word); id >= 0 && !is_special(id)) return ids.push_back(id);
        // A token for each byte or character, or what stands for it where it has none
        room.piece.clear();
        bool unknown = false;  // what came before
        for (const char *p = word.data(), *end = p + word.size(); p < end;) {
            const char* at = p++;
            if (!byte_level) next_code_point(p = at, end);
            const int32_t id = byte_level ? byte_id[(uint8_t)*at] : id_of({at, (size_t)(p - at)});
            const bool fused = unknown && fuse_unk;
            unknown = id < 0 && !byte_fallback;
            if (id >= 0) room.piece.push_back(id);
            else if (byte_fallback)
                for (; at < p; at++) room.piece.push_back(byte_id[(uint8_t)*at]);
            else if (unk >= 0 && !fused) room.piece.push_back(unk);
        }
        table.merge(room, ids);
    }

    // ------------------------------------------------------------ text → ids → text
    // Appends the ids of `text`, without what the post-processor adds. Returns how many bytes are not UTF-8. Safe to
    // call from several threads.
    size_t encode(std::string_view text, std::vector<int32_t>& ids, Specials specials = SPECIALS_PARSED,
        Steps::Place place = Steps::FIRST) const {
        if (text.size() > INT32_MAX)
            fail("cannot encode a text of %zu bytes at once: expected less than 2 GB", text.size());
        auto found = [&](int32_t id) { ids.push_back(id); };
        if (model == WORDPIECE) {
            auto word = [&](const char* w, size_t n) { encode_wordpiece({w, n}, ids); };
            return for_each_word(text, word, found, specials, place);
        }
        static thread_local WordCache cache;
        static thread_local MergeTable::Room room;
        auto encode_new = [&](std::string_view w, std::vector<int32_t>& out) { encode_bpe(w, out, room); };
        auto known_word = [&](std::string_view w) {
            w.size() > WordCache::longest ? encode_new(w, ids) : cache.find(w, serial, ids, encode_new);
        };
        auto word = [&](const char* w, size_t n) {
            const std::string_view all(w, n);
            if (!cuts_before_marks) return known_word(all);
            for (size_t begin = 0, end; begin < n; begin = end) {
                end = std::min(all.find(mark, end_of_marks(all, begin)), n);
                known_word(all.substr(begin, end - begin));
            }
        };
        return for_each_word(text, word, found, specials, place);
    }
    std::vector<int32_t> encode(std::string_view text, Specials specials = SPECIALS_PARSED) const {
        std::vector<int32_t> ids;
        encode(text, ids, specials);
        return ids;
    }
    // Calls on_text(part) and on_token(id) for the parts of a text between added tokens and these, in order.
    template <class OnText, class OnToken>
    void each_added(std::string_view text, OnText&& on_text, OnToken&& on_token) const {
        special.added.split(text, false, [](std::string_view t, std::string&) { return t; }, on_text, on_token);
    }
    // The text of the ids. WordPiece: pieces joined to words, words by spaces, none before . , ! ? (as transformers
    // does). BPE: every byte of it: a character whose bytes are not all there is not UTF-8. begins: the first of them
    // begins a text, so that SentencePiece's space before it goes. skip_special: without special tokens
    std::string decode(const int32_t* ids, size_t n, bool begins = true, bool skip_special = false) const {
        std::string out;
        bool first = begins;
        for (size_t i = 0; i < n; i++) {
            if (skip_special && is_special(ids[i])) continue;
            if ((uint32_t)ids[i] >= size())
                fail("cannot decode id %d: the vocabulary has ids 0 to %zu", ids[i], size() - 1);
            auto other = shown.empty() ? shown.end() : shown.find(ids[i]);
            const std::string& t = other != shown.end() ? other->second : tokens[ids[i]];
            const bool is_byte = decodes_bytes && starts_with(t, "<0x");
            const int byte = is_byte ? std::find(byte_id, byte_id + 256, ids[i]) - byte_id : 256;
            if (model == WORDPIECE) {
                const bool continues = !first && starts_with(t, "##");
                if (!first && !continues && !strchr(".,!?", t[0])) out += ' ';
                out.append(t, continues ? 2 : 0);
            } else if (byte < 256) {
                out += (char)byte;
            } else if (byte_level) {
                out += t;
            } else {
                for (size_t at = 0, end; at < t.size(); at = end + 3) {
                    end = std::min(t.find(mark, at), t.size());
                    out.append(t, at, end - at);
                    if (end < t.size() && !(first && strips_first_token)) out += ' ';
                }
            }
            first = false;
        }
        if (begins && strips_space && !out.empty() && out[0] == ' ') out.erase(0, 1);
        return out;
    }
    std::string decode(const std::vector<int32_t>& ids) const { return decode(ids.data(), ids.size()); }

    // What decides about the ids besides tokens and merges, as a text; "" where it is BERT's or GPT-2's own
    std::string rules() const {
        std::string r;
        auto is_berts = [](const std::string& t) {
            return std::find(special_names, special_names + 5, t) != special_names + 5;
        };
        if (model == WORDPIECE) {
            if (!are_berts())
                for (const char* key : {"normalizer", "pre_tokenizer"})
                    if (const Json* rule = files.all.find(key)) r += dump_json(*rule);
            for (int s = 0; s < 5; s++) {
                const int32_t id = role_id[special_roles[s]];
                if (tokens[id] != special_names[s] || !special.added.find(special_names[s]))
                    r += format("%s %d", role_names[special_roles[s]], id);
            }
            for (const AddedToken& t : special.added.by_id())
                if (!is_berts(t.content) || t.flags() != "10000")
                    r += format("%s %d %s", t.content.c_str(), t.id, t.flags().c_str());
            return r;
        }
        r = format("%d%d%d%d %d ", byte_level, byte_fallback, ignore_merges, fuse_unk, unk) + normalizer.description() +
            "/" + words.description();
        for (AddedToken t : special.added.by_id()) {
            t.normalized = t.normalized && !normalizer.steps.empty();
            r += format(" %zu", t.content.size()) + t.flags() + t.content;
        }
        return r == "1000 -1 /gpt2; 1310000<|endoftext|>" ? "" : r;
    }
    // A hash of all that decides about the ids: data files carry it, so that no program trains on ids of another
    // tokenizer
    uint64_t fingerprint() const {
        const Step first = normalizer.steps.empty() ? Step{Step::BERT} : normalizer.steps[0];
        const char flags[3] = {first.lower_case, first.strip_accents, first.split_cjk};
        uint64_t h = model == BPE ? fnv1a("bpe", 3) : fnv1a(flags, 3, fnv1a("wordpiece", 9));
        for (const std::string& t : tokens) {
            uint32_t n = t.size();
            h = model == BPE ? fnv1a(t.data(), n, fnv1a(&n, 4, h)) : fnv1a(t.c_str(), n + 1, h);
        }
        for (auto [left, right] : merges) h = fnv1a(&right, 4, fnv1a(&left, 4, h));
        const std::string r = rules();
        return r.empty() ? h : fnv1a(r.data(), r.size(), h);
    }

    // ------------------------------------------------------------ directories
    static Tokenizer load(const std::string& dir) {
        TokenizerFiles f = TokenizerFiles::read(dir);
        auto either = [&](const char* name, const char* older) { return f.find(name) ? name : older; };
        const char *vocab = either("vocab.json", "encoder.json"), *merges = either("merges.txt", "vocab.bpe");
        const std::string *lines = f.find("vocab.txt"), all = f.path("tokenizer.json");
        const bool has_all = f.all.kind == Json::object, of_bpe = f.find(vocab) || f.find(merges);
        const Json *rules = f.all.find("model"), *type = rules ? rules->find("type") : nullptr;
        const bool says_bpe = type ? type->s == "BPE" : rules && rules->find("merges");
        const bool bpe = !lines && (of_bpe || f.find("tokenizer.model") || says_bpe);

        Tokenizer t(bpe ? BPE : WORDPIECE);
        t.special = SpecialTokens::read(f);
        t.files = std::move(f);
        std::string where = lines ? t.files.path("vocab.txt") : all;
        if (lines)
            for (std::string_view line : TokenizerFiles::lines(*t.files.find("vocab.txt"))) t.tokens.emplace_back(line);
        if (has_all) {
            t.merge_place = all + ", merge ";
            t.read_all(t.files.all, all);
        } else if (bpe && t.files.find(vocab) && t.files.find(merges)) {
            where = t.files.path(vocab);
            t.read_stock(vocab, merges);
        } else if (of_bpe) {
            const bool has_vocab = t.files.find(vocab);
            fail("%s: expected %s beside %s, found none", dir.c_str(),
                has_vocab ? "merges.txt or vocab.bpe" : "vocab.json or encoder.json",
                t.files.path(has_vocab ? vocab : merges).c_str());
        } else if (bpe) {
            fail(
                "%s: expected tokenizer.json beside tokenizer.model, found none; make it with: data/pretrained.py %s "
                "--out ANOTHER_DIR",
                dir.c_str(), dir.c_str());
        } else if (!lines) {
            fail(
                "%s: expected tokenizer.json, vocab.txt, or vocab.json and merges.txt, found none; make them with: "
                "data/tokenize learn --out %s FILE",
                dir.c_str(), dir.c_str());
        }
        t.read_config(has_all);
        t.build(where);
        t.read_post_processor(t.files.all.find("post_processor"), all + ": post_processor");
        if (t.model == BPE) {
            t.read_decoder(t.files.all.find("decoder"), all + ": decoder");
            t.files.all = Json();  // files.bytes has it
        }
        return t;
    }

    // vocab.json and merges.txt, which say nothing about rules: those are what transformers' class of this name has
    void read_stock(const char* vocab_name, const char* merges_name) {
        const std::string where = files.path(vocab_name), config = files.path("tokenizer_config.json");
        const std::string type = json_text(files.config, config, "tokenizer_class", "GPT2Tokenizer");
        const std::string slow = ends_with(type, "Fast") ? type.substr(0, type.size() - 4) : type;
        const bool qwen2 = slow == "Qwen2Tokenizer", roberta = is_roberta();
        if (!qwen2 && !roberta && slow != "GPT2Tokenizer" && slow != "PreTrainedTokenizer")
            fail(
                "%s: tokenizer_class: expected GPT2Tokenizer, Qwen2Tokenizer or RobertaTokenizer where there is no "
                "tokenizer.json, found %s",
                config.c_str(), slow.c_str());
        const Json vocab = parse_json(*files.find(vocab_name), where);
        for (auto [role, name] : {std::pair{BOS, "<s>"}, {EOS, "</s>"}, {UNK, "<unk>"}, {SEP, "</s>"}, {PAD, "<pad>"},
                 {CLS, "<s>"}, {MASK, "<mask>"}})
            if (roberta) special.set_default(role, name);
        auto is_object = [](const Json& from) { return from.find("mask_token") && from.find("mask_token")->s.empty(); };
        for (AddedToken& t : special.added.tokens)  // " <mask>" is one token, as for RoBERTa's own tokenizer.json
            if (roberta && t.content == special.roles[MASK] && t.id < 0)
                t.lstrip = t.lstrip || !(is_object(files.config) || is_object(files.special_map));
        if (!contains(read_vocab(vocab, where), std::string(eot_name)) && special.roles[EOS].empty())
            fail("%s: expected the token %s, found none: this is no GPT-2 vocabulary", where.c_str(), eot_name);
        for (Role role : {BOS, EOS, UNK})
            if (!roberta && (!qwen2 || role != BOS)) special.set_default(role, eot_name);

        std::vector<std::string_view> lines = TokenizerFiles::lines(*files.find(merges_name));
        const size_t first = !lines.empty() && starts_with(lines[0], "#version");  // line with a pair, from 0
        merge_place = files.path(merges_name) + ", line ";
        first_merge = first + 1;
        if (!lines.empty() && lines.back().empty()) lines.pop_back();
        Json pairs = Json::make_array();
        for (size_t i = first; i < lines.size(); i++) pairs.a.push_back(std::string(lines[i]));
        words.steps = {{qwen2 ? Step::QWEN2 : Step::GPT2}};
        if (json_flag(files.config, config, "add_prefix_space", false))
            words.steps.insert(words.steps.begin(), {Step::PREFIX, "", " "});
        if (qwen2) normalizer.steps = {{Step::NFC}};
        read_bpe(Json().set("vocab", vocab).set("merges", pairs), "", where);
    }

    // tokenizer.json: its model, normalizer and pre_tokenizer
    void read_all(const Json& json, const std::string& where) {
        refuse_unknown_keys(json, where,
            {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                "decoder", "model"});
        const bool bpe = model == BPE;
        const Json *m = json_member(json, where, "model", Json::object), none;
        const std::string expected = bpe ? "BPE" : "WordPiece";
        const std::string found = m ? json_text(*m, where, "type", expected.c_str()) : "none";
        const Json* vocab = m ? json_member(*m, where, "vocab", Json::object) : nullptr;
        if (found != expected || !vocab)
            fail("%s: expected a model of type %s with a vocab, found %s", where.c_str(),
                found == "BPE" || found == "WordPiece" ? expected.c_str() : "BPE or WordPiece", found.c_str());
        std::vector<std::string_view> keys = {"type", "vocab", "unk_token", "continuing_subword_prefix"};
        if (!bpe) keys.push_back("max_input_chars_per_word");
        else
            keys.insert(
                keys.end(), {"dropout", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "merges"});
        refuse_unknown_keys(*m, where + ": model", keys);
        std::vector<std::pair<const char*, Json>> values = {
            {"continuing_subword_prefix", "##"}, {"max_input_chars_per_word", (int)max_word_chars}};
        if (bpe) values = {{"dropout", {}}, {"continuing_subword_prefix", {}}, {"end_of_word_suffix", {}}};
        for (const auto& [key, value] : values) {
            const Json* v = m->find(key);
            const bool empty = v && bpe && (v->kind == Json::string ? v->s.empty() : v->d == 0);
            if (v && !empty && !same_json(*v, value))
                fail("%s: model: %s: expected %s, found %.60s: tokenizers with this rule are not supported",
                    where.c_str(), key, bpe ? "none" : dump_json(value).c_str(), dump_json(*v).c_str());
        }
        const std::string unknown = json_text(*m, where, "unk_token", bpe ? "" : "[UNK]");
        const char* cuts = "ByteLevel, Digits, Split, Metaspace";
        if (!bpe) cuts = "BertPreTokenizer, Whitespace, WhitespaceSplit, Punctuation, Digits";
        words = read_steps(json, where, "pre_tokenizer", cuts);
        normalizer = read_steps(json, where, "normalizer",
            bpe ? "NFC, Prepend, Replace" : "BertNormalizer, Lowercase, StripAccents, NFC, NFD, NFKC, NFKD, Replace");
        byte_level = words.byte_level;
        bpe ? read_bpe(*m, unknown, where) : read_wordpiece(*m, unknown, where);
    }
    void read_wordpiece(const Json& m, const std::string& unknown, const std::string& where) {
        const std::vector<std::string> lines = std::move(tokens);  // of vocab.txt, if it is there
        tokens = read_vocab(*m.find("vocab"), where);
        for (size_t id = 0; !lines.empty() && id < std::max(lines.size(), tokens.size()); id++)
            if (id >= lines.size() || id >= tokens.size() || lines[id] != tokens[id])
                fail("%s: the token %zu is %s, in %s it is %s", files.path("vocab.txt").c_str(), id,
                    id < lines.size() ? lines[id].c_str() : "none", where.c_str(),
                    id < tokens.size() ? tokens[id].c_str() : "none");
        std::string& named = special.roles[UNK];
        if (!named.empty() && named != unknown)
            fail(
                "%s: model: the token %s; expected %s, which is unk_token in tokenizer_config.json or "
                "special_tokens_map.json",
                where.c_str(), unknown.c_str(), named.c_str());
        named = unknown;
        // Files are read in parts that end with a line: where a word can go on there, it must not matter
        if (!words.has(Step::BERT_WORDS) && !words.has(Step::WHITESPACE) && !words.has(Step::WHITESPACE_SPLIT))
            fail(
                "%s: pre_tokenizer: expected BertPreTokenizer, Whitespace or WhitespaceSplit, alone or in a Sequence, "
                "found neither",
                where.c_str());
    }
    void read_bpe(const Json& m, const std::string& unknown, const std::string& file) {
        const Json* list = json_member(m, file + ": model", "merges", Json::array);
        if (!list) fail("%s: expected a model of type BPE with merges, found none", file.c_str());
        byte_fallback = json_flag(m, file, "byte_fallback", false) && !byte_level;
        ignore_merges = json_flag(m, file, "ignore_merges", false);
        fuse_unk = json_flag(m, file, "fuse_unk", false);
        tokens = read_vocab(*m.find("vocab"), file);
        unwritten.assign(tokens.size(), false);
        std::string bytes;
        for (size_t id = 0; byte_level && id < tokens.size(); id++) {
            unwritten[id] = !byte_names.bytes(tokens[id], bytes);
            if (!unwritten[id]) tokens[id] = bytes;
            else if (!special.added.find(tokens[id]))
                fail(
                    "%s: expected bytes as printable characters in the token of id %zu, found \"%s\": this is no "
                    "byte-level vocabulary",
                    file.c_str(), id, tokens[id].c_str());
        }
        build_index(file);
        unk = unknown.empty() ? -1 : id_of_name(unknown);
        if (!unknown.empty() && unk < 0)
            fail("%s: model: the unk_token %s is not in the vocabulary", file.c_str(), unknown.c_str());
        if (!byte_level && !byte_fallback && unk < 0)
            fail(
                "%s: model: expected byte_fallback or an unk_token, found none: characters without a token would be "
                "lost",
                file.c_str());
        for (const Json& pair : list->a) {  // "left right" or ["left", "right"]
            const size_t space = std::min(pair.s.find(' '), pair.s.size());
            const bool two = pair.a.size() == 2;
            const std::string left = two ? pair.a[0].s : pair.s.substr(0, space);
            const std::string right = two ? pair.a[1].s : pair.s.substr(std::min(space + 1, pair.s.size()));
            merges.push_back({id_of_name(left), id_of_name(right)});
            if (merges.back().first < 0 || merges.back().second < 0)
                fail("%s: expected two tokens of the vocabulary with a space between them, found \"%.60s\", \"%.60s\"",
                    merge_where(merges.size() - 1).c_str(), left.c_str(), right.c_str());
        }
    }

    // What tokenizer_config.json says about rules, before build()
    void read_config(bool has_all) {
        const Json& c = files.config;
        const std::string where = files.path("tokenizer_config.json"), all = files.path("tokenizer.json");
        const std::string kind = json_text(c, where, "tokenizer_class");
        if (model == WORDPIECE && !has_all && !is_bert_class(kind))
            fail(
                "%s: the rules of the tokenizer_class %s are not known here; expected BertTokenizer or one like it, or "
                "tokenizer.json, which has the rules",
                where.c_str(), kind.c_str());
        const bool adds = words.has(Step::PREFIX) || words.has(Step::PREFIX_FIRST) || normalizer.has(Step::PREPEND);
        for (auto [key, of, expected, why] :
            {std::tuple{"split_special_tokens", model, false, "programs say themselves which special tokens are text"},
                {"add_prefix_space", BPE, adds, "the rules of tokenizer.json have it so"},
                {"do_basic_tokenize", WORDPIECE, true, "words come before their pieces"}})
            if (of == model && json_flag(c, where, key, expected) != expected)
                fail("%s: %s: expected %s, found %s: %s", where.c_str(), key, expected ? "true" : "false",
                    expected ? "false" : "true", why);
        const Json* never = json_member(c, where, "never_split", Json::array);
        if (never && !never->a.empty())
            fail("%s: never_split: expected nothing, found %.60s; make them added tokens", where.c_str(),
                dump_json(*never).c_str());
        if (normalizer.description() != "BertNormalizer;" || (has_all && is_generic(kind))) return;
        Step& bert = normalizer.steps[0];
        const Json* rule = files.all.find("normalizer");
        const bool given = rule && json_member(*rule, all, "strip_accents", Json::boolean);
        bert.lower_case = json_flag(c, where, "do_lower_case", bert.lower_case);
        bert.strip_accents = json_flag(c, where, "strip_accents", given ? bert.strip_accents : bert.lower_case);
        bert.split_cjk = json_flag(c, where, "tokenize_chinese_chars", bert.split_cjk);
    }
    // Do they split words as BERT's does? (BertJapaneseTokenizer, PhobertTokenizer, EsmTokenizer also have vocab.txt.)
    static bool is_bert_class(const std::string& name) {
        for (const char* model : {"Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert", "ConvBert", "LayoutLM",
                 "RetriBert", "Lxmert", "MPNet", "RemBert"})
            if (name == std::string(model) + "Tokenizer" || name == std::string(model) + "TokenizerFast") return true;
        return name.empty() || is_generic(name);
    }
    static bool is_generic(const std::string& name) {  // a class of whatever tokenizer.json has
        return name == "PreTrainedTokenizerFast" || name == "TokenizersBackend";
    }

    // After build(): single, pair, add_bos
    void read_post_processor(const Json* rule, const std::string& where) {
        if (model == WORDPIECE) {
            const Json both = post_processor(), one = Json(both).set("pair", Json::make_array());
            const Json bert = Json().set("type", "BertProcessing").set("sep", named(sep())).set("cls", named(cls()));
            const bool given = rule && rule->kind != Json::null;
            if (given && !same_json(*rule, both) && !same_json(*rule, one) && !same_json(*rule, bert))
                refuse_rule(where, *rule, dump_json(both));
            return;
        }
        for (const Json& r : rules_of(rule, where, "processors")) {
            const std::string type = json_text(r, where, "type");
            if (type == "ByteLevel") continue;
            if (single.size() > 1) refuse_rule(where, r, "one rule that adds tokens");
            if (type == "RobertaProcessing") {
                refuse_unknown_keys(r, where, {"type", "sep", "cls", "trim_offsets", "add_prefix_space"});
                auto id = [&](const char* key) {
                    const Json* token = json_member(r, where, key, Json::array);
                    if (!token || token->a.size() != 2) refuse_rule(where, r, "[\"token\", id] for cls and for sep");
                    return known_id(token->a[1], where, r);
                };
                read_roberta(id("cls"), id("sep"));
            } else if (type == "TemplateProcessing") {
                refuse_unknown_keys(r, where, {"type", "single", "pair", "special_tokens"});
                single = read_template(r, where, "single");
                pair = read_template(r, where, "pair");
                if (std::count(single.begin(), single.end(), -1) != 1 || contains(single, -2))
                    refuse_rule(where, r, "one text in its \"single\"");
            } else {
                refuse_rule(where, r, "ByteLevel, TemplateProcessing, RobertaProcessing, a Sequence of them or null");
            }
        }
        if (is_roberta()) read_roberta(cls(), sep());
        const std::string config = files.path("tokenizer_config.json");
        auto flag = [&](const char* key) { return json_flag(files.config, config, key, false); };
        const bool bos = flag("add_bos_token"), eos = flag("add_eos_token");
        if (files.config.find("add_bos_token") || files.config.find("add_eos_token")) {
            // no matter what tokenizer.json says, as transformers
            single = {-1};
            if (bos && role_id[BOS] >= 0) single.insert(single.begin(), role_id[BOS]);
            if (eos && role_id[EOS] >= 0) single.push_back(role_id[EOS]);
        }
        add_bos = single[0] >= 0;
    }
    Json named(int32_t id) const { return Json::make_array({tokens[id], id}); }
    void read_roberta(int32_t c, int32_t s) {
        single = {c, -1, s};
        pair = {c, -1, s, s, -2, s};
        pair_type = 0;
    }
    int32_t known_id(const Json& id, const std::string& where, const Json& rule) const {
        if (id.kind != Json::integer || id.i < 0 || (size_t)id.i >= size())
            refuse_rule(where, rule, format("ids from 0 to %zu", size() - 1));
        return (int32_t)id.i;
    }
    std::vector<int32_t> read_template(const Json& rule, const std::string& where, const char* key) {
        std::vector<int32_t> out;
        const Json *list = json_member(rule, where, key, Json::array), none;
        const Json* known = json_member(rule, where, "special_tokens", Json::object);
        for (const Json& part : list ? list->a : none.a) {
            const Json *text = part.find("Sequence"), *token = text ? text : part.find("SpecialToken");
            const std::string name = token ? json_text(*token, where, "id") : "";
            const Json* entry = known && !text ? known->find(name) : nullptr;
            const Json* ids = entry ? json_member(*entry, where, "ids", Json::array) : nullptr;
            if (text && name == "B") pair_type = text->find("type_id") && text->find("type_id")->i == 1;
            if (text) out.push_back(name == "B" ? -2 : -1);
            else if (!ids) refuse_rule(where, rule, "the ids of its special tokens");
            for (const Json& id : ids ? ids->a : none.a) out.push_back(known_id(id, where, rule));
        }
        return out;
    }

    void read_decoder(const Json* rule, const std::string& where) {
        bool spaces = false, fused = false;
        for (const Json& r : rules_of(rule, where, "decoders")) {
            const std::string type = json_text(r, where, "type");
            auto is = [&](const char* text) { return same_json(r, parse_json(text, where)); };
            if (byte_level) {
                if (type != "ByteLevel") refuse_rule(where, r, "ByteLevel");
            } else if (type == "Metaspace" && json_text(r, where, "replacement") == mark) {
                spaces = true;
                strips_first_token = json_flag(r, where, "add_prefix_space", true) &&
                                     json_text(r, where, "prepend_scheme", "always") != "never";
            } else if (is(R"({"type": "Replace", "pattern": {"String": "▁"}, "content": " "})")) {
                spaces = true;
            } else if (type == "ByteFallback") {
                decodes_bytes = true;
            } else if (type == "Fuse") {
                fused = true;
            } else if (fused && is(R"({"type": "Strip", "content": " ", "start": 1, "stop": 0})")) {
                strips_space = true;
            } else {
                refuse_rule(where, r,
                    "Metaspace, or a Sequence of Replace ▁ by a space, ByteFallback, Fuse and Strip of one "
                    "space at the beginning");
            }
        }
        if (!byte_level && !spaces)
            fail("%s: expected Metaspace or Replace, which make spaces of ▁, found neither", where.c_str());
    }

    // ------------------------------------------------------------ saving
    static Json byte_level_rule(bool adds_space, bool by_expression) {
        const Json rule = Json().set("type", "ByteLevel").set("add_prefix_space", adds_space);
        return Json(rule).set("trim_offsets", true).set("use_regex", by_expression);
    }
    // The post-processor of two such lists
    Json template_of(const std::vector<int32_t>& single, const std::vector<int32_t>& pair) const {
        Json out = Json().set("type", "TemplateProcessing"), known = Json::make_object();
        for (const auto* ids : {&single, &pair}) {
            Json list = Json::make_array();
            int type = 0;
            for (int32_t id : *ids) {
                type |= id == -2;
                const Json name = id == -1 ? "A" : id == -2 ? "B" : tokens[id];
                const Json part = Json().set("id", name).set("type_id", type);
                list.a.push_back(Json().set(id < 0 ? "Sequence" : "SpecialToken", part));
                const Json entry = Json().set("id", name).set("ids", Json::make_array({id}));
                if (id >= 0) known.set(name.s, Json(entry).set("tokens", Json::make_array({name})));
            }
            out.set(ids == &single ? "single" : "pair", list);
        }
        return out.set("special_tokens", known);
    }
    Json post_processor() const {
        if (model == WORDPIECE) return template_of(single, pair);
        const Json bytes = byte_level ? byte_level_rule(false, true) : Json();
        if (!add_bos) return bytes;
        const Json begins = template_of({bos(), -1}, {bos(), -1, -2});  // as transformers reads add_bos
        if (!byte_level) return begins;
        return Json().set("type", "Sequence").set("processors", Json::make_array({bytes, begins}));
    }
    Json vocabulary() const {
        Json vocab = Json::make_object();
        for (int32_t id = 0; id < vocab_size; id++) vocab.o.emplace_back(name(id), id);
        return vocab;
    }
    // tokenizer.json of a tokenizer that has BERT's, GPT-2's or Qwen2's rules
    Json json() const {
        Json all = parse_json(R"({"version": "1.0", "truncation": null, "padding": null})", ""), m, norm, pre, post,
             decoder;
        if (model == WORDPIECE) {
            const Step& bert = normalizer.steps[0];
            norm.set("type", "BertNormalizer").set("clean_text", true).set("handle_chinese_chars", bert.split_cjk);
            norm.set("strip_accents", bert.strip_accents).set("lowercase", bert.lower_case);
            pre.set("type", "BertPreTokenizer");
            post = post_processor();
            decoder.set("type", "WordPiece").set("prefix", "##").set("cleanup", true);
            m.set("type", "WordPiece").set("unk_token", tokens[unk]).set("continuing_subword_prefix", "##");
            m.set("max_input_chars_per_word", (int)max_word_chars).set("vocab", vocabulary());
        } else {
            const bool qwen2 = words.has(Step::QWEN2);
            pre = post = decoder = byte_level_rule(words.has(Step::PREFIX), !qwen2);
            if (is_roberta()) {
                post = Json().set("type", "RobertaProcessing").set("sep", named(sep())).set("cls", named(cls()));
                post.set("trim_offsets", true).set("add_prefix_space", words.has(Step::PREFIX));
            }
            if (qwen2) {
                Json split = Json().set("type", "Split").set("pattern", Json().set("Regex", known_regexes[2].second));
                split.set("behavior", "Isolated").set("invert", false);
                pre = Json().set("type", "Sequence").set("pretokenizers", Json::make_array({split, pre}));
                norm.set("type", "NFC");
            }
            m = parse_json(R"({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false})",
                "");
            Json pairs = Json::make_array();
            for (auto [left, right] : merges) pairs.a.push_back(Json::make_array({name(left), name(right)}));
            m.set("vocab", vocabulary()).set("merges", pairs);
        }
        all.set("added_tokens", special.added.json()).set("normalizer", norm).set("pre_tokenizer", pre);
        return all.set("post_processor", post).set("decoder", decoder).set("model", m);
    }
    // Writes what was loaded, as it was, and tokenizer.json and tokenizer_config.json, so that transformers gives the
    // same ids; of a tokenizer that was learned all its files. max_len: what transformers takes for the model's longest
    // input, where it was more; exactly: in any case
    void save(const std::string& dir, int max_len = 512, bool exactly = false) const {
        const std::string* all = files.find("tokenizer.json");
        const bool changed = model == BPE && add_bos != (single[0] >= 0);  // by a program
        Json config = files.config;
        if (exactly) config.set("model_max_length", max_len);
        auto set_new = [&](const char* key, const Json& value) {
            if (!config.find(key)) config.set(key, value);
        };
        if (model == WORDPIECE) {
            config.set("tokenizer_class", json_text(config, dir, "tokenizer_class", "BertTokenizer"));
            if (are_berts()) {
                const Step& bert = normalizer.steps[0];
                config.set("do_lower_case", bert.lower_case).set("tokenize_chinese_chars", bert.split_cjk);
                config.set("strip_accents", bert.strip_accents == bert.lower_case ? Json() : Json(bert.strip_accents));
            }
            for (int s = 0; s < 5 && !all; s++)
                set_new(role_names[special_roles[s]], tokens[role_id[special_roles[s]]]);
        } else if (is_roberta()) {
            set_new("tokenizer_class", "RobertaTokenizer");
            for (int r = 0; r < 7; r++) set_new(role_names[r], special.roles[r]);
        } else if (config.kind == Json::null) {
            config.set("tokenizer_class", "GPT2Tokenizer");
            if (byte_level) config.set("add_prefix_space", words.has(Step::PREFIX));
            config.set("add_bos_token", add_bos).set("model_max_length", max_len);
            if (role_id[EOS] >= 0) config.set("bos_token", tokens[bos()]).set("eos_token", tokens[eot()]);
            if (!special.roles[UNK].empty()) config.set("unk_token", special.roles[UNK]);
            config.set("clean_up_tokenization_spaces", false);
        }
        // These classes have rules of their own, no matter what tokenizer.json says
        const std::string type = json_text(config, dir, "tokenizer_class");
        const std::string steps = normalizer.description() + "/" + words.description();
        const bool stock = (starts_with(type, "GPT2Tokenizer") && steps == "/gpt2;") ||
                           (starts_with(type, "RobertaTokenizer") && steps == "/gpt2;" && pair.size() == 6) ||
                           (starts_with(type, "Qwen2Tokenizer") && steps == "nfc;/qwen2;");
        if (model == WORDPIECE ? !are_berts() : !stock || !byte_level || ignore_merges || unk >= 0)
            config.set("tokenizer_class", "PreTrainedTokenizerFast");
        if (changed) config.set("add_bos_token", add_bos);
        if (add_bos && single[0] < 0) config.set("bos_token", tokens[bos()]);
        files.save(dir, config, max_len);
        if (changed || !all) {
            Json rules = all ? parse_json(*all, files.path("tokenizer.json")) : json();
            if (changed) rules.set("post_processor", post_processor());  // transformers looks for it there
            write_file_atomic(dir + "/tokenizer.json", dump_json(rules, model == WORDPIECE ? 1 : -1) + "\n");
        }
        if (all || files.find("vocab.txt")) return;
        std::string lines;
        if (model == WORDPIECE) {
            for (const std::string& t : tokens) lines += t + "\n";
            return write_file_atomic(dir + "/vocab.txt", lines);
        }
        lines = "#version: 0.2\n";
        for (auto [left, right] : merges) lines += name(left) + " " + name(right) + "\n";
        write_file_atomic(dir + "/vocab.json", dump_json(vocabulary()) + "\n");
        write_file_atomic(dir + "/merges.txt", lines);
    }
};
