// templates.h: the templates of data/tokenize pack: those with a name, and files of the user's. What a template is:
// common/text/chat_template.h.
#pragma once
#include "common/text/chat_template.h"

inline ChatTemplate alpaca_template() {  // Taori et al. 2023, byte for byte; the line of the examples is ours
    return {"alpaca",
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### "
        "Input:\n{input}\n\n### Response:{output}",
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### "
        "Response:{output}",
        "\n\n### Example input:\n{input}\n\n### Example response:\n{output}"};
}
inline ChatTemplate short_template() {  // for tiny models: few tokens, and a marker that toy worlds have in their text
    return {"short", "{instruction}\n{input}\nanswer : {output}", "{instruction}\nanswer : {output}",
        "\n{input}\nanswer : {output}"};
}

// One of these names, or a file: .json as ChatTemplate::json() writes it, or plain text, which is "text" alone. Then
// "without_input" is what remains without the paragraph or line of {input}, and there is no "example", so that rows can
// show none.
inline ChatTemplate load_template(const std::string& name) {
    for (const ChatTemplate& t : {alpaca_template(), short_template(), ChatTemplate::chatml(), ChatTemplate::qwen3(),
             ChatTemplate::llama3(), ChatTemplate::llama3(true)})
        if (t.name == name) return t;
    if (!exists(name))
        fail_usage("--template: expected alpaca, short, chatml, qwen3, llama3, llama3.2 or a file, found %s%s",
            name.c_str(), nearest_entry(name).c_str());
    if (name.size() > 5 && name.compare(name.size() - 5, 5, ".json") == 0) return ChatTemplate::read(name);
    const std::string text = read_text(name);
    std::string lines;
    for (size_t i = 0; i < text.size(); i++)
        if (text.compare(i, 2, "\r\n") != 0) lines += text[i];
    while (!lines.empty() && lines.back() == '\n') lines.pop_back();
    const size_t begin = name.rfind('/') + 1;  // 0 without a slash
    ChatTemplate t = {
        name.substr(begin, name.find('.', begin + 1) - begin), lines, ChatTemplate::without_input_part(lines), ""};
    t.check(name);
    return t;
}
