// instruct_rows.h: rows of instructions for tests.
#pragma once
#include <doctest/doctest.h>

#include "data/templates.h"
#include "test/temp.h"

typedef std::vector<std::string> Texts;

template <class F> std::string error_of(F f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}
inline InstructRow row_of(const std::string& instruction, const std::string& input, const std::string& output) {
    InstructRow row;
    row.turns = {{instruction, input, output}};
    row.outputs = {output};
    row.where = "x.jsonl, line 1";
    return row;
}
// The text of segments, answers in brackets
inline std::string joined(const std::vector<Segment>& segments) {
    std::string s;
    for (const Segment& p : segments) s += p.is_answer ? "[" + p.text + "]" : p.text;
    return s;
}
