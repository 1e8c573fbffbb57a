"""C++ as tokens: which declarations a file has, and what is compared of them. Enough of the language for this project's sources.

tokenize()      the tokens that a CPU compiles: no white space, comments or directives
declarations()  functions, tables and constants with their qualified names
pieces()        all of a tree, by name
"""
import collections
import os
import re

TOKEN = re.compile(r"""
    (?P<space>  \s+ | //(?:\\.|[^\\\n])* | /\*.*?\*/ )
  | (?P<macro>  \#(?:\\.|//[^\n]*|/\*.*?\*/|[^\\\n])* )
  | (?P<string> (?:u8|[uUL])?R"(?P<mark>[^()\\\s]*)\(.*?\)(?P=mark)" | (?:u8|[uUL])?"(?:\\.|[^"\\\n])*" )
  | (?P<char>   (?:u8|[uUL])?'(?:\\.|[^'\\\n])+' )
  | (?P<number> \.?\d(?:[eEpP][+-]|'?[\w.])* )
  | (?P<name>   [A-Za-z_]\w* )
  | (?P<sign>   <<=|>>=|->\*|\.\.\.|::|->|\+\+|--|<<|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|. )
""", re.X | re.S)
Token = collections.namedtuple("Token", "kind text start end")
ON_DEVICE = re.compile(r"\b(__CUDACC__|__CUDA_ARCH__|WITH_KERNELS|SHIM)\b")
OPENS, CLOSES = "([{", ")]}"
# binary operators from the loosest to the tightest
RANK = {text: rank for rank, level in enumerate(("= += -= *= /= %= &= |= ^= <<= >>=", "? :", "||", "&&", "|", "^", "&", "== !=",
                                                 "< > <= >=", "<<", "+ -", "* / %")) for text in level.split()}


def tokenize(text):
    """The tokens of what a CPU compiles: no white space, comments or directives, nor the branches of #if for a GPU or the shim."""
    tokens, branches = [], []  # of each #if that is open: is its present branch skipped, and would #else be
    for m in TOKEN.finditer(text):
        if m.lastgroup == "macro":
            words = m[0][1:].split()
            if words[0].startswith("if"):
                device, negated = bool(ON_DEVICE.search(m[0])), words[0] == "ifndef"
                branches.append((device and not negated, device and negated))
            elif words[0] in ("else", "elif"):
                branches[-1] = (bool(ON_DEVICE.search(m[0])) if words[0] == "elif" else branches[-1][1], branches[-1][1])
            elif words[0] == "endif":
                branches.pop()
        elif m.lastgroup != "space" and not any(skipped for skipped, _ in branches):
            tokens.append(Token(m.lastgroup, m[0], m.start(), m.end()))
    return tokens


def closing(tokens):
    """Of each bracket that opens the place of the one that closes it."""
    pairs, opened = {}, []
    for i, t in enumerate(tokens):
        if t.text in OPENS:
            opened.append(i)
        elif t.text in CLOSES and opened:
            pairs[opened.pop()] = i
    return pairs


def plain(tokens):
    """What is compared: texts, each with the numbers of its first and last token. A comma is a semicolon, several of them in a row
    are one, braces do not count, and strings side by side are one."""
    out = []
    for i, (kind, text, _, _) in enumerate(tokens):
        text = ";" if text == "," else text
        if text in "{}" or text == ";" and out and out[-1][0] == ";":
            continue
        if kind == "string" and out and out[-1][0][0] == text[0] == '"':
            out[-1] = (out[-1][0][:-1] + text[1:], out[-1][1], i)
        else:
            out.append((text, i, i))
    return out



def declared(head):
    """(whether it is a namespace or a struct, its name) of the texts in front of a declaration's body, initialiser or ;"""
    if "operator" in head:
        at = head.index("operator")
        return False, "".join(head[at:head.index("(", at + 2)])
    flat, depth = [], 0  # without arguments of templates; () for parentheses
    for text in head:
        if depth == 0 and text in "=:{":
            break
        if text == "(" and depth == 0:
            flat.append("()")
        depth += {"<": 1, "(": 1, "[": 1, ">": -1, ")": -1, "]": -1}.get(text, 0)
        if depth == 0 and text not in ">)]":
            flat.append(text)
    while "()" in flat[1:] and re.match(r"__|alignas|decltype", flat[flat.index("()") - 1]):
        del flat[flat.index("()") - 1:flat.index("()") + 1]
    scope = re.search(r"\b(?:namespace|struct|class|union|extern)\b *((?:\w+(?: :: )?)*)", " ".join(flat))
    if scope and "()" not in flat and "=" not in head:
        return True, scope[1].replace(" ", "")
    names = re.search(r"((?:\w+ :: )*(?:~ )?\w*)$", " ".join(flat[:flat.index("()")] if "()" in flat else flat))
    return False, names[1].replace(" ", "")


def declarations(tokens):
    """(qualified name, first token, behind the last) of all that is declared in namespaces and structs: functions, tables, constants."""
    pairs, scopes, head, assigned, i = closing(tokens), [], 0, False, 0
    texts = [t.text for t in tokens] + [""]
    while i < len(tokens):
        text, end = texts[i], 0
        if text in "([":
            i = pairs.get(i, i)
        elif text == "<" and texts[i - 1] == "template":
            depth = 1
            while depth:
                i += 1
                depth += {"<": 1, ">": -1}.get(texts[i], 0)
        elif text == "=":
            assigned = assigned or texts[i - 1] != "operator"
        elif text == "}":
            del scopes[-1:]
            head = i + 1
        elif text == ":" and texts[i - 1] in ("public", "private", "protected"):
            head = i + 1
        elif text == ";":
            end = i + 1
        elif text == "{":
            scope, name = declared(texts[head:i])
            if scope:
                scopes.append(name)
                head = i + 1
            else:
                i = pairs.get(i, i)
                end = 0 if assigned or texts[i + 1] in ("{", ",", ";") else i + 1  # an initialiser, or all of it
        if end:
            yield "::".join(filter(None, scopes + [declared(texts[head:end - 1])[1]])), head, end
            head, assigned = end, False
        i += 1


Piece = collections.namedtuple("Piece", "path name source tokens plain texts")  # a declaration in a file, as tokens and as plain() has them


def sources(top):
    """The C++ files below a folder, without tests and what is built."""
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in ("build", "bench", "test"))
        yield from (os.path.relpath(os.path.join(folder, f), top) for f in sorted(files) if f.endswith((".cu", ".cuh", ".h", ".cpp")))


def read(path):
    with open(path, encoding="utf8") as f:
        return f.read()


def pieces(top):
    """All declarations of a tree, by the last part of their name."""
    found = collections.defaultdict(list)
    for path in sources(top):
        source = read(os.path.join(top, path))
        tokens = tokenize(source)
        for name, begin, end in declarations(tokens):
            flat = plain(tokens[begin:end])
            found[name.split("::")[-1]].append(Piece(path, name, source, tokens[begin:end], flat, [t for t, _, _ in flat]))
    return found


# ---- mutations


def named(code, name):
    """The pieces that are called so, whatever namespaces are around them."""
    return [p for p in code[name.split("::")[-1]] if ("::" + p.name).endswith("::" + name)]


def binary(tokens, i):
    """Is token i an operator between two operands?"""
    return tokens[i].text in RANK and i > 0 and (tokens[i - 1].text in CLOSES or tokens[i - 1].kind not in ("sign", "space") and
                                                 tokens[i - 1].text not in ("return", "case"))
