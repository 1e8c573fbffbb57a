// fuzz.cpp: every reader of files under libFuzzer, one program for all: FUZZ=NAME picks the reader, an entry of
// TARGETS.
//
// An input is one file, or several with SEPARATOR between them, in the order in which the target names them. A reader
// may refuse it by an Error of one line; it may not crash, hang, read beyond its memory (the build has AddressSanitizer
// and UBSan) or take memory out of proportion: at most ROOM and TIMES the input's size, counted at every allocation.
#include <sanitizer/allocator_interface.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/data/bin_file.h"
#include "common/device/matmul_plans.h"
#include "common/text/chat_template.h"
#include "common/text/instruct_rows.h"
#include "common/text/labelled_rows.h"
#include "common/text/tokenizer.h"
#include "common/train/bert_config.h"
#include "common/train/gpt_config.h"
#include "common/train/lora.h"
#include "common/train/resume.h"
#include "common/train/run_log.h"
#include "common/train/safetensors.h"
#include "common/train/tensors_io.h"
#include "data/labelled_sources.h"
#include "data/templates.h"

static constexpr char SEPARATOR = '\x1e';  // "record separator": no file of ours has a reason to hold it
static constexpr size_t ROOM = 24 << 20, TIMES = 400;
static std::string dir;       // where the files of an input are written
static volatile double used;  // what is read is used, so that the compiler keeps the reading

static void require(bool ok, const char* what) {
    if (ok) return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

// ---------------------------------------------------------------- what each reader does with its files
static void json() {
    const std::string text = read_file(dir + "/json");
    const Json value = parse_json(text, "json");
    const std::string written = dump_json(value, 1);
    require(dump_json(parse_json(written, "written"), 1) == written, "what is written reads back as another value");
    require(bytes_of_json(json_of_bytes(text).s) == text, "bytes come back from JSON as others");
}
static void members() {
    parse_json(read_text(dir + "/json"), "json", 0, [&](std::string&, Json& value) { used = dump_json(value)[0]; });
}
static void safetensors() {
    SafeTensors file(dir + "/model.safetensors");
    for (const TensorInfo& t : file.tensors) {
        require(file.find(t.name) == &t, "a tensor is not found by its name");
        std::vector<float> values(t.count);
        try {
            file.read(t, values.data());
        } catch (const Error&) {  // integers
        }
        for (float v : values) used = v;
    }
}
// A parameter table, as a model has one, against the tensors that the file has
static void tensors() {
    std::vector<ParamSpec> table(2);
    table[0].names = {"wte.weight"}, table[0].shape = {7, 4};
    table[1].names = {"h.0.q.weight", "h.0.k.weight"}, table[1].shape = {4, 4}, table[1].transpose = true;
    std::vector<float> values(layout(table));
    load_tensors(dir, table, values.data()).refuse_missing(dir);
}
static void bin(BinKind kind) {
    std::string bytes = read_file(dir + "/bin");
    BinHeader header;
    if (bytes.size() >= sizeof header) {  // the checksums are made good, as otherwise nothing else would be reached
        memcpy(&header, bytes.data(), sizeof header);
        header.content = fnv1a(bytes.data() + sizeof header, bytes.size() - sizeof header);
        header.checksum = header.expected_checksum();
        memcpy(&bytes[0], &header, sizeof header);
        write_file_atomic(dir + "/bin", bytes);
    }
    BinFile file(dir + "/bin", kind);
    size_t sum = 0;
    for (size_t s = 0; s < file.sequences(); s++) {
        for (size_t i = 0; i < file.length(s); i++) sum += file.token(s, i);
        if (kind == BIN_CLASSIFY) sum += file.labels[file.label[s]].size() + file.second[s];
        if (kind == BIN_INSTRUCT) sum += file.tasks[file.task[s]].size() + file.span(s, file.spans(s) - 1).end;
        if (kind != BIN_TEXT)
            for (unsigned char c : file.text(s)) sum += c;
    }
    used = sum;
    if (kind == BIN_INSTRUCT) ChatTemplate::from_json(file.templ, "template");
}
static const char* const SAMPLE =
    " Don't  pay 1,234.50\n\nto \xc3\x89t\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 <s>[MASK]\xf0\x9f\x98\x80 \t_\xcc\x81";
static void tokenizer() {
    const Tokenizer t = Tokenizer::load(dir);
    std::vector<int32_t> ids;
    t.encode(SAMPLE, ids);
    for (int32_t id : ids) require(id >= 0 && (size_t)id < t.size(), "an id beyond the vocabulary");
    t.decode(ids);
    t.save(dir + "/saved", 64);
}
static void gpt_config() { read_gpt_config(dir); }
static void bert_config() { read_bert_config(dir); }
static void chat_template() {
    ChatTemplate found;
    if (!ChatTemplate::of_model(dir, found)) return;
    InstructRow row;
    row.turns.resize(1);
    row.turns[0] = {"add 1 and 2", "", "3"};
    row.outputs = {"3"};
    for (const Segment& s : render(found, row, 0, true)) require(s.text.size() < 1 << 20, "a text without end");
    found.jinja("<s>", "</s>");
}
// label: of a file of texts, a line each, which has none of its own
static void labelled(const char* name, const char* label = "") {
    LabelledRows rows({{dir + "/" + name, label}}, LabelledColumns());
    size_t n = 0;
    for (LabelledRow row; rows.next(row);) {
        require(row.error.find('\n') == row.error.npos, "an error of two lines");
        require(++n < 1 << 20, "rows without end");
    }
}
static void instruct() {
    InstructFile file(dir + "/rows.jsonl", true);
    const ChatTemplate alpaca = alpaca_template();
    for (InstructRow row; file.next(row);) {
        require(row.error.find('\n') == row.error.npos, "an error of two lines");
        if (row.error.empty()) render(alpaca, row, 0, true);
    }
}
static void plans() {  // the first line, which has the hash of the others, is made here
    const std::string path = dir + "/plans", lines = read_file(path);
    Json head = Json::make_object();
    head.set("device", "a").set("cublaslt", "1").set("hash", hex(fnv1a(lines.data(), lines.size())));
    head.set("plans", (int64_t)std::count(lines.begin(), lines.end(), '\n'));
    write_file_atomic(path, dump_json(head) + "\n" + lines);
    MatmulPlans().open(path, "a", "1", false);
}
static void adapter() {
    std::vector<ParamSpec> table(1);
    table[0].names = {"transformer.h.0.attn.c_attn.weight"}, table[0].shape = {4, 12}, table[0].transpose = true;
    std::vector<float> values(layout(table));
    merge_adapter(dir, table, values.data());
    ModelPaths paths(dir);
}
static void metrics() {
    const std::string path = dir + "/metrics.jsonl", once = RunLog::kept_lines(path, 100);
    write_file_atomic(path, once);
    require(RunLog::kept_lines(path, 100) == once, "what was kept is not kept again");
}
static void progress() {
    const Progress p = Progress::from_json(parse_json(read_file(dir + "/counters"), "counters"), "counters");
    Progress::from_json(parse_json(dump_json(p.to_json()), "written"), "written");
}
static void run_config() {
    TrainFlags f;
    f.out = dir;
    Cli cli{"fuzz", "", "", {{"train", "", ""}}, f.groups()};
    cli.command = "train";
    resume_flags(cli, f);
}

struct Target {
    const char* name;
    std::vector<const char*> files;
    void (*read)();
};
static const std::vector<const char*> TOKENIZER = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "vocab.txt", "vocab.json", "merges.txt", "config.json", "generation_config.json", "added_tokens.json"};
static const std::vector<Target> TARGETS = {
    {"json", {"json"}, json},
    {"members", {"json"}, members},
    {"safetensors", {"model.safetensors"}, safetensors},
    {"tensors", {"model.safetensors", "model.safetensors.index.json"}, tensors},
    {"bin_text", {"bin"}, [] { bin(BIN_TEXT); }},
    {"bin_classify", {"bin"}, [] { bin(BIN_CLASSIFY); }},
    {"bin_instruct", {"bin"}, [] { bin(BIN_INSTRUCT); }},
    {"wordpiece", TOKENIZER, tokenizer},
    {"bpe", TOKENIZER, tokenizer},
    {"gpt_config", {"config.json", "generation_config.json"}, gpt_config},
    {"bert_config", {"config.json"}, bert_config},
    {"chat_template", {"tokenizer_config.json", "chat_template.jinja", "template.json"}, chat_template},
    {"csv", {"rows.csv"}, [] { labelled("rows.csv"); }},
    {"tsv", {"rows.tsv"}, [] { labelled("rows.tsv"); }},
    {"jsonl", {"rows.jsonl"}, [] { labelled("rows.jsonl"); }},
    {"lines", {"rows.txt"}, [] { labelled("rows.txt", "x"); }},
    {"instruct", {"rows.jsonl"}, instruct},
    {"plans", {"plans"}, plans},
    {"adapter", {"adapter_config.json", "adapter_model.safetensors"}, adapter},
    {"metrics", {"metrics.jsonl"}, metrics},
    {"progress", {"counters"}, progress},
    {"run_config", {"config.json"}, run_config},
};

// ---------------------------------------------------------------- memory
static std::atomic<size_t> held, most;
static void counts_malloc(const volatile void* p, size_t) {
    size_t now = held += __sanitizer_get_allocated_size((const void*)p);
    if (now > most) most = now;
}
static void counts_free(const volatile void* p) { held -= p ? __sanitizer_get_allocated_size((const void*)p) : 0; }

static const Target* target;
extern "C" int LLVMFuzzerInitialize(int*, char***) {
    const char* name = getenv("FUZZ");
    for (const Target& t : TARGETS)
        if (!name) printf("%s\n", t.name);
        else if (!strcmp(t.name, name)) target = &t;
    if (!name) exit(0);
    require(target, "FUZZ names no reader; without it the names are printed");
    char path[] = "/dev/shm/tune_fuzz_XXXXXX", other[] = "/tmp/tune_fuzz_XXXXXX";
    const char* made = mkdtemp(path);
    dir = made ? made : mkdtemp(other);
    require(freopen("/dev/null", "w", stdout), "no /dev/null");
    atexit([] { std::filesystem::remove_all(dir); });
    __sanitizer_install_malloc_and_free_hooks(counts_malloc, counts_free);
    return 0;
}
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view rest((const char*)data, size);
    for (const char* file : target->files) {
        const std::string path = dir + "/" + file;
        const size_t end = target->files.size() == 1 ? rest.size() : std::min(rest.find(SEPARATOR), rest.size());
        unlink(path.c_str());
        if (end > 0 || target->files.size() == 1) {  // of several, an empty one is not there
            FILE* f = fopen(path.c_str(), "wb");
            require(f && fwrite(rest.data(), 1, end, f) == end && fclose(f) == 0, "could not write the input");
        }
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    const size_t before = held;
    most = before;
    try {
        target->read();
    } catch (const Error& e) {
        require(!strchr(visible(e.what()).c_str(), '\n'), "an error of two lines");  // as programs print it
    }
    require(most - before <= ROOM + TIMES * size, "memory out of proportion to the input");
    return 0;
}
