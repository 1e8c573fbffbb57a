// test_chat_template.cpp: templates are read or refused; rows, few-shot examples and conversations become text.
#include "common/data/bin_file.h"
#include "test/text/instruct_rows.h"

namespace {
ChatTemplate from_text(const std::string& text, const std::string& name = "mine.txt") {
    TempDir dir;
    write_bytes(dir / name, text);
    return load_template(dir / name);
}
}  // namespace

TEST_CASE("instruct: templates") {
    // Alpaca's own text, as in its repository
    CHECK(joined(render(alpaca_template(), row_of("Add.", "1 2", "3"), 0, true)) ==
          "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
          "response that appropriately completes the request.\n\n"
          "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:[3]");
    CHECK(joined(render(alpaca_template(), row_of("Say hi.", "", "hi"), 0, true)) ==
          "Below is an instruction that describes a task. Write a response that appropriately completes the "
          "request.\n\n### Instruction:\nSay hi.\n\n### Response:[hi]");
    CHECK(joined(render(short_template(), row_of("add", "1 2", "3"), 0, true)) ==
          "add\n1 2\nanswer :[ 3]");  // the space is the answer's
    CHECK(joined(render(short_template(), row_of("add", "", "3"), 0, true)) == "add\nanswer :[ 3]");
    CHECK(ChatTemplate::answer_of(" 3") == "3");
    CHECK(ChatTemplate::answer_of("3") == "3");
    // what is put in is not looked at again
    CHECK(joined(render(short_template(), row_of("{input}{output}", "{instruction}", "{input}"), 0, true)) ==
          "{input}{output}\n{instruction}\nanswer :[ {input}]");
    // a file of the user's: without an input its line goes, too
    ChatTemplate t = from_text("Q: {instruction}\n\n  {input}\nA: {output}\r\n\n");
    CHECK((t.name == "mine" && t.text == "Q: {instruction}\n\n  {input}\nA: {output}" &&
           t.without_input == "Q: {instruction}\n\nA: {output}"));
    CHECK(from_text("{input} {instruction}\n{output}").without_input == " {instruction}\n{output}");
    CHECK(
        from_text("{\"a\": {instruction}}{output}").text == "{\"a\": {instruction}}{output}");  // other braces are text
    // and back from its JSON, with the same fingerprint; another text, another fingerprint
    ChatTemplate back = ChatTemplate::from_json(parse_json(dump_json(t.json()), "t"), "t");
    CHECK((back.text == t.text && back.example == t.example &&
           template_fingerprint(back.json()) == template_fingerprint(t.json())));
    CHECK(template_fingerprint(from_text(dump_json(t.json(), 2), "template.json").json()) ==
          template_fingerprint(t.json()));
    CHECK(template_fingerprint(t.json()) != template_fingerprint(alpaca_template().json()));
    // how many few-shot examples are shown travels with it and is no part of what it is known by; files without it say
    // none
    ChatTemplate shown = t;
    shown.shots = 2;
    CHECK((ChatTemplate::from_json(shown.json(), "t").shots == 2 &&
           template_fingerprint(shown.json()) == template_fingerprint(t.json())));
    Json old =
        Json().set("name", t.name).set("text", t.text).set("without_input", t.without_input).set("example", t.example);
    CHECK(
        (ChatTemplate::from_json(old, "t").shots == 0 && template_fingerprint(old) == template_fingerprint(t.json())));
    for (Json bad : {Json(-1), Json(3), Json(1.0), Json("1")})
        CHECK(has(error_of([&] { ChatTemplate::from_json(t.json().set("shots", bad), "t"); }),
            "t: expected \"shots\" from 0 to 2, found"));

    CHECK(has(error_of([] { from_text("{instruction}"); }),
        "expected a template with {instruction}{output}, each once, and at most {input} beside, found "
        "{instruction} in"));
    CHECK(has(error_of([] { from_text("{output}"); }), "found {output} in \"{output}\""));
    CHECK(has(error_of([] { from_text(""); }),
        "expected a template with {instruction}{output}, each once, and at most {input} beside, found none"));
    CHECK(has(error_of([] { from_text("{instruction}{output}."); }),
        "expected {output} at the end of the template, found \".\" after it"));
    CHECK(has(error_of([] { from_text("{instruction}{output} {output}"); }),
        "each once, and at most {input} beside, found {instruction}{output}{output} in"));
    CHECK(has(error_of([] { from_text("{instruction}{instruction}{output}"); }),
        "found {instruction}{instruction}{output} in"));
    CHECK(has(error_of([] { from_text("{instruction}{answer}{output}"); }), "found {answer}{instruction}{output} in"));
    CHECK(has(error_of([] { from_text("{instruction}<|endoftext|>{output}"); }),
        "expected a template without <|endoftext|>"));
    CHECK(has(error_of([] { from_text("{instruction}\xff{output}"); }), "expected UTF-8, found the byte 0xff"));
    CHECK(has(error_of([] { from_text("{\"name\": \"x\"}", "t.json"); }), "found no \"text\""));
    CHECK(has(error_of([] { from_text("{\"name\": 1}", "t.json"); }), "found something else than a string"));
    CHECK(has(error_of([] {
        from_text(
            "{\"name\": \"t\", \"text\": \"{instruction} {input} {output}\", \"without_input\": "
            "\"{instruction}\\n{output}\", \"example\": \"\"}",
            "t.json");
    }),
        "expected a space before {output} with and without input, or none in both"));
    // a row without input: without its paragraph, its line, or it alone
    CHECK(from_text("A\n\n### Input:\n{input}\n\n{instruction}\n{output}").without_input ==
          "A\n\n{instruction}\n{output}");
    CHECK(from_text("Q: {instruction}\nInput: {input}\nA: {output}").without_input == "Q: {instruction}\nA: {output}");
    CHECK(from_text("Q: {instruction}\n\nInput: {input}\nA: {output}").without_input ==
          "Q: {instruction}\n\nA: {output}");
    CHECK(from_text("Q: {instruction}\r\n\r\nInput:\r\n{input}\r\n\r\nA: {output}\r\n").without_input ==
          "Q: {instruction}\n\nA: {output}");
    CHECK(ChatTemplate::without_input_part("\n{input} -> {output}") ==
          "\n -> {output}");  // of an example: the next one stays on its own line
    CHECK(ChatTemplate::without_input_part("\n\nInput: {input}\nOutput: {output}") == "\n\nOutput: {output}");
    CHECK(ChatTemplate::without_input_part("\n\n\n{input}\n\n{output}") == "\n\n{output}");
    CHECK(from_text("{input}\n\n{instruction}\n{output}").without_input == "{instruction}\n{output}");
    CHECK(from_text("In: {input}\n{instruction}\n{output}").without_input == "{instruction}\n{output}");
    CHECK(from_text("{instruction} about {input}\n{output}").without_input == "{instruction} about\n{output}");
    CHECK(from_text("{instruction}\n\n{input}{output}").without_input == "{instruction}\n\n{output}");
    CHECK(from_text("{instruction}\n\n{input} {output}").without_input == "{instruction}\n\n {output}");
    CHECK(from_text("{instruction}: {output}").without_input == "{instruction}: {output}");
    CHECK(from_text("{instruction}: {output}").example == "");
    CHECK(has(error_of([] { load_template("alpacca"); }),
        "--template: expected alpaca, short, chatml, qwen3, llama3, llama3.2 or a file, found alpacca"));
    CHECK(has(error_of([&] { render(from_text("{instruction}{output}"), row_of("a", "b", "c"), 0, true); }),
        "x.jsonl, line 1: expected a template with {input}, since this row has one"));
}

TEST_CASE("instruct: few-shot examples, conversations, prompts to be answered") {
    InstructRow row = row_of("first?", "c d", "c");
    row.examples = {{"", "a b", "a"}, {"", "e f", "e"}};
    const ChatTemplate t = short_template();
    CHECK(joined(render(t, row, 0, true)) == "first?\nc d\nanswer :[ c]");
    CHECK(joined(render(t, row, 1, true)) == "first?\na b\nanswer : a\nc d\nanswer :[ c]");
    CHECK(joined(render(t, row, 2, true)) == "first?\na b\nanswer : a\ne f\nanswer : e\nc d\nanswer :[ c]");
    CHECK(joined(render(t, row, 9, true)) == joined(render(t, row, 2, true)));
    CHECK(joined(render(t, row, 1, false)) == "first?\na b\nanswer : a\nc d\nanswer :");
    row.examples = {{"", " ", "a"}};  // without an input
    CHECK(joined(render(t, row, 1, true)) == "first?\nanswer : a\nc d\nanswer :[ c]");
    CHECK(has(joined(render(alpaca_template(), row, 1, true)),
        "### Instruction:\nfirst?\n\n### Example response:\na\n\n### Input:\nc d\n\n### Response:[c]"));
    ChatTemplate plain = short_template();
    plain.example.clear();
    CHECK(joined(render(plain, row, 0, true)) == "first?\nc d\nanswer :[ c]");
    CHECK(has(error_of([&] { render(plain, row, 1, true); }), "x.jsonl, line 1: expected a template with \"example\""));
    row = row_of("u", "", "a");
    row.turns.push_back({"v", "", "b"});
    row.system = "s";
    CHECK(joined(render(t, row, 0, true)) == "s\n\nu\nanswer :[ a]v\nanswer :[ b]");
    CHECK(joined(render(t, row, 0, false)) == "s\n\nu\nanswer :[ a]v\nanswer :");
}

TEST_CASE("a chat's turns: what is markup, what is said, what is learned") {
    InstructRow row = row_of("u", "", "a");
    row.turns.insert(row.turns.begin(), {"t", "x", "b"});
    auto shown = [&](const ChatTemplate& t, bool with_answer) {
        std::string out;
        for (const Segment& s : render(t, row, 0, with_answer))
            out += s.is_answer ? "[" + s.text + "]" : s.is_markup ? s.text : "(" + s.text + ")";
        return out;
    };
    const std::string start = "<|im_start|>", end = "<|im_end|>\n", first = start + "user\n(t\n\nx)" + end;
    CHECK(shown(ChatTemplate::chatml("S"), true) == start + "system\n(S)" + end + first + start + "assistant\n[b]" +
                                                        end + start + "user\n(u)" + end + start + "assistant\n[a]" +
                                                        end);
    CHECK(shown(ChatTemplate::qwen3(), false) == first + start + "assistant\n[b]" + end + start + "user\n(u)" + end +
                                                     start + "assistant\n<think>\n\n</think>\n\n");
    row.system = " \u2003 s\t";
    row.turns.erase(row.turns.begin());
    CHECK(shown(ChatTemplate::llama3(), true) ==
          "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n(s)<|eot_id|><|start_header_id|>user"
          "<|end_header_id|>\n\n(u)<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n[a]<|eot_id|>");
    const ChatTemplate back = ChatTemplate::from_json(ChatTemplate::qwen3().json(), "t");
    CHECK(shown(back, true) == shown(ChatTemplate::qwen3(), true));
    CHECK(has(error_of([] {
        ChatTemplate no_text = ChatTemplate::chatml();
        no_text.turns.system = "s";
        ChatTemplate::from_json(no_text.json(), "t");
    }),
        "t: expected {text} in the turns of system, user and assistant, found none in"));
}
TEST_CASE("chat_template is recognised by its marks, or refused") {
    auto kind = [](const std::string& jinja) {
        ChatTemplate t;
        return ChatTemplate::recognise(jinja, t) ? t.name + ":" + t.turns.default_system : std::string("unknown");
    };
    CHECK(kind("{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' }}") == "chatml:");
    CHECK(kind("{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{{ '<|im_start|>' }}") == "chatml:Be kind.");
    CHECK(kind("{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}") == "chatml:Be kind.");
    CHECK(kind("<|im_start|><|im_end|>{% if enable_thinking %}<think>\\n\\n</think>\\n\\n") == "qwen3:");
    CHECK(kind("<|im_start|><|im_end|><think>\\n") == "unknown");
    CHECK(kind("<|start_header_id|><|end_header_id|><|eot_id|>") == "llama3:");
    CHECK(kind("<|start_header_id|><|end_header_id|><|eot_id|>Cutting Knowledge Date: December 2023 26 Jul 2024") ==
          "llama3.2:");
    for (const char* other : {"[INST] {{ m.content }} [/INST]", "<|im_start|>", "<|im_start|><|im_sep|><|im_end|>",
             "<|start_header_id|><|end_header_id|><|eot_id|>Knowledge Cutoff Date"})
        CHECK(kind(other) == "unknown");
}
