// ptx.cpp: reads PTX. Syntax as in the PTX manual, chapters 4 to 6, as far as nvcc writes it.
#include "test/emulator/ptx.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <functional>

namespace emulator {
const std::vector<std::string> SPECIALS = {"%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x",
    "%ctaid.y", "%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid", "%lanemask_eq", "%lanemask_lt",
    "%lanemask_le", "%lanemask_gt", "%lanemask_ge", "%smid", "%clock"};

std::string source_line(const Module& m, int line) {
    size_t at = 0;
    for (int i = 1; i < line && at != std::string::npos; i++) at = m.text.find('\n', at) + 1;
    size_t end = std::min(m.text.find('\n', at), m.text.size());
    while (at < end && isspace((unsigned char)m.text[at])) at++;
    return m.text.substr(at, end - at);
}

namespace {
[[noreturn]] void fail(const Module& m, int line, const std::string& what) {
    throw Error(Fault::unsupported, m.name + ":" + std::to_string(line) + ": " + what + ": " + source_line(m, line));
}

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Statements of a text, without comments: what ends in ';', a '{' or '}' that is no operand, or a label with its ':'.
struct Reader {
    const Module& module;
    size_t at, end;
    int line;
    int statement_line = 0;

    bool next(std::string& statement) {
        statement.clear();
        int braces = 0;
        for (; at < end; at++) {
            char c = module.text[at];
            if (c == '\n') line++;
            if (c == '/' && at + 1 < end && module.text[at + 1] == '/') {
                at = std::min(module.text.find('\n', at), end) - 1;
                continue;
            }
            if (c == '/' && at + 1 < end && module.text[at + 1] == '*') {
                size_t close = std::min(module.text.find("*/", at), end);
                line += (int)std::count(module.text.begin() + (long)at, module.text.begin() + (long)close, '\n');
                at = close + 1;
                continue;
            }
            if (statement.empty()) {
                if (isspace((unsigned char)c)) continue;
                statement_line = line;
                if (c == '{' || c == '}') return at++, statement = c, true;
            }
            if (c == ';' && !braces) return at++, true;
            braces += (c == '{') - (c == '}');
            statement += isspace((unsigned char)c) ? ' ' : c;
            bool colon = c == ':' && statement[0] != '@' && statement.find(' ') == std::string::npos;
            if (colon && module.text[at + 1] != ':' && module.text[at - 1] != ':') return at++, true;
        }
        return false;
    }
};

// Words of a declaration: at spaces, and before '[', '=', '<', ','.
std::vector<std::string> words(const std::string& s) {
    std::vector<std::string> all;
    std::string word;
    for (char c : s + " ") {
        if (isspace((unsigned char)c) || strchr("[]=<>,", c)) {
            if (!word.empty()) all.push_back(word);
            word.clear();
            if (strchr("[=<,", c)) all.push_back(std::string(1, c));
        } else word += c;
    }
    return all;
}
size_t type_bytes(const std::string& type) {
    size_t digit = type.find_first_of("0123456789");
    return type == ".pred" || digit == std::string::npos ? 0 : (size_t)atoi(type.c_str() + digit) / 8;
}
bool is_type(const std::string& w) {
    return w.size() >= 3 && w[0] == '.' && strchr("bsuf", w[1]) && isdigit((unsigned char)w[2]) && type_bytes(w);
}

// "[.extern] .shared .align 4 .b8 name[256] [= {1, 2}]", also .param of an entry
struct Declared {
    std::string name, type;
    size_t bytes = 0, align = 0;
    size_t count = 1;
    bool external = false, unsized = false;
    std::vector<std::string> values;
};
Declared declared(const std::string& statement) {
    Declared d;
    size_t equal = statement.find('=');
    std::vector<std::string> w = words(statement.substr(0, equal));
    for (size_t i = 0; i < w.size(); i++) {
        if (w[i] == ".extern") d.external = true;
        else if (w[i] == ".align") d.align = (size_t)atoll(w[++i].c_str());
        else if (is_type(w[i])) d.type = w[i];
        else if (w[i] == "[") {
            if (i + 1 < w.size()) d.count *= (size_t)atoll(w[++i].c_str());
            else d.unsized = true;
        } else if (w[i][0] != '.') d.name = w[i];
    }
    d.bytes = d.unsized ? 0 : d.count * type_bytes(d.type);
    d.align = std::max(d.align, type_bytes(d.type));
    if (equal != std::string::npos) {
        std::string value;
        for (char c : statement.substr(equal + 1) + ",") {
            if (c == ',' && !value.empty()) d.values.push_back(value), value.clear();
            else if (!isspace((unsigned char)c) && c != '{' && c != '}' && c != ',') value += c;
        }
    }
    return d;
}

// 12, -0x3, 7U, 0f3F800000, 0d3FF0000000000000; false if it is none of these
bool number(const std::string& s, uint64_t& value) {
    const char* p = s.c_str();
    char* end;
    if (s.size() > 2 && s[0] == '0' && strchr("fFdD", s[1])) return value = strtoull(p + 2, &end, 16), !*end;
    bool minus = *p == '-';
    if (minus) p++;
    if (!isdigit((unsigned char)*p)) return false;
    value = strtoull(p, &end, 0);
    if (minus) value = 0 - value;
    return !*end || !strcmp(end, "U");
}

void declare_variable(Module& m, const Declared& d, int line) {
    Symbol s{Space::global, d.bytes, d.align};
    char* data = (char*)aligned_alloc(256, round_up(std::max<size_t>(d.bytes, 1), 256));
    memset(data, 0, d.bytes);
    size_t width = type_bytes(d.type);
    if (d.values.size() * width > d.bytes) fail(m, line, "more values than elements");
    for (size_t i = 0; i < d.values.size(); i++) {
        uint64_t value;
        if (!number(d.values[i], value)) fail(m, line, "not a number: " + d.values[i]);
        memcpy(data + i * width, &value, width);
    }
    s.address = (uint64_t)data;
    register_allocation(s.address, d.bytes, data, true);
    m.symbols[d.name] = s;
}

// ---------------------------------------------------------------- the body of a kernel
struct Register {
    int width;        // lanes of 4 or 8 bytes; 0: a predicate
    int32_t at = -1;  // its offset in the file
};

struct Decoder {
    Kernel& k;
    Module& m;
    std::unordered_map<std::string, int> prefixes;  // "%r" -> width
    std::unordered_map<std::string, int> ids;       // "%r12" -> index in registers
    std::vector<Register> registers;
    std::unordered_map<std::string, int> labels;
    std::unordered_map<std::string, Symbol> symbols;  // of the body: shared and local
    std::unordered_map<std::string, uint64_t> shared_offsets;
    std::unordered_map<std::string, size_t> constant_offsets;
    std::vector<std::string> targets;   // the label of each branch
    std::vector<size_t> first_operand;  // of each instruction
    size_t local_bytes = 0;
    int line = 0;

    explicit Decoder(Kernel& kernel) : k(kernel), m(*kernel.module) {}

    [[noreturn]] void fail(const std::string& what) { emulator::fail(m, line, what); }

    void declare_registers(const std::string& statement) {  // .reg .b32 %r<9>, t;
        std::vector<std::string> w = words(statement);
        int width = w[1] == ".pred" ? 0 : type_bytes(w[1]) == 8 ? 8 : 4;
        for (size_t i = 2; i < w.size(); i++) {
            bool many = i + 1 < w.size() && w[i + 1] == "<";
            if (w[i] != ",") prefixes[w[i]] = width;
            if (many) i += 2;
        }
    }
    int register_id(const std::string& name) {
        auto known = ids.find(name);
        if (known != ids.end()) return known->second;
        int width = -1;
        size_t special = (size_t)(std::find(SPECIALS.begin(), SPECIALS.end(), name) - SPECIALS.begin());
        if (special < SPECIALS.size()) width = 4;
        else {
            auto found = prefixes.find(name);
            if (found == prefixes.end()) found = prefixes.find(name.substr(0, name.find_last_not_of("0123456789") + 1));
            if (found != prefixes.end()) width = found->second;
        }
        if (width < 0) return -1;
        if (special < SPECIALS.size()) k.specials.push_back({(int)special, (int32_t)registers.size()});
        registers.push_back({width});
        return ids[name] = (int)registers.size() - 1;
    }

    // The address of a name in its own space. Shared variables get their place when they are first used.
    bool symbol_address(const std::string& name, uint64_t& address) {
        for (const Param& p : k.params)
            if (p.name == name) return address = p.offset, true;
        auto found = symbols.find(name);
        if (found == symbols.end()) {
            found = m.symbols.find(name);
            if (found == m.symbols.end()) return false;
        }
        const Symbol& s = found->second;
        if (s.space != Space::shared) return address = s.address, true;
        if (s.external) return address = SHARED_START + k.dynamic_offset, true;
        address = shared_offsets.at(name);
        return true;
    }
    // Before decoding: which shared variables does the body name? The dynamic ones lie behind all others.
    void place_shared(const std::vector<std::string>& statements) {
        size_t used = 0, dynamic_align = 16;
        auto place = [&](const std::string& name) {
            auto found = symbols.find(name);
            if (found == symbols.end() && (found = m.symbols.find(name)) == m.symbols.end()) return;
            const Symbol& s = found->second;
            if (s.space != Space::shared || shared_offsets.count(name)) return;
            if (s.external) return (void)(dynamic_align = std::max(dynamic_align, s.align));
            used = round_up(used, s.align);
            shared_offsets[name] = SHARED_START + used;
            used += s.bytes;
        };
        for (const std::string& s : statements) {
            std::string word;
            for (char c : s + " ") {
                if (isalnum((unsigned char)c) || c == '_' || c == '$' || c == '.') word += c;
                else if (!word.empty()) place(word), word.clear();
            }
        }
        k.attributes.static_shared = used;
        k.dynamic_offset = round_up(used, dynamic_align);
    }

    int32_t constant(uint64_t value, int width) {
        std::string key = std::to_string(width) + ":" + std::to_string(value);
        auto found = constant_offsets.find(key);
        if (found != constant_offsets.end()) return CONSTANT | (int32_t)found->second;
        size_t at = round_up(k.constants.size(), 64);
        k.constants.resize(at + 32 * (size_t)width);
        for (int i = 0; i < 32; i++) memcpy(&k.constants[at + (size_t)(i * width)], &value, (size_t)width);
        constant_offsets[key] = at;
        return CONSTANT | (int32_t)at;
    }

    // name, number, name+4 -> value
    bool value_of(const std::string& s, uint64_t& value) {
        if (number(s, value)) return true;
        size_t plus = s.find_first_of("+-", 1);
        uint64_t offset = 0;
        if (plus != std::string::npos && !number(s.substr(plus + (s[plus] == '+')), offset)) return false;
        if (!symbol_address(s.substr(0, plus), value)) return false;
        value += offset;
        return true;
    }

    void add_operand(char letter, const std::string& s, Inst& in) {
        uint64_t value = 0;
        switch (letter) {
            case 'l': targets.back() = s; return;
            case 'i':
                if (!number(s, value)) fail("operand " + s + " must be a number");
                in.imm = (int64_t)value;
                return;
            case 'a': {
                if (s.size() < 3 || s[0] != '[') fail("operand " + s + " is no address");
                std::string inner = s.substr(1, s.size() - 2);
                size_t plus = inner.find_first_of("+-", 1);
                int id = register_id(inner.substr(0, plus));
                if (id < 0) {
                    if (!value_of(inner, value)) fail("unknown name in " + s);
                    in.imm = (int64_t)value;
                    k.operands.push_back(constant(0, 8));
                    return;
                }
                if (plus != std::string::npos && !number(inner.substr(plus + (inner[plus] == '+')), value))
                    fail("offset of " + s);
                in.imm = (int64_t)value;
                in.target = registers[(size_t)id].width;  // 4: an address of 32 bits
                k.operands.push_back(id);
                return;
            }
        }
        int width = letter == 'd' ? 8 : letter == 'w' ? 4 : 0;
        int id = register_id(s);
        if (id >= 0) {
            if (registers[(size_t)id].width != width) fail("register " + s + " has another width than the instruction");
            k.operands.push_back(id);
        } else if (width && value_of(s, value)) k.operands.push_back(constant(value, width));
        else if (letter == 'p' && number(s, value)) k.operands.push_back(constant(value ? ~0u : 0, 4));
        else fail("unknown operand " + s);
    }

    void instruction(std::string s) {
        Inst in{};
        in.line = line;
        in.guard = -1;
        in.target = 8;
        if (s[0] == '@') {
            size_t name = s[1] == '!' ? 2 : 1, space = s.find(' ');
            in.negate = s[1] == '!' ? ~0u : 0;
            in.guard = register_id(s.substr(name, space - name));
            if (in.guard < 0) fail("unknown predicate");
            s = s.substr(s.find_first_not_of(' ', space));
        }
        size_t space = std::min(s.find(' '), s.size());
        std::string opcode = s.substr(0, space), operand;
        std::vector<std::string> operands;
        // braces are flattened: {a, b} are two operands; d|p too
        size_t braces = 0;
        bool bar = false;
        std::string rest = s.substr(space) + ",";
        for (char c : rest) {
            if (c == '{') braces |= operands.empty() ? 1 : 2;
            else if (c == '|' || c == ',') {
                bar |= c == '|';
                if (!operand.empty()) operands.push_back(operand);
                operand.clear();
            } else if (c != '}' && c != ' ') operand += c;
        }
        if (braces && opcode.compare(0, 4, "mov.") == 0)
            opcode += (braces == 1 ? ".unpack" : ".pack") + std::to_string(operands.size() - 1);
        if (opcode.compare(0, 9, "cp.async.") == 0 && operands.size() > 2) {  // [to], [from], 16 (, size)
            opcode += " " + operands[2] + (operands.size() == 3 ? " whole" : "");
            operands.erase(operands.begin() + 2);
            for (std::string& o : operands)
                if (o[0] == '[') o = o.substr(1, o.size() - 2);
        }
        for (size_t value : {0, 1}) {  // loads into a register of 64 bits, and stores of its lower part
            if (opcode.compare(0, 3, value ? "st." : "ld.") || operands.size() != 2) continue;
            int id = register_id(operands[value]);
            const Op* narrow = find_op(opcode);
            if (id >= 0 && registers[(size_t)id].width == 8 && narrow && narrow->operands[value] == 'w')
                opcode += " wide";
        }
        const Op* op = find_op(opcode);
        if (!op) fail("instruction unknown to the emulator");
        in.run = op->run;
        in.kind = op->kind;
        in.space = op->space;
        targets.push_back("");
        first_operand.push_back(k.operands.size());
        size_t next = 0;
        for (char letter : op->operands) {
            if (letter == 'q' && !bar) {
                k.operands.push_back(-1);
                continue;
            }
            if (next == operands.size()) fail("too few operands");
            add_operand(letter == 'q' ? 'p' : letter, operands[next++], in);
        }
        if (next != operands.size()) fail("too many operands");
        k.code.push_back(in);
        k.opcodes.push_back(opcode);
    }

    void body() {
        Reader reader{m, k.begin, k.end, k.line};
        std::string s;
        std::vector<std::string> statements;
        std::vector<int> lines;
        while (reader.next(s)) {
            line = reader.statement_line;
            if (s == "{" || s == "}") continue;
            if (s.compare(0, 5, ".reg ") == 0) declare_registers(s);
            else if (s.compare(0, 8, ".shared ") == 0 || s.compare(0, 7, ".local ") == 0) {
                Declared d = declared(s);
                Symbol symbol{s[1] == 's' ? Space::shared : Space::local, d.bytes, d.align};
                if (symbol.space == Space::local) {
                    symbol.address = local_bytes = round_up(local_bytes, d.align);
                    local_bytes += d.bytes;
                }
                symbols[d.name] = symbol;
            } else if (s[0] != '.') {
                statements.push_back(s);
                lines.push_back(line);
            } else if (s.compare(0, 8, ".pragma ") && s.compare(0, 5, ".loc ")) fail("unknown directive");
        }
        place_shared(statements);
        for (size_t i = 0; i < statements.size(); i++) {
            line = lines[i];
            if (statements[i].back() == ':')
                labels[statements[i].substr(0, statements[i].size() - 1)] = (int)k.code.size();
            else instruction(statements[i]);
        }
        line = reader.line;
        instruction("ret");  // for a body that ends in none
        for (size_t i = 0; i < k.code.size(); i++) {
            if (k.code[i].kind != Kind::branch) continue;
            line = k.code[i].line;
            auto label = labels.find(targets[i]);
            if (label == labels.end()) fail("no label " + targets[i]);
            k.code[i].target = label->second;
        }
        reconvergence();
        place_registers();
        k.attributes.local = round_up(local_bytes, 16);
    }

    std::vector<int> successors(int pc) const {
        const Inst& in = k.code[(size_t)pc];
        std::vector<int> next;
        if (in.kind == Kind::branch) next.push_back(in.target);
        bool falls = in.kind == Kind::plain || in.kind == Kind::barrier || in.guard >= 0;
        if (falls) next.push_back(pc + 1);
        return next;
    }
    // Lanes that part at a branch meet at its immediate post-dominator: the first instruction that all their ways to
    // the exit pass (Cooper, Harvey and Kennedy, A Simple, Fast Dominance Algorithm, on the reversed graph).
    void reconvergence() {
        int n = (int)k.code.size(), exit = n;
        std::vector<int> dominator((size_t)n + 1, -1);  // a later instruction mostly, so that one pass goes backwards
        std::vector<int> order, rank((size_t)n + 1, -1);
        std::vector<std::vector<int>> before((size_t)n + 1), after((size_t)n + 1);
        for (int i = 0; i < n; i++) {
            after[(size_t)i] = successors(i);
            if (k.code[(size_t)i].kind == Kind::exit) after[(size_t)i].push_back(exit);
            for (int s : after[(size_t)i]) before[(size_t)s].push_back(i);
        }
        std::vector<std::pair<int, size_t>> stack = {{exit, 0}};  // depth first from the exit, postorder
        std::vector<bool> seen((size_t)n + 1);
        seen[(size_t)exit] = true;
        while (!stack.empty()) {
            auto& [node, child] = stack.back();
            if (child < before[(size_t)node].size()) {
                int next = before[(size_t)node][child++];
                if (!seen[(size_t)next]) seen[(size_t)next] = true, stack.push_back({next, 0});
            } else {
                rank[(size_t)node] = (int)order.size();
                order.push_back(node);
                stack.pop_back();
            }
        }
        dominator[(size_t)exit] = exit;
        for (bool changed = true; changed;) {
            changed = false;
            for (size_t o = order.size() - 1; o-- > 0;) {
                int node = order[o], meet = -1;
                for (int s : after[(size_t)node]) {
                    if (dominator[(size_t)s] < 0) continue;
                    int a = s, b = meet;
                    if (b < 0) b = a;
                    while (a != b) {
                        while (rank[(size_t)a] < rank[(size_t)b]) a = dominator[(size_t)a];
                        while (rank[(size_t)b] < rank[(size_t)a]) b = dominator[(size_t)b];
                    }
                    meet = a;
                }
                if (dominator[(size_t)node] != meet) dominator[(size_t)node] = meet, changed = true;
            }
        }
        for (int i = 0; i < n; i++) k.code[(size_t)i].rpc = dominator[(size_t)i] < 0 ? exit : dominator[(size_t)i];
    }

    void place_registers() {
        size_t bytes = 0;
        for (int width : {8, 4, 0})
            for (Register& r : registers) {
                if (r.width != width) continue;
                r.at = (int32_t)bytes;
                bytes += width ? (size_t)width * 32 : 4;
            }
        int32_t scratch = (int32_t)bytes;
        k.register_bytes = round_up(bytes + 4, 64);
        for (int32_t& o : k.operands)
            if (o >= 0) o = registers[(size_t)o].at;
            else if (o == -1) o = scratch;
        for (Special& s : k.specials) s.at = registers[(size_t)s.at].at;
        for (size_t i = 0; i < k.code.size(); i++) {
            Inst& in = k.code[i];
            if (in.guard >= 0) in.guard = registers[(size_t)in.guard].at;
            in.op = k.operands.data() + first_operand[i];
        }
    }
};

// ".visible .entry name(.param .u64 a, .param .align 4 .b8 b[12]) .maxntid 128, 1, 1 {"; at: behind ".entry"
void read_entry(Module& m, size_t at, int line) {
    Kernel k;
    k.module = &m;
    size_t open = m.text.find_first_of("({", at), brace = m.text.find('{', at);
    if (brace == std::string::npos) fail(m, line, "entry without a body");
    std::string head = m.text.substr(at, brace - at), name = words(m.text.substr(at, open - at))[0];
    size_t close = head.find(')');
    if (open < brace) {
        std::string params = m.text.substr(open + 1, close - (open + 1 - at)), one;
        for (char c : params + ",") {
            if (c != ',') {
                one += c;
                continue;
            }
            Declared d = declared(one);
            one.clear();
            if (d.name.empty()) continue;
            size_t offset = round_up(k.param_bytes, d.align);
            k.params.push_back({d.name, offset, d.bytes});
            k.attributes.param_bytes.push_back(d.bytes);
            k.param_bytes = offset + d.bytes;
        }
    }
    k.attributes.name = name;
    k.attributes.target = m.target;
    k.attributes.max_threads = 1024;
    for (const char* limit : {".maxntid", ".reqntid"}) {
        size_t found = head.find(limit);
        if (found == std::string::npos) continue;
        const char* p = head.c_str() + found + strlen(limit);
        int threads = 1;
        for (char* next; *p; p = *next == ',' ? next + 1 : "") threads *= (int)strtol(p, &next, 10);
        k.attributes.max_threads = threads;
    }
    k.line = line + (int)std::count(head.begin(), head.end(), '\n');
    k.begin = brace + 1;
    int depth = 1;
    for (k.end = k.begin; k.end < m.text.size(); k.end++) {
        depth += (m.text[k.end] == '{') - (m.text[k.end] == '}');
        if (!depth) break;
    }
    if (depth) fail(m, line, "entry without an end");
    m.kernels[name] = std::move(k);
}
}  // namespace

void decode(Kernel& k) {
    if (k.decoded) return;
    Decoder(k).body();
    for (size_t i = 0; i < k.code.size(); i++) {
        Space s = k.code[i].space;
        const std::string& o = k.opcodes[i];
        bool memory = !o.compare(0, 3, "ld.") || !o.compare(0, 3, "st.") || !o.compare(0, 4, "atom") ||
                      !o.compare(0, 4, "red.");
        if (!memory) continue;
        unsigned bytes = (unsigned)type_bytes(o.substr(o.rfind('.')));
        if (s == Space::shared || s == Space::generic) k.shared_unit = std::min(k.shared_unit, bytes);
        if (s == Space::global || s == Space::generic) k.global_unit = std::min(k.global_unit, bytes);
    }
    k.decoded = true;
}

Module* load_module(std::string ptx, std::string name) {
    Module* m = new Module;
    m->text = std::move(ptx);
    m->name = std::move(name);
    int line = 1;
    const std::string& t = m->text;
    for (size_t at = 0; at < t.size();) {  // line by line at the outermost level
        size_t end = std::min(t.find('\n', at), t.size());
        std::string s = t.substr(at, end - at);
        size_t entry = s.find(".entry "), target = s.find(".target sm_");
        size_t next = end + 1;
        auto has = [&](const char* word) { return s.find(word) != std::string::npos; };
        if (s.compare(0, 2, "//") == 0) {
        } else if (target != std::string::npos) m->target = atoi(s.c_str() + target + 11);
        else if (entry != std::string::npos) {
            read_entry(*m, at + entry + 6, line);
            size_t last = t.find('{', at);
            int depth = 0;
            do depth += (t[last] == '{') - (t[last] == '}');
            while (depth && ++last < t.size());
            next = last + 1;
        } else if (has(".shared ") || has(".global ") || has(".const ")) {
            next = t.find(';', at) + 1;
            Declared d = declared(t.substr(at, next - 1 - at));
            if (has(".shared ")) {
                Symbol symbol{Space::shared, d.bytes, d.align};
                symbol.external = d.external || d.unsized;
                m->symbols[d.name] = symbol;
            } else if (!d.external) declare_variable(*m, d, line);
        } else if (has(".func ")) {  // of no use to kernels that do not call it; a call is an error by name
            next = std::min(t.find_first_of("{;", at), t.size() - 1);
            if (t[next] == '{') {
                int depth = 0;
                do depth += (t[next] == '{') - (t[next] == '}');
                while (depth && ++next < t.size());
            }
            next++;
        }
        next = std::min(next, t.size());
        line += (int)std::count(t.begin() + (long)at, t.begin() + (long)next, '\n');
        at = next;
    }
    return m;
}
const Kernel* find_kernel(Module* m, const std::string& name) {
    auto found = m->kernels.find(name);
    return found == m->kernels.end() ? nullptr : &found->second;
}
Variable find_variable(Module* m, const std::string& name) {
    auto found = m->symbols.find(name);
    if (found == m->symbols.end() || found->second.space != Space::global)
        throw Error(Fault::unsupported, m->name + ": no variable " + name);
    return {found->second.address, found->second.bytes};
}
const Attributes& attributes(const Kernel* k) {
    decode(*const_cast<Kernel*>(k));
    return k->attributes;
}
}  // namespace emulator
