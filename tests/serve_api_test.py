#!/usr/bin/env python3
"""What the server says of its own APIs at /openapi.json: every field it names is read with that type, docs/api/ says the
same in words, and what is wrong is refused by its name.

    tests/serve_api_test.py PROGRAM --write     writes docs/api/"""

import copy
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server  # noqa: E402

PAGES = pathlib.Path(__file__).parent.parent / "docs/api"
FOLDER = tempfile.TemporaryDirectory(prefix="millrace-api-")


def start(name, **options):
    path = pathlib.Path(FOLDER.name, name)
    path.write_bytes(tiny_gguf.tiny_gguf(context=2048, **options))
    return Server(PROGRAM, str(path), "--threads", "1", "--served-name", "model")


class Operation:
    def __init__(self, server, path, method, described):
        self.server, self.path, self.method, self.tag = server, path, method, described["tags"][0]
        self.refusal = described.get("x-millrace-refused")
        content = described.get("requestBody", {}).get("content", {}).get("application/json", {})
        self.schema = content.get("schema", {})
        self.examples = [example["value"] for example in content.get("examples", {}).values()]

    def is_read_whole(self):
        return self.schema.get("additionalProperties") is False

    def fields(self):
        """(name, schema, whether it is needed) of every field, in order."""
        return list(fields_of(self.schema, ""))


def fields_of(schema, name):
    for member, inner in schema.get("properties", {}).items():
        full = f"{name}.{member}" if name else member
        yield full, inner, member in schema.get("required", [])
        yield from fields_of(inner, full)
    if "items" in schema:
        yield from fields_of(schema["items"], name + "[]")


def operations(*servers):
    """Each route once, as a model describes it that serves it."""
    found = {}
    for server in servers:
        for path, methods in server.json("/openapi.json")["paths"].items():
            for method, described in methods.items():
                new = Operation(server, path, method, described)
                old = found.setdefault((path, method), new)
                if new.is_read_whole() and (not old.is_read_whole() or old.refusal and not new.refusal):
                    found[path, method] = new
    return list(found.values())


def shown_type(schema):
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(shown_type(each) for each in schema["anyOf"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of at most {schema['maxItems']}"
    if "maximum" in schema:
        return f"{kind}, {schema['minimum']:g} to {schema['maximum']:g}"
    return f"{kind}, {schema['minimum']} or more" if "minimum" in schema else kind


def page(tag, found):
    lines = [f"# {tag}", "", "What `/openapi.json` says, in words: `tests/serve_api_test.py --write` makes this page from it. A field that is null counts "
             "as absent; a field that is not listed is refused by its name."]
    for operation in found:
        lines += ["", f"## {operation.method.upper()} {operation.path}"]
        if not operation.is_read_whole():
            if operation.refusal:
                lines += ["", f"Not served: {operation.refusal.split(': ', 1)[-1]}."]
            continue
        rows = operation.fields()
        honoured = [(name, schema, needed) for name, schema, needed in rows if "x-millrace" not in schema]
        lines += ["", "| field | |", "| --- | --- |"]
        lines += [f"| `{name}` | {shown_type(schema)}{', needed' if needed else ''} |" for name, schema, needed in honoured]
        refused = [(name, schema) for name, schema, _ in rows if schema.get("x-millrace") == "refused"]
        if refused:
            lines += ["", "Refused:", ""]
        for name, schema in refused:
            harmless = schema.get("const")
            unless = "" if harmless is None else f" unless it is `{json.dumps(harmless)}`"
            lines.append(f"- `{name}`{unless}: {schema['description'].removeprefix('Refused: ')}")
        ignored = [f"`{name}`" for name, schema, _ in rows if schema.get("x-millrace") == "ignored"]
        if ignored:
            lines += ["", f"Read, and changes no answer: {', '.join(ignored)}."]
    return "\n".join(lines) + "\n"


def pages(found):
    """By file name."""
    out = {}
    for tag in dict.fromkeys(operation.tag for operation in found):
        with_bodies = [operation for operation in found if operation.tag == tag and operation.examples]
        if with_bodies:
            out[tag.lower().replace(" ", "-") + ".md"] = page(tag, with_bodies)
    return out


def wrong_values(schema):
    """What the schema does not allow, of the wrong type and too much of the right one; nothing where it allows anything."""
    if "const" in schema:
        return [{"no": "such value"}]
    kinds = [each.get("type") for each in schema.get("anyOf", [schema])]
    if None in kinds:
        return []
    # More than a million are a body that is too long.
    too_many = [[0] * (schema["maxItems"] + 1)] if kinds == ["array"] and schema["maxItems"] < 1 << 20 else []
    if "string" not in kinds:
        return ["x", *too_many]
    return [{"no": "such value"} if {"integer", "number"} & set(kinds) else 7]


def refusal(tag, data):
    """The sentence of a refusal, which has the shape that clients of that API know."""
    reply = json.loads(data)
    if tag in ("Ollama", "TGI"):
        assert set(reply) == {"error"} | ({"error_type"} if tag == "TGI" else set()), reply
        return reply["error"]
    error = reply["error"]
    if tag == "Anthropic":
        assert reply["type"] == "error" and set(reply) == {"type", "error", "request_id"} and set(error) == {"type", "message"}, reply
    else:
        assert set(reply) == {"error"} and set(error) == {"message", "type", "param", "code"}, reply
        assert tag != "llama-server" or error["code"] in (400, None), reply
    assert error["type"] == "invalid_request_error", reply
    return error["message"]


def with_value(body, name, value):
    """A copy of the body that has this value there; nothing where the body has no such place."""
    out = copy.deepcopy(body)
    at = out
    *parents, last = name.replace("[]", ".[]").split(".")
    for part in parents:
        if part == "[]":
            holders = [each for each in at if isinstance(each, dict)] if isinstance(at, list) else []
            rest = name.rsplit(".", 1)[1]
            at = next((each for each in holders if rest in each), None)
        else:
            at = at.get(part) if isinstance(at, dict) else None
        if at is None:
            return None
    if not isinstance(at, dict):
        return None
    at[last] = value
    return out


class ApiTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.servers = [start("tiny.gguf"), start("embedding.gguf", pooling=1)]
        cls.operations = operations(*cls.servers)

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers:
            assert server.end() == 0

    def test_every_body_is_described_whole(self):
        for operation in self.operations:
            if operation.method == "post" and not (operation.refusal or "").startswith("/api/"):
                self.assertTrue(operation.is_read_whole(), (operation.path, operation.refusal))

    def test_the_document(self):
        document = self.servers[0].json("/openapi.json")
        self.assertEqual(document["openapi"], "3.1.0")
        fields = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
        self.assertEqual(fields["temperature"], {"type": "number", "minimum": 0, "maximum": 100})
        self.assertEqual(fields["messages"]["items"]["properties"]["role"]["enum"], ["system", "developer", "user", "assistant", "tool"])
        self.assertEqual(fields["store"]["x-millrace"], "refused")
        self.assertIn("/v1/models/{name}", document["paths"])

    def test_the_examples_are_answered(self):
        for operation in self.operations:
            for example in operation.examples if not operation.refusal else []:
                with self.subTest(operation.path, example=example):
                    status, _, data = operation.server.call("POST", operation.path, example)
                    self.assertEqual(status, 200, data[:300])

    def test_what_is_wrong_is_named(self):
        n = 0
        for operation in self.operations:
            for name, schema, _ in operation.fields():
                for value in wrong_values(schema) if schema.get("x-millrace") != "ignored" else []:
                    body = next(filter(None, (with_value(example, name, value) for example in operation.examples)), None)
                    if body is None:
                        continue
                    n += 1
                    with self.subTest(operation.path, field=name, value=str(value)[:40]):
                        status, _, data = operation.server.call("POST", operation.path, body)
                        self.assertEqual(status, 400, data[:300])
                        self.assertIn(name.rsplit(".", 1)[-1].removesuffix("[]"), refusal(operation.tag, data))
                        self.ask_as_usual(operation.server)
            if operation.is_read_whole():
                status, _, data = operation.server.call("POST", operation.path, {**operation.examples[0], "no_such_field": 1})
                self.assertEqual((status, b"no_such_field" in data), (400, True), (operation.path, data[:300]))
        self.assertGreater(n, 400)

    def ask_as_usual(self, server):
        """The next one works."""
        if server is self.servers[1]:
            server.json("/v1/embeddings", {"input": "hello"})
        else:
            server.json("/v1/completions", {"prompt": "hello", "max_tokens": 1})

    def test_the_pages(self):
        made = pages(self.operations)
        self.assertEqual(sorted(made), sorted(each.name for each in PAGES.glob("*.md")))
        for name, text in made.items():
            self.assertEqual((PAGES / name).read_text(), text, f"{name}: run tests/serve_api_test.py PROGRAM --write")


def write():
    servers = [start("tiny.gguf"), start("embedding.gguf", pooling=1)]
    PAGES.mkdir(exist_ok=True)
    for name, text in pages(operations(*servers)).items():
        (PAGES / name).write_text(text)
    for server in servers:
        server.end()


if __name__ == "__main__":
    write() if "--write" in sys.argv else unittest.main(verbosity=1)
