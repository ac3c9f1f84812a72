#!/usr/bin/env python3
"""Chat templates beside jinja2 itself, in the environment that Hugging Face renders them in.

Usage: jinja_test.py MILLRACE [N_RANDOM] [SEED]
       jinja_test.py --write    (what jinja2 makes of each case of tests/data/jinja_cases.txt, into that file)

Random expressions give the same text, or an error where jinja2 raises one; and the cases that chat_template_test
checks without Python say what jinja2 says. Known differences: integers have 64 bits, objects print without their
address, and a slice of what has no slices is an error also where jinja2 computes it at compile time.
"""
import concurrent.futures
import copy
import datetime
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import warnings

try:
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError:
    print("skipped: needs the Python package jinja2 (tests/requirements.txt)")
    sys.exit(77)
if jinja2.__version__ != "3.1.2":
    print(f"skipped: needs jinja2 3.1.2 (tests/requirements.txt), found {jinja2.__version__}")
    sys.exit(77)

NOW = "2025-03-09T14:30:05"
DATA = pathlib.Path(__file__).parent / "data"
VARIABLES = json.loads((DATA / "jinja_variables.json").read_text())


class GenerationTag(jinja2.ext.Extension):
    """As transformers has it: the body is called like the body of a call block."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_call"), [], [], body).set_lineno(line)

    def _call(self, caller):
        return caller()


def make_environment():
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = datetime.datetime.fromisoformat(NOW).strftime
    return environment


ENVIRONMENT = make_environment()


def expected(template):
    """(True, text) or (False, what was raised)"""
    try:
        return True, ENVIRONMENT.from_string(template).render(**{"tools": None, "documents": None, **copy.deepcopy(VARIABLES)})
    except Exception as error:  # whatever Python raises is an error of the template
        return False, f"{type(error).__name__}: {error}"


def rendered(program, folder, index, template):
    path = pathlib.Path(folder) / f"{index}.jinja"
    path.write_bytes(template.encode())
    run = subprocess.run([program, "render", str(path), "--input", str(pathlib.Path(folder) / "input.json")],
                         capture_output=True, timeout=60)
    path.unlink()
    if run.returncode not in (0, 1, 3):
        return None, f"exit status {run.returncode}: {run.stderr.decode(errors='replace')}"
    text = (run.stdout if run.returncode == 0 else run.stderr).decode(errors="replace")
    return run.returncode == 0, text


def is_equal(wanted, found):
    if found[0] is False and ("64 bits" in found[1] or "has no slices" in found[1]):
        return True
    if wanted[0] and " at 0x" in wanted[1].lower():
        return True
    return found[0] is not None and wanted[0] == found[0] and (not wanted[0] or wanted[1] == found[1])


class Generator:
    """Random expressions that mostly make sense."""

    FILTERS = ("length string upper lower title capitalize trim list first last sort unique reverse join int float abs "
               "round tojson items dictsort sum min max escape safe wordcount default urlencode count string list "
               "filesizeformat e forceescape").split()
    FILTERS_WITH = ["replace('a', 'x')", "replace('l', '', 1)", "join(', ')", "default('d', true)", "round(1)",
                    "round(1, 'floor')", "indent(2)", "indent(2, true)", "tojson(indent=2)", "tojson(ensure_ascii=true)",
                    "tojson(separators=(',', ':'))", "tojson(sort_keys=true)", "map('upper') | list", "batch(2) | list",
                    "map(attribute='name') | list", "select('string') | list", "reject('none') | list", "slice(2) | list",
                    "selectattr('age', 'gt', 26) | list", "rejectattr('name', 'eq', 'Al') | list", "sort(reverse=true)",
                    "sort(attribute='name')", "sort(attribute='age,name')", "groupby('age')", "map('length') | list",
                    "groupby('address.city') | map(attribute='grouper') | list", "sum(attribute='age')", "center(15)",
                    "min(attribute='age')", "truncate(8)", "truncate(8, true, '..')", "trim('Hd')", "int(5)", "int(0, 16)",
                    "batch(2, '-') | list", "unique | list", "dictsort(by='value')", "format(1)", "attr('upper')",
                    "unique(attribute='age') | list", "reverse | list", "map('int') | list", "sort | last", "items | list"]
    TESTS = ("defined undefined none string number integer float boolean mapping iterable sequence odd even true false "
             "lower upper callable escaped").split()
    TESTS_WITH = ["divisibleby(2)", "eq(1)", "gt 2", "in [1, 2]", "sameas true", "ne 'a'", "lt 5"]
    METHODS = ["upper()", "lower()", "title()", "capitalize()", "swapcase()", "strip()", "lstrip()", "rstrip()",
               "strip('Hd ')", "split()", "split(',')", "split('o', 1)", "rsplit(None, 1)", "rsplit('o', 1)",
               "splitlines()", "splitlines(true)", "startswith('He')", "endswith(('d', 'x'))", "find('o')", "rfind('o')",
               "find('o', 5)", "count('l')", "replace('l', 'LL')", "replace('', '-')", "isdigit()", "isalpha()",
               "isupper()", "isspace()", "istitle()", "isidentifier()", "partition(',')", "rpartition('o')", "zfill(15)",
               "center(16, '*')", "ljust(14, '.')", "rjust(14)", "join(['a', 'b'])", "join(words)", "removeprefix('He')",
               "removesuffix('ld')", "index('z')", "expandtabs(4)", "casefold()", "keys()", "values()",
               "items()", "get('a')", "get('zz', 5)", "get('zz')", "copy()", "index(1)", "count(1)", "pop()", "append(1)",
               "format(1, 2)", "bit_length()", "is_integer()", "items() | list", "keys() | list", "update({})", "islower()"]
    NAMES = list(VARIABLES) + ["missing"]
    LITERALS = ["1", "0", "-2", "3.0", "0.1", "'abc'", "'a b'", "''", "true", "none", "[1, 2, 3]", "(1, 'x')", "{'k': 1}",
                "10", "'%s-%s'", "'{}|{}'", "'%5.2f'", "'%d'", "'ÄÖ'", "1e3", "range(4)", "[]", "()", "'12'", "{1: 'a', none: 2}"]
    OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
    SLICES = ["0", "1", "-1", "1:", ":2", "::2", "::-1", "-2:", "1:-1", "5:1:-2", ":-3:-1", "'a'", "'name'", "99", ":99"]

    def __init__(self, seed):
        self.random = random.Random(seed)

    def atom(self):
        return self.random.choice(self.NAMES if self.random.random() < 0.7 else self.LITERALS)

    def expression(self, depth=0):
        r = self.random
        if depth > 3:
            return self.atom()
        kind = r.randrange(12)
        inner = lambda: self.expression(depth + 1)
        if kind < 2:
            return self.atom()
        if kind < 4:
            return f"{self.wrapped(depth)} | {r.choice(self.FILTERS if r.random() < 0.5 else self.FILTERS_WITH)}"
        if kind < 6:
            return f"{self.wrapped(depth)}.{r.choice(self.METHODS)}"
        if kind == 6:
            return f"{self.wrapped(depth)} is {r.choice(['', 'not '])}{r.choice(self.TESTS + self.TESTS_WITH)}"
        if kind == 7:
            return f"{self.wrapped(depth)}[{r.choice(self.SLICES)}]"
        if kind < 10:
            return f"{self.wrapped(depth)} {r.choice(self.OPERATORS)} {self.wrapped(depth)}"
        if kind == 10:
            return f"{inner()} if {inner()} else {inner()}"
        return r.choice([f"[{inner()}, {inner()}]", f"not {self.wrapped(depth)}", f"-{self.wrapped(depth)}",
                         f"{{'x': {inner()}}}", f"({inner()},)", f"{self.atom()}.{r.choice(['name', 'a', 'age', '0'])}"])

    def wrapped(self, depth):
        return f"({self.expression(depth + 1)})" if self.random.random() < 0.5 else self.atom()

    def template(self):
        kind = self.random.randrange(8)
        if kind == 0:
            return f"{{% for x in {self.expression()} %}}{{{{ loop.index }}}}{{{{ x }}}};{{% else %}}-{{% endfor %}}"
        if kind == 1:
            return f"{{% set x = {self.expression()} %}}{{% if x %}}{{{{ x }}}}{{% else %}}~{{% endif %}}"
        return f"{{{{ {self.expression()} }}}}"


RAISES = "(raises)"


def read_cases():
    """Pairs of a template and what it becomes."""
    with open(DATA / "jinja_cases.txt", newline="") as file:
        cases = [case.split("\n>>>\n") for case in file.read().removesuffix("\n---\n").split("\n---\n")]
    return [(case[0], case[1] if len(case) > 1 else None) for case in cases]


def text_of(template):
    has_text, text = expected(template)
    return text if has_text else RAISES


def write_cases():
    cases = [f"{template}\n>>>\n{text_of(template)}\n---\n" for template, _ in read_cases()]
    with open(DATA / "jinja_cases.txt", "w", newline="") as file:
        file.write("".join(cases))


def main():
    warnings.simplefilter("ignore", SyntaxWarning)  # of the Python that jinja2 makes
    if sys.argv[1] == "--write":
        return write_cases()
    program = sys.argv[1]
    n_random = int(sys.argv[2]) if len(sys.argv) > 2 else 600
    generator = Generator(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    templates = [generator.template() for _ in range(n_random)]
    n_wrong = n_errors = 0
    for template, text in read_cases():
        if text != text_of(template) and " at 0x" not in text:
            n_wrong += 1
            print(f"--- {template}\njinja_cases.txt: {text!r}\njinja2:          {text_of(template)!r}")
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        (pathlib.Path(folder) / "input.json").write_text(json.dumps({**VARIABLES, "now": NOW}))
        found = pool.map(lambda job: rendered(program, folder, *job), enumerate(templates))
        for template, result in zip(templates, found):
            wanted = expected(template)
            n_errors += not wanted[0]
            if not is_equal(wanted, result):
                n_wrong += 1
                if n_wrong <= 25:
                    print(f"--- {template}\nexpected {wanted}\nfound    {result}")
    print(f"{len(templates)} templates, {n_errors} of which raise: {n_wrong} differ from jinja2 {jinja2.__version__}")
    return n_wrong != 0


if __name__ == "__main__":
    sys.exit(main())
