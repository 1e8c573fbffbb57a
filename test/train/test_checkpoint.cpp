// test_checkpoint.cpp: the parameter table, weights in every spelling, config.json, training state, atomic directories.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <chrono>

#include "common/train/bert_config.h"
#include "common/train/model_dir.h"
#include "common/train/tensors_io.h"
#include "test/temp.h"
#include "test/tensors.h"

namespace {

// A table with all that a row can be: joined, padded, transposed, scalar-sized.
std::vector<ParamSpec> small_table() {
    std::vector<ParamSpec> specs(5);
    specs[0].names = {"bert.embeddings.word_embeddings.weight"};
    specs[0].shape = {5, 3};
    specs[0].count = 8 * 3;
    specs[0].decay = true;
    specs[1].names = {"bert.x.query.weight", "bert.x.key.weight", "bert.x.value.weight"};
    specs[1].shape = {2, 2};
    specs[2].names = {"bert.embeddings.LayerNorm.weight"};
    specs[2].shape = {3};
    specs[3].names = {"transformer.h.0.attn.c_attn.weight"};
    specs[3].shape = {2, 3};
    specs[3].transpose = true;
    specs[4].names = {"cls.predictions.bias"};
    specs[4].shape = {5};
    layout(specs);
    return specs;
}
// Parameters: a different number everywhere, zero in paddings and gaps.
template <class T> std::vector<T> some_values(const std::vector<ParamSpec>& specs, float scale = 1) {
    std::vector<T> p(total_count(specs), 0);
    for (const ParamSpec& s : specs)
        for (size_t i = 0; i < s.used(); i++) p[s.offset + i] = scale * (float)(s.offset + i + 1);
    return p;
}
std::string message(void (*f)(const std::string&), const std::string& arg) {
    try {
        f(arg);
        return "";
    } catch (const Error& e) {
        CHECK(e.code == EXIT_FAILED);
        CHECK(std::string(e.what()).find('\n') == std::string::npos);
        return e.what();
    }
}
std::string load_error(const std::string& dir) {
    return message(
        [](const std::string& d) {
            std::vector<ParamSpec> specs = small_table();
            std::vector<float> p(total_count(specs));
            load_tensors(d, specs, p.data()).refuse_missing(d);
        },
        dir);
}
// The tensors that small_table() saves, under other names and as another type.
struct Copy {
    std::vector<TensorToWrite> list;
    std::vector<std::vector<char>> data;
    explicit Copy(const std::string& path) {
        SafeTensors file(path);
        for (const TensorInfo& t : file.tensors) {
            data.emplace_back(file.data(t), file.data(t) + (t.end - t.begin));
            list.push_back({t.name, t.dtype, t.shape});
        }
    }
    void rename(const std::string& from, const std::string& to) {
        for (TensorToWrite& t : list)
            if (size_t at = t.name.find(from); at != std::string::npos) t.name.replace(at, from.size(), to);
    }
    void add(
        const std::string& name, const std::string& dtype, const std::vector<size_t>& shape, std::vector<char> bytes) {
        size_t at = dtype_size(dtype) > 4 ? 0 : list.size();  // wide types first
        list.insert(list.begin() + at, {name, dtype, shape});
        data.insert(data.begin() + at, std::move(bytes));
    }
    void to_bf16() {
        for (size_t i = 0; i < list.size(); i++) {
            std::vector<char> out;
            for (size_t j = 0; j < data[i].size(); j += 4) out.insert(out.end(), &data[i][j + 2], &data[i][j + 2] + 2);
            data[i] = out;
            list[i].dtype = "BF16";
        }
    }
    void write(const std::string& path) {
        for (size_t i = 0; i < list.size(); i++) list[i].data = data[i].data();
        write_safetensors(path, list);
    }
    size_t index(const std::string& name) const {
        for (size_t i = 0; i < list.size(); i++)
            if (list[i].name == name) return i;
        FAIL(name);
        return 0;
    }
};

}  // namespace

TEST_CASE("checkpoint: the table is laid out in order, padded, aligned") {
    std::vector<ParamSpec> specs = small_table();
    CHECK(specs[0].count == 24);
    CHECK(specs[1].offset == PARAM_BLOCK);
    CHECK(specs[1].count == 12);
    CHECK(specs[4].offset == 4 * PARAM_BLOCK);
    CHECK(total_count(specs) == 5 * PARAM_BLOCK);
    specs[0].count = 14;
    CHECK_THROWS_AS(layout(specs), Error);
}

TEST_CASE_TEMPLATE("checkpoint: tensors go out and come back", T, float, double) {
    TempDir dir;
    std::vector<ParamSpec> specs = small_table();
    std::vector<T> p = some_values<T>(specs), q(p.size(), 77);
    save_tensors(dir.path, specs, p.data());

    auto at = [&](int row, int i) { return (float)p[specs[row].offset + i]; };
    SafeTensors file(dir / "model.safetensors");
    CHECK(file.tensors.size() == 7);
    CHECK(read_tensor<float>(file, "bert.x.key.weight", {2, 2}) ==
          std::vector<float>{at(1, 4), at(1, 5), at(1, 6), at(1, 7)});
    CHECK(read_tensor<float>(file, "transformer.h.0.attn.c_attn.weight", {2, 3}) ==
          std::vector<float>{at(3, 0), at(3, 2), at(3, 4), at(3, 1), at(3, 3), at(3, 5)});
    CHECK(file.find("bert.embeddings.word_embeddings.weight")->shape ==
          std::vector<size_t>{5, 3});  // without the padding

    LoadReport report = load_tensors(dir.path, specs, q.data());
    CHECK(report.loaded == 7);
    CHECK((report.missing.empty() && report.unused.empty()));
    for (const ParamSpec& s : specs)
        for (size_t i = 0; i < s.count; i++) CHECK(q[s.offset + i] == p[s.offset + i]);
}

TEST_CASE("checkpoint: all spellings of a checkpoint are read") {
    TempDir dir;
    std::vector<ParamSpec> specs = small_table();
    std::vector<float> p = some_values<float>(specs), q(p.size());
    save_tensors(dir.path, specs, p.data());
    std::string path = dir / "model.safetensors";
    Copy copy(path);
    LoadReport report;
    auto load = [&] {
        copy.write(path);
        std::fill(q.begin(), q.end(), 0);
        report = load_tensors(dir.path, specs, q.data());
        return q == p;
    };
    SUBCASE("gamma, no prefix") {
        copy.rename("LayerNorm.weight", "LayerNorm.gamma");
        copy.rename("bert.", "");
        copy.rename("transformer.", "");
        CHECK(load());
        CHECK(report.loaded == 7);
    }
    SUBCASE("wrapped") {
        const char* before = "";
        SUBCASE("") { before = "module."; }
        SUBCASE("") { before = "_orig_mod."; }
        SUBCASE("") { before = "model."; }
        SUBCASE("") { before = "model.module._orig_mod.module."; }
        for (TensorToWrite& t : copy.list) t.name = before + t.name;
        CHECK(load());
        CHECK(report.loaded == 7);
        CHECK(report.unused.empty());
    }
    SUBCASE("the model's own name is what a wrapper is called elsewhere") {  // as Llama's
        for (ParamSpec& s : specs)
            for (std::string& name : s.names) name = "model." + name;
        CHECK(load());
        copy.rename("bert.x", "model.x");
        CHECK(load());
        copy.rename("model.x", "module.model.model.x");
        CHECK(load());
    }
    SUBCASE("bfloat16") {  // the numbers are small enough to be exact
        for (float& x : p) x = (float)(bf16)x;
        save_tensors(dir.path, specs, p.data());
        copy = Copy(path);
        copy.to_bf16();
        CHECK(load());
    }
    SUBCASE("buffers and another head") {
        copy.add("bert.embeddings.position_ids", "I64", {1}, {0, 0, 0, 0, 0, 0, 0, 0});
        copy.add("bert.pooler.dense.bias", "F32", {1}, {0, 0, 0, 0});
        copy.add("h.0.attn.bias", "U8", {1}, {1});
        CHECK(load());
        CHECK(report.unused == std::vector<std::string>{"bert.pooler.dense.bias"});
    }
    SUBCASE("copies of tied weights") {
        size_t w = copy.index("bert.embeddings.word_embeddings.weight"), b = copy.index("cls.predictions.bias");
        copy.add("cls.predictions.decoder.weight", "F32", {5, 3}, copy.data[w]);
        copy.add("cls.predictions.decoder.bias", "F32", {5}, copy.data[b]);
        CHECK(load());
        CHECK(report.unused.empty());
        copy.data.back()[0] ^= 1;
        CHECK_THROWS_WITH_AS(
            load(), doctest::Contains("cls.predictions.decoder.bias: expected a copy of cls.predictions.bias"), Error);
    }
    SUBCASE("only the copies") {
        copy.rename("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight");
        copy.rename("cls.predictions.bias", "cls.predictions.decoder.bias");
        CHECK(load());
        CHECK(report.unused.empty());
    }
    SUBCASE("missing") {
        copy.rename("key", "clef");
        CHECK_FALSE(load());
        CHECK(report.missing == std::vector<std::string>{"bert.x.key.weight"});
        CHECK(report.unused == std::vector<std::string>{"bert.x.clef.weight"});
        CHECK(has(load_error(dir.path),
            "expected the tensor bert.x.key.weight, found none of that name; nearest: bert.x.clef.weight"));
    }
    SUBCASE("missing, and nothing is left") {
        const size_t key = copy.index("bert.x.key.weight");
        copy.list.erase(copy.list.begin() + key);
        copy.data.erase(copy.data.begin() + key);
        copy.write(path);
        CHECK(has(load_error(dir.path), "found none of that name; nearest: bert.x."));
    }
    SUBCASE("another shape") {
        copy.list[copy.index("bert.embeddings.word_embeddings.weight")].shape = {3, 5};
        copy.write(path);
        CHECK(has(load_error(dir.path),
            "bert.embeddings.word_embeddings.weight: expected shape (5, 3), as config.json says, found (3, 5)"));
    }
    SUBCASE("a table of another size takes no memory") {
        specs[0].shape = {(size_t)1 << 40, 3};
        specs[0].count = 0;
        layout(specs);
        CHECK_THROWS_WITH_AS(check_tensors(dir.path, specs), doctest::Contains("found (5, 3)"), Error);
        specs[0].names = {"bert.embeddings.none"};
        CHECK_THROWS_WITH_AS(check_tensors(dir.path, specs), doctest::Contains("expected the tensor"), Error);
        check_tensors(dir.path, specs, {"bert.embeddings.n"});
    }
    SUBCASE("a copy of a tied weight that is shorter than it says") {
        size_t w = copy.index("bert.embeddings.word_embeddings.weight");
        copy.add("cls.predictions.decoder.weight", "F32", {5, 3}, copy.data[w]);
        copy.write(path);
        std::string bytes = read_file(path);
        for (size_t at; (at = bytes.find("F32")) != bytes.npos;) bytes.replace(at, 3, "F9Z");
        write_bytes(path, bytes);
        CHECK(has(load_error(dir.path), "expected a dtype of safetensors (F32, BF16, ...), found F9Z"));
    }
    SUBCASE("twice") {
        copy.add("x.key.weight", "F32", {0}, {});
        copy.write(path);
        CHECK(has(load_error(dir.path), "x.key.weight: is there a second time"));
    }
    SUBCASE("integers") {
        copy.list[copy.index("bert.x.key.weight")].dtype = "I32";
        copy.write(path);
        CHECK(has(load_error(dir.path), "bert.x.key.weight: expected F32, F16, BF16 or F64 numbers, found I32"));
    }
    SUBCASE("in shards") {
        Copy second = copy;
        for (size_t i = copy.list.size(); i-- > 0;) {
            Copy& without = i % 2 ? copy : second;
            without.list.erase(without.list.begin() + i);
            without.data.erase(without.data.begin() + i);
        }
        REQUIRE(remove(path.c_str()) == 0);
        copy.write(dir / "a.safetensors");
        second.write(dir / "b.safetensors");
        std::string index = dir / "model.safetensors.index.json";
        write_bytes(
            index, "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\",\"z\":\"a.safetensors\"}}");
        CHECK(load_tensors(dir.path, specs, q.data()).loaded == 7);
        CHECK(q == p);
        write_bytes(index, "{\"weight_map\":{\"x\":\"../a.safetensors\"}}");
        CHECK(has(load_error(dir.path), "x: expected the name of a file beside it"));
        write_bytes(index, "{}");
        CHECK(has(load_error(dir.path), "weight_map"));
    }
    SUBCASE("only a pickle") {
        REQUIRE(rename(path.c_str(), (dir / "pytorch_model.bin").c_str()) == 0);
        CHECK(has(load_error(dir.path), "convert it: python3 data/convert_weights.py "));
    }
    SUBCASE("nothing") {
        REQUIRE(remove(path.c_str()) == 0);
        CHECK(has(load_error(dir.path), "expected model.safetensors in this directory"));
        write_bytes(dir / "models.safetensors", "");
        CHECK(has(load_error(dir.path), "found none; nearest: models.safetensors"));
        CHECK(has(load_error(dir / "none"), "found nothing of that name"));
        write_bytes(dir / "file", "");
        CHECK(has(load_error(dir / "file"), "found a file"));
    }
}

TEST_CASE("checkpoint: config.json of BERT") {
    TempDir dir;
    BertConfig c;
    c.V = 61;
    c.T = 32;
    c.C = 64;
    c.L = 2;
    c.NH = 2;
    c.FF = 128;
    c.types = 3;
    c.pad_id = 5;
    c.eps = 1e-7;
    c.dropout = 0.25;
    c.attention_dropout = 0;
    Json extra = Json::make_object();
    extra.set("id2label", Json::make_object().set("0", "bad"));
    write_bert_config(dir.path, c, "ForSequenceClassification", extra);
    BertConfig d = read_bert_config(dir.path);
    CHECK(
        (d.V == 61 && d.T == 32 && d.C == 64 && d.L == 2 && d.NH == 2 && d.FF == 128 && d.types == 3 && d.pad_id == 5));
    CHECK((d.eps == 1e-7 && d.dropout == 0.25 && d.attention_dropout == 0));
    std::string good = read_file(dir / "config.json");
    CHECK(has(good, "\"architectures\""));
    CHECK(has(good, "BertForSequenceClassification"));
    CHECK(has(good, "id2label"));

    auto error = [&](const std::string& from, const std::string& to) {
        std::string bad = good;
        REQUIRE(has(bad, from));
        bad.replace(bad.find(from), from.size(), to);
        write_bytes(dir / "config.json", bad);
        return message([](const std::string& path) { read_bert_config(path); }, dir.path);
    };
    CHECK(error("\"bert\"", "\"bert\"") == "");
    CHECK(error("\"pad_token_id\": 5", "\"pad_token_id\": null") == "");
    CHECK(has(error("\"bert\"", "\"gpt2\""),
        "expected \"model_type\": \"bert\" or \"distilbert\" or \"roberta\" or \"modernbert\", found \"gpt2\""));
    CHECK(error("\"model_type\"", "\"x\"") == "");  // as Google's small BERTs are published
    CHECK(has(error("\"gelu\"", "\"gelu_new\""), "hidden_act: expected \"gelu\", found \"gelu_new\""));
    CHECK(has(error("\"absolute\"", "\"relative_key\""), "position_embedding_type: expected \"absolute\""));
    CHECK(has(error("\"is_decoder\": false", "\"is_decoder\": true"), "is_decoder: expected false, found true"));
    CHECK(has(error("\"num_attention_heads\": 2", "\"num_attention_heads\": 5"),
        "multiple of num_attention_heads, found 64 and 5"));
    CHECK(has(error("\"num_attention_heads\": 2", "\"num_attention_heads\": 0"), "from 1 to"));
    CHECK(has(error("\"vocab_size\": 61", "\"vocab_size\": -61"),
        "vocab_size: expected an integer from 1 to 1073741824, found -61"));
    CHECK(has(error("\"vocab_size\": 61", "\"vocab_size\": 61.5"), "vocab_size: expected an integer"));
    CHECK(has(
        error("\"vocab_size\": 61", "\"x\": 61"), "vocab_size: expected an integer from 1 to 1073741824, found none"));
    CHECK(has(error("\"hidden_size\": 64", "\"hidden_size\": \"64\""), "hidden_size: expected an integer"));
    CHECK(has(error("\"hidden_size\": 64", "\"hidden_size\": 1e30"), "hidden_size: expected an integer"));
    CHECK(has(error("\"hidden_dropout_prob\": 0.25", "\"hidden_dropout_prob\": 1"),
        "hidden_dropout_prob: expected a number from 0 to 0.999"));
    CHECK(has(error("\"pad_token_id\": 5", "\"pad_token_id\": 61"), "pad_token_id"));
    CHECK(has(error("{", ""), "JSON"));
    CHECK(has(message([](const std::string& path) { read_bert_config(path); }, dir / "none"), "found no such file"));
}

TEST_CASE("checkpoint: the angles of a ModernBERT, in the spelling of transformers 4 or 5") {
    TempDir dir;
    auto read = [&](const char* rope) {
        write_file_atomic(dir / "config.json",
            format(R"({"model_type": "modernbert", "vocab_size": 61, "hidden_size": 64, "num_hidden_layers": 2,
                "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32,
                "pad_token_id": 1%s})",
                rope));
        const BertConfig c = read_bert_config(dir.path);
        return std::pair{c.global_rope.theta, c.local_rope.theta};
    };
    CHECK(read("") == std::pair{160000.0, 10000.0});
    CHECK(read(R"(, "global_rope_theta": 5000, "local_rope_theta": 50)") == std::pair{5000.0, 50.0});
    CHECK(read(R"(, "global_rope_theta": 5000, "local_rope_theta": null)") == std::pair{5000.0, 5000.0});
    CHECK(read(R"(, "rope_scaling": null, "rope_parameters": null)") == std::pair{160000.0, 10000.0});
    CHECK(read(R"(, "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 7}})") ==
          std::pair{160000.0, 7.0});
    for (const char* rope : {R"(, "rope_scaling": {"rope_type": "linear", "factor": 2})",
             R"(, "rope_parameters": {"rope_type": "yarn", "factor": 2})",
             R"(, "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2}})"})
        CHECK_THROWS_AS(read(rope), Error);
}

TEST_CASE("checkpoint: the config of every kind of encoder comes back as it was") {
    for (const char* type : {"bert", "distilbert", "roberta", "modernbert"}) {
        CAPTURE(type);
        TempDir dir;
        BertConfig c;
        c.type = type;
        c.modern = c.type == "modernbert";
        const bool distil = c.type == "distilbert";
        c.V = 61;
        c.T = 32;
        c.C = 64;
        c.L = 4;
        c.NH = 2;
        c.FF = 24;
        c.types = distil || c.modern ? 0 : 1;
        c.pad_id = 4;
        c.bos = 2;
        c.eos = 3;
        if (!distil) c.eps = 1e-6;
        if (c.type == "roberta") c.first_position = 5;
        if (c.modern) {
            c.window = 7;
            c.global_every = 2;
            c.global_rope.theta = 5000;
            c.local_rope.theta = 50;
            c.mean_pooling = true;
        }
        write_bert_config(dir.path, c, "ForSequenceClassification");
        const std::string text = read_file(dir / "config.json");
        CHECK(has(text, bert_type(type).architecture + std::string("ForSequenceClassification")));
        const BertConfig d = read_bert_config(dir.path);
        CHECK((d.type == c.type && d.modern == c.modern && d.V == 61 && d.T == 32 && d.C == 64 && d.L == 4));
        CHECK((d.NH == 2 && d.FF == 24 && d.types == c.types && d.pad_id == 4 && d.bos == 2 && d.eos == 3));
        CHECK((d.eps == c.eps && d.first_position == c.first_position && d.window == c.window));
        CHECK((d.global_every == c.global_every && d.global_rope.theta == c.global_rope.theta));
        CHECK((d.local_rope.theta == c.local_rope.theta && d.mean_pooling == c.mean_pooling));
        if (!c.modern) continue;
        std::string other = text;
        other.replace(other.find("\"mean\""), 6, "\"max\"");
        write_bytes(dir / "config.json", other);
        CHECK(has(message([](const std::string& path) { read_bert_config(path); }, dir.path),
            "classifier_pooling: expected \"cls\", found \"max\": only \"cls\" and \"mean\" are implemented"));
    }
}

TEST_CASE_TEMPLATE("checkpoint: training state comes back bit for bit", T, float, double) {
    TempDir dir;
    std::vector<ParamSpec> specs = small_table();
    std::vector<T> m = some_values<T>(specs, 1e-3f), v = some_values<T>(specs, 1e-30f), master = some_values<T>(specs),
                   a(m), b(m), c(m);
    Json counters = Json::make_object();
    counters.set("step", (int64_t)1 << 40).set("best_loss", 0.1).set("seed", INT64_MIN);
    for (bool with_master : {false, true}) {
        save_training_state(dir.path, specs, m.data(), v.data(), with_master ? master.data() : nullptr, counters);
        std::fill(a.begin(), a.end(), 0);
        std::fill(b.begin(), b.end(), 0);
        std::fill(c.begin(), c.end(), 0);
        Json back = load_training_state(dir.path, specs, a.data(), b.data(), with_master ? c.data() : (T*)nullptr);
        CHECK(dump_json(back) == dump_json(counters));
        CHECK((a == m && b == v));
        if (with_master) CHECK(c == master);
        else
            CHECK_THROWS_WITH_AS(load_training_state(dir.path, specs, a.data(), b.data(), c.data()),
                doctest::Contains("expected a tensor master, found none"), Error);
    }
    std::vector<ParamSpec> other = specs;
    std::swap(other[1].names[0], other[1].names[1]);
    CHECK_THROWS_WITH_AS(load_training_state(dir.path, other, a.data(), b.data(), (T*)nullptr),
        doctest::Contains("another size or version"), Error);
    std::vector<bf16> narrow(total_count(specs));
    CHECK_THROWS_WITH_AS(load_training_state(dir.path, specs, narrow.data(), narrow.data(), (bf16*)nullptr),
        doctest::Contains("another PRECISION"), Error);
    write_safetensors(dir / "training_state.safetensors", {});
    CHECK_THROWS_WITH_AS(load_training_state(dir.path, specs, a.data(), b.data(), (T*)nullptr),
        doctest::Contains("not written by this program"), Error);
    CHECK_THROWS_WITH_AS(
        load_training_state(dir / "none", specs, a.data(), b.data(), (T*)nullptr), doctest::Contains("--init"), Error);
}

namespace {
// Model number k: its number is in every file, so that a mixture of two would show.
void save_numbered(const std::string& dir, int k) {
    std::vector<ParamSpec> specs = small_table();
    std::vector<float> p = some_values<float>(specs, k);
    save_directory(dir, [&](const std::string& tmp) {
        BertConfig c;
        c.V = k;
        write_bert_config(tmp, c);
        save_tensors(tmp, specs, p.data());
        save_training_state(tmp, specs, p.data(), p.data(), p.data(), Json(k));
    });
}
// The number of the model in dir; −1 if the files do not belong together.
int number_of(const std::string& dir) {
    std::vector<ParamSpec> specs = small_table();
    std::vector<float> p(total_count(specs)), m(p), v(p), master(p);
    int k = (int)read_bert_config(dir).V;
    load_tensors(dir, specs, p.data()).refuse_missing(dir);
    bool same = load_training_state(dir, specs, m.data(), v.data(), master.data()).i == k &&
                p == some_values<float>(specs, k) && m == p && v == p && master == p;
    return same ? k : -1;
}
}  // namespace

TEST_CASE("checkpoint: a directory is replaced as a whole or not at all") {
    TempDir temp;
    std::string dir = temp / "run/last";
    save_numbered(dir + "//", 1);
    CHECK(number_of(dir) == 1);
    save_numbered(dir, 2);
    CHECK(number_of(dir) == 2);
    CHECK_FALSE(exists(dir + ".tmp"));

    // what somebody put there stays
    write_bytes(dir + "/README.md", "a model card");
    make_directories(dir + "/notes");
    write_bytes(dir + "/notes/a", "mine");
    CHECK(symlink("nowhere", (dir + "/link").c_str()) == 0);
    for (int k : {3, 2}) save_numbered(dir, k);
    CHECK(number_of(dir) == 2);
    CHECK(read_file(dir + "/README.md") == "a model card");
    CHECK(read_file(dir + "/notes/a") == "mine");
    CHECK(std::filesystem::read_symlink(dir + "/link") == "nowhere");

    // something throws
    CHECK_THROWS_WITH(save_directory(dir,
                          [&](const std::string& tmp) {
                              write_bytes(tmp + "/config.json", "x");
                              throw std::runtime_error("stop");
                          }),
        "stop");
    CHECK(number_of(dir) == 2);
    CHECK_FALSE(exists(dir + ".tmp"));

    // the disk is full: at the config, at the weights, at the state
    for (size_t bytes : {10, 1000, 3000}) {
        std::string why;
        try {
            FullDisk full(bytes);
            save_numbered(dir, 3);
        } catch (const Error& e) {
            why = e.what();
        }
        CHECK(has(why, "File too large"));
        CHECK(number_of(dir) == 2);
        CHECK_FALSE(exists(dir + ".tmp"));
    }

    // a file stands where the directory should go
    write_bytes(temp / "file", "");
    CHECK_THROWS_AS(save_numbered(temp / "file", 3), Error);
    CHECK_THROWS_AS(save_numbered(temp / "file/last", 3), Error);
}

TEST_CASE("checkpoint: killed at any moment, the old or the new directory is there") {
    TempDir temp;
    std::string dir = temp / "last";
    auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 4; i++) save_numbered(dir, 1);
    double save_us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / 4;
    int last = 1, leftovers = 0;
    for (int round = 0; round < 12; round++) {
        pid_t child = fork();
        if (child == 0) {  // saves as fast as it can, until it is killed
            try {
                for (int k = last + 1;; k++) save_numbered(dir, k);
            } catch (...) {
                _exit(1);
            }
        }
        usleep((useconds_t)(save_us * (0.3 + 0.29 * round)));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        CHECK(WIFSIGNALED(status));
        leftovers += exists(dir + ".tmp");
        int k = number_of(resolve_model_dir(dir));
        CHECK(k >= last);
        last = k;
    }
    CHECK(last > 1);
    CHECK(leftovers > 0);  // it was hit in the middle
    save_numbered(dir, last + 1);
    CHECK(number_of(dir) == last + 1);
    CHECK_FALSE(exists(dir + ".tmp"));
}

TEST_CASE("checkpoint: the model of a run is found") {
    TempDir temp;
    std::string run = temp / "run";
    auto error = [](const std::string& dir) {
        return message([](const std::string& d) { resolve_model_dir(d); }, dir);
    };
    CHECK(has(error(run), "found nothing of that name"));
    make_directories(run);
    CHECK(has(error(run), "in best/ or in last/, found no config.json"));
    write_bytes(run + "/config.json", "{\"flags\":{}}");  // the run's own
    CHECK(has(error(run), "found a config.json, but no model"));
    write_bytes(temp / "file", "");
    CHECK(has(error(temp / "file"), "found a file"));
    save_numbered(run + "/last", 1);
    CHECK(resolve_model_dir(run) == run + "/last");
    CHECK(has(error(run + "/best"), "found nothing of that name; there is " + run + "/last"));
    save_numbered(run + "/best", 2);
    CHECK(resolve_model_dir(run + "/") == run + "/best");
    CHECK(resolve_model_dir(run + "/last") == run + "/last");
    REQUIRE(rename((run + "/best").c_str(), (run + "/best.old").c_str()) == 0);
    CHECK(resolve_model_dir(run) == run + "/best.old");
    save_numbered(run, 3);
    CHECK(resolve_model_dir(run) == run);
}

TEST_CASE("checkpoint: why a directory cannot be made") {
    // For root and for others, in a mount that can be written or not, mkdir() fails here in another way than for want
    // of the name, which is what stat() says afterwards.
    if (!is_directory("/sys/kernel")) {
        MESSAGE("SKIPPED: there is no /sys here");
        return;
    }
    const std::string text = message([](const std::string& path) { make_directories(path); }, "/sys/kernel/tune");
    CHECK((has(text, "cannot make the directory /sys/kernel/tune: ") && text.find("No such file") == text.npos));
}
