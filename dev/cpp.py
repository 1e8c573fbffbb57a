"""C++ as tokens: as much of the language as it takes to find a function in this project's sources and to compare code.

tokenize()      the tokens of a text: no white space, comments or directives, nor what only a GPU or the shim compiles
declarations()  functions, tables and constants, with their qualified names
pieces()        all of a tree, by name
"""

import collections
import os
import re

TOKEN = re.compile(
    r"""
    (?P<space>  \s+ | //(?:\\.|[^\\\n])* | /\*.*?\*/ )
  | (?P<macro>  \#(?:\\.|//[^\n]*|/\*.*?\*/|[^\\\n])* )
  | (?P<string> (?:u8|[uUL])?R"(?P<mark>[^()\\\s]*)\(.*?\)(?P=mark)" | (?:u8|[uUL])?"(?:\\.|[^"\\\n])*" )
  | (?P<char>   (?:u8|[uUL])?'(?:\\.|[^'\\\n])+' )
  | (?P<number> \.?\d(?:[eEpP][+-]|'?[\w.])* )
  | (?P<name>   [A-Za-z_]\w* )
  | (?P<sign>   <<=|>>=|->\*|\.\.\.|::|->|\+\+|--|<<|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|. )
    """,
    re.X | re.S,
)
ON_DEVICE = re.compile(r"\b(?:__CUDACC__|__CUDA_ARCH__|WITH_KERNELS|SHIM)\b")
Token = collections.namedtuple("Token", "kind text start end")


def tokenize(text):
    tokens = []
    branches = []  # of each #if that is open: is its present branch left out, and will #else be
    for m in TOKEN.finditer(text):
        if m.lastgroup == "macro":
            word, device = m[0][1:].split()[0], bool(ON_DEVICE.search(m[0]))
            if word.startswith("if"):
                branches.append((device and word != "ifndef", device and word == "ifndef"))
            elif word == "elif":
                branches[-1] = (device, branches[-1][1])
            elif word == "else":
                branches[-1] = (branches[-1][1], False)
            elif word == "endif":
                branches.pop()
        elif m.lastgroup != "space" and not any(left_out for left_out, _ in branches):
            tokens.append(Token(m.lastgroup, m[0], m.start(), m.end()))
    return tokens


def closing(texts):
    """Of each bracket that opens the number of the one that closes it."""
    pairs, opened = {}, []
    for i, text in enumerate(texts):
        if text in ("(", "[", "{"):
            opened.append(i)
        elif text in (")", "]", "}") and opened:
            pairs[opened.pop()] = i
    return pairs


def comparable(tokens):
    """What is compared: (text, its first token, its last). A comma is a semicolon and several in a row are one, so that
    a chain of assignments may become statements; braces do not count; strings side by side are one."""
    out = []
    for i, token in enumerate(tokens):
        text = ";" if token.text == "," else token.text
        if text in ("{", "}") or (text == ";" and out and out[-1][0] == ";"):
            continue
        if text[0] == '"' and out and out[-1][0][0] == '"':
            out[-1] = (out[-1][0][:-1] + text[1:], out[-1][1], i)
        else:
            out.append((text, i, i))
    return out


def declared(head):
    """("scope", "value" or "function", its name) of the texts before a declaration's body, its initialiser or its ;"""
    if "operator" in head:
        at = head.index("operator")
        return "function", "".join(head[at : head.index("(", at + 2)])
    flat, opened = [], []  # without arguments of templates, and with () for parentheses
    for text in head:
        if text in ("(", "[") or (text == "<" and opened[-1:] in ([], ["<"])):
            flat += ["()"] * (text == "(" and not opened)
            opened.append(text)
        elif text in (")", "]") or (text == ">" and opened[-1:] == ["<"]):
            del opened[-1:]
        elif not opened:
            flat.append(text)
    line = re.sub(r"(?:__\w+|alignas|decltype) \(\)", "", " ".join(flat))
    line, end = re.match("(.*?)( = | : |$)", line).groups()  # without initialisers and bases
    scope = re.search(r"\b(?:namespace|struct|class|union|extern)\b *((?:\w+(?: :: )?)*)", line)
    if scope and "()" not in line and end != " = ":
        return "scope", scope[1].replace(" ", "")
    name = re.search(r"((?:\w+ :: )*(?:~ )?\w*)$", line.split("()")[0].strip())[1].replace(" ", "")
    return "value" if end == " = " else "function", name


def declarations(tokens):
    """(qualified name, first token, after the last) of all that is declared in namespaces and structs."""
    texts = [t.text for t in tokens] + [""]
    pairs, scopes, head, i = closing(texts), [], 0, 0
    while i < len(tokens):
        end = 0  # of a declaration
        if texts[i] in ("(", "["):
            i = pairs.get(i, i)
        elif texts[i] == ":" and texts[i - 1] in ("public", "private", "protected"):
            head = i + 1
        elif texts[i] == ";":
            end = i + 1
        elif texts[i] == "}":
            del scopes[-1:]
            head = i + 1
        elif texts[i] == "{":
            kind, name = declared(texts[head:i])
            if kind == "scope":
                scopes.append(name)
                head = i + 1
            else:
                i = pairs.get(i, i)
                if kind == "function" and texts[i + 1] not in ("{", ",", ";"):  # its body, not a member's initialiser
                    end = i + 1
        if end > head + 1:
            yield "::".join([s for s in scopes if s] + [declared(texts[head : end - 1])[1]]), head, end
        head = max(head, end)
        i += 1


class Piece:
    """A declaration in a file: its tokens, and what is compared of them."""

    def __init__(self, path, source, name, tokens):
        self.path, self.source, self.name, self.tokens = path, source, name, tokens
        self.compared = comparable(tokens)
        self.texts = [text for text, _, _ in self.compared]


def sources(top):
    """The C++ files below a folder, without tests, benchmarks and what is built."""
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(f for f in folders if f[0] != "." and f not in ("build", "bench", "test"))
        for name in sorted(files):
            if name.endswith((".cu", ".cuh", ".h", ".cpp")):
                yield os.path.relpath(os.path.join(folder, name), top)


def pieces(top):
    """All declarations of a tree, by the last part of their names."""
    found = collections.defaultdict(list)
    for path in sources(top):
        with open(os.path.join(top, path), encoding="utf8") as f:
            source = f.read()
        tokens = tokenize(source)
        for name, begin, end in declarations(tokens):
            found[name.split("::")[-1]].append(Piece(path, source, name, tokens[begin:end]))
    return found


def named(found, name):
    """The pieces that are called so, whatever namespaces are around them."""
    return [p for p in found.get(name.split("::")[-1], []) if ("::" + p.name).endswith("::" + name)]


def occurrences(texts, wanted):
    """Where some texts begin among others."""
    n = len(wanted)
    return [k for k in range(len(texts) - n + 1) if texts[k] == wanted[0] and texts[k : k + n] == wanted]


def respelled(text, into):
    """C++ in which some tokens, or a few in a row, are spelled otherwise: {old: new}, all at once."""
    tokens = tokenize(text)
    texts, out, at, i = [t.text for t in tokens], "", 0, 0
    wanted = [([t.text for t in tokenize(old)], new) for old, new in into.items()]
    while i < len(tokens):
        for old, new in wanted:
            if texts[i : i + len(old)] == old:
                out += text[at : tokens[i].start] + new
                i += len(old) - 1
                at = tokens[i].end
                break
        i += 1
    return out + text[at:]
