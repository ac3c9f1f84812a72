#!/usr/bin/env python3
"""Within a program no two files define different types of one name: the linker would take one's functions for the other's.

Reads the sources as tokens. A nameless namespace of a .cpp file is that file's own, and so is a test's program. Standard library only."""

import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENDS = {".h", ".inl", ".cuh", ".cpp", ".cu"}
TOKEN = re.compile(r'''//[^\n]*|/\*.*?\*/|^[ \t]*\#(?:\\\n|[^\n])*|(?P<kept>
    R"(?P<mark>[^()\s\\]*)\(.*?\)(?P=mark)"|"(?:[^"\\]|\\.)*"|\d(?:'?\w|\.)*|'(?:[^'\\]|\\.)*'|\w+|::|\[\[|\]\]|\S)''',
                   re.X | re.S | re.M)
# The beginning of a definition up to its {, its tokens separated by spaces.
NAMESPACE = re.compile(r"(?:inline )?namespace ?(?P<name>.*)$")
TYPE = re.compile(r"(?:(?:typedef|static|inline|constexpr|const) )*(?:struct|class|union|enum(?: class| struct)?) "
                  r"(?P<name>\w[^=()]*?)(?: final)?(?: : .*)?$")
IGNORED = re.compile(r"\[\[.*?\]\] ?|(?:alignas|__align__|__attribute__) \( .*? \) (?:\) )?")


def without_template(head):
    while head.startswith("template <"):
        depth = 0
        for i, c in enumerate(head):
            depth += (c == "<") - (c == ">")
            if c == ">" and depth == 0:
                break
        head = head[i + 2:]
    return head


def types_of(text):
    """Each type that is defined in a namespace with a name: its name and its tokens."""
    tokens = [found["kept"] for found in TOKEN.finditer(text) if found["kept"]]
    scopes, start, types = [], 0, []
    for i, token in enumerate(tokens):
        if token == "{":
            head = IGNORED.sub("", without_template(" ".join(tokens[start:i])))
            if found := NAMESPACE.match(head):
                scopes.append(("namespace", found["name"].replace(" ", ""), i))
            elif all(kind == "namespace" for kind, *_ in scopes) and (found := TYPE.match(head)):
                scopes.append(("type", found["name"], start))
            else:
                scopes.append(("namespace" if head == 'extern "C"' else "other", "C", i))
        elif token == "}" and scopes:
            kind, name, begin = scopes.pop()
            names = [outer for _, outer, _ in scopes]
            if kind == "type" and "" not in names:
                types.append(("::".join([*names, name.replace(" ", "")]), tokens[begin:i]))
        if token in "{};":
            start = i + 1
    return types


def is_program(path):
    return not path.startswith("src/") or path.endswith("_test.cpp")


def differences(files):
    """Sentences on types of one name. `files` are (path, text); what is not in src, or is a test, is a program of its own."""
    seen, out = {}, []
    for path, text in sorted(files, key=lambda file: (is_program(file[0]), file[0])):
        for name, tokens in types_of(text):
            first = seen.get(name)
            if first and first[0] != path and first[1] != tokens:
                out.append(f"{name} is defined in {first[0]} and otherwise in {path}")
            elif not is_program(path):
                seen.setdefault(name, (path, tokens))
    return out


def in_namespace(name, body):
    return f"namespace {name} {{\n{body}\n}}  // namespace {name}\n"


class TypesTest(unittest.TestCase):
    def test_the_sources(self):
        files = [(str(path.relative_to(ROOT)), path.read_text()) for folder in ("src", "tests", "benchmarks", "fuzz")
                 for path in (ROOT / folder).rglob("*") if path.suffix in ENDS]
        self.assertGreater(sum(len(types_of(text)) for _, text in files), 500)
        self.assertEqual(differences(files), [])

    def test_a_planted_pair_is_found(self):
        pairs = (("struct Row { int a; };", "struct Row { long a; };"),
                 ("class Row final : public Base { int a; };", "struct Row {};"),
                 ("enum class Row : int { a };", "enum Row { a, b };"),
                 ("template <class T, class U = List<T>> struct Row { T a; };", "template <class T> struct Row {};"),
                 ("struct alignas(64) Row { int a; };", "struct [[nodiscard]] Row {};"),
                 ("constexpr struct Row { char a; } kRow{'{'};", "/* { */ struct Row {};  // }"),
                 ("int f() { return R\"({)\"[0] + '\\''; }\nstruct Row { int a; };", "#define X {\nstruct Row {};"),
                 ("template <> struct Row<1> { int a; };", "template <> struct Row<1> {};"),
                 ("struct Outer::Row { int a; };", "struct Outer::Row {};"))
        for pair in pairs:
            for path in ("src/b/row.h", "src/b/row_test.cpp", "benchmarks/row.cpp"):
                one, other = (in_namespace("millrace::b", text) for text in pair)
                found = differences([("src/a/row.cpp", one), (path, other)])
                self.assertEqual(len(found), 1, (pair, path))
                self.assertRegex(found[0], rf"millrace::b::[\w<>:]*Row\S* is defined in src/a/row.cpp and otherwise in {path}")

    def test_what_is_no_pair(self):
        one, other = "struct Row { int a; };", "struct Row {};"
        for a, b in ((one, one + "  // the same"), (one, "struct Row;"), (one, "struct Row f() {}"),
                     (in_namespace("a", one), in_namespace("b", other)),
                     (one, in_namespace("", other)), (one, "int f() { " + other + " }"), (one, "struct Table { " + other + " };"),
                     ("template <> struct Row<1> { int a; };", "template <> struct Row<2> {};")):
            self.assertEqual(differences([("src/a.cpp", a), ("src/b.cpp", b)]), [], (a, b))
        self.assertEqual(differences([("src/a_test.cpp", one), ("src/b_test.cpp", other)]), [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])  # it needs no program
