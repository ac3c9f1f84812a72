"""Grammars as clients send them, each with answers that match: for grammar_vs_others.py."""
import json


def tool(name, properties, required=None):
    return {"type": "object", "properties": properties, "additionalProperties": False,
            "required": list(properties) if required is None else required, "title": name}


TEXT = {"type": "string"}
WORDS = ("The quick brown fox jumps over the lazy dog while 東京 stays calm; naïve café prices rose by 12.5 % "
         "in \"quoted\" C:\\\\paths and\nnew lines, and the function main() { return 0; } compiled at once. ")

PERSON = tool("person", {"name": TEXT, "age": {"type": "integer", "minimum": 0, "maximum": 150},
                         "email": {"type": "string", "format": "email"},
                         "tags": {"type": "array", "items": TEXT, "maxItems": 8},
                         "role": {"enum": ["admin", "editor", "viewer", "guest"]}})
EDIT = tool("edit_file", {"path": TEXT, "old_text": TEXT, "new_text": TEXT, "replace_all": {"type": "boolean"}},
            ["path", "old_text", "new_text"])
WEATHER = tool("weather", {"city": TEXT, "country": {"type": "string", "pattern": "^[A-Z]{2}$"},
                           "unit": {"enum": ["celsius", "fahrenheit"]},
                           "days": {"type": "integer", "minimum": 1, "maximum": 14}}, ["city"])
NODE = {"$defs": {"node": tool("node", {"label": TEXT, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}})},
        "$ref": "#/$defs/node"}
UNION = {"type": "object", "properties": {"action": {"anyOf": [
    tool(f"a{i}", {"kind": {"const": kind}, "target": TEXT, "at": {"type": "array", "items": {"type": "number"},
                                                                  "minItems": 2, "maxItems": 2}})
    for i, kind in enumerate(["click", "move", "type", "scroll", "wait"])]}}, "required": ["action"],
    "additionalProperties": False}
BIG = tool("big", {f"field_number_{i}": [TEXT, {"type": "integer"}, {"type": "boolean"}, {"enum": ["a", "b", None]},
                                         {"type": "array", "items": {"type": "number"}}][i % 5] for i in range(100)})
BOUNDED = tool("bounded", {"title": {"type": "string", "minLength": 1, "maxLength": 100},
                           "body": {"type": "string", "maxLength": 1000}})
CITIES = {"enum": [f"{a}{b}ville-{i}" for i in range(10) for a in ["North", "South", "East", "West", "New "]
                   for b in ["Spring", "Green", "Ash", "Oak", "Mill"]]}
FREE = {"type": "object"}
DATES = tool("event", {"id": {"type": "string", "format": "uuid"}, "start": {"type": "string", "format": "date-time"},
                       "day": {"type": "string", "format": "date"}, "ip": {"type": "string", "format": "ipv4"}})

BIG_ANSWER = {f"field_number_{i}": ["some text of " + str(i), i * 37, True, "b", [1.5, 2, 3.25]][i % 5] for i in range(100)}
TREE = {"label": "root", "children": [{"label": f"child {i}", "children": [{"label": "leaf", "children": []}] * 2} for i in range(4)]}

# As agents and assistants declare their tools.
BASH = tool("bash", {"command": TEXT, "description": {"type": "string", "maxLength": 80}, "timeout_ms": {"type": "integer", "minimum": 1,
            "maximum": 600000}, "run_in_background": {"type": "boolean"}}, ["command"])
ISSUE = tool("create_issue", {"owner": {"type": "string", "pattern": "^[A-Za-z0-9-]{1,39}$"}, "repo": {"type": "string", "pattern": "^[\\w.-]{1,100}$"},
             "title": {"type": "string", "minLength": 1, "maxLength": 256}, "body": {"type": "string", "maxLength": 65536},
             "labels": {"type": "array", "items": {"type": "string", "maxLength": 50}, "maxItems": 100},
             "assignees": {"type": "array", "items": {"type": "string"}, "maxItems": 10}, "milestone": {"type": ["integer", "null"]}},
             ["owner", "repo", "title"])
TODOS = tool("todo_write", {"todos": {"type": "array", "items": tool("todo", {
    "content": {"type": "string", "minLength": 1}, "status": {"enum": ["pending", "in_progress", "completed"]},
    "priority": {"enum": ["high", "medium", "low"]}, "id": TEXT})}})
SEARCH = tool("search", {"query": {"type": "string", "minLength": 2, "maxLength": 400}, "top_k": {"type": "integer", "minimum": 1, "maximum": 100},
              "after": {"type": "string", "format": "date-time"}, "domains": {"type": "array", "items": {"type": "string", "format": "hostname"}},
              "filters": {"type": "object", "additionalProperties": {"anyOf": [TEXT, {"type": "number"}, {"type": "array", "items": TEXT}]}}}, ["query"])
INVOICE = tool("invoice", {"number": {"type": "string", "pattern": "^INV-[0-9]{6}$"}, "currency": {"enum": ["EUR", "USD", "CHF", "GBP"]},
               "lines": {"type": "array", "minItems": 1, "items": tool("line", {"text": {"type": "string", "maxLength": 60}, "quantity": {
                   "type": "integer", "minimum": 1}, "price": {"type": "number", "minimum": 0, "multipleOf": 0.01}})},
               "due": {"type": "string", "format": "date"}, "note": {"anyOf": [{"type": "string", "maxLength": 500}, {"type": "null"}]}})

SCHEMAS = [
    ("person", PERSON, [{"name": "Zoë Müller", "age": 41, "email": "zoe.m@example.com", "tags": ["a b", "c"], "role": "editor"}]),
    ("edit_file", EDIT, [{"path": "src/main.cpp", "old_text": WORDS * 2, "new_text": WORDS * 3, "replace_all": True}]),
    ("weather", WEATHER, [{"city": "Zürich", "country": "CH", "unit": "celsius", "days": 3}, {"city": "Oslo"}]),
    ("tree", NODE, [TREE]),
    ("union", UNION, [{"action": {"kind": "scroll", "target": "the list below", "at": [12.5, -3]}}]),
    ("100 members", BIG, [BIG_ANSWER]),
    ("bounded text", BOUNDED, [{"title": "A title of some words", "body": WORDS * 3}]),
    ("250 names", CITIES, ["New Oakville-7", "SouthSpringville-0"]),
    ("any object", FREE, [{"a": [1, 2.5, {"b": None, "text": WORDS}], "deep": {"er": {"still": [[["x"]]]}}}]),
    ("formats", DATES, [{"id": "123e4567-e89b-12d3-a456-426614174000", "start": "2024-02-29T12:30:00Z", "day": "1999-12-31",
                         "ip": "192.168.0.17"}]),
    ("bash", BASH, [{"command": "grep -rn \"TODO\" src | head -20", "description": "Looks for what is to be done", "timeout_ms": 60000,
                     "run_in_background": False}]),
    ("create_issue", ISSUE, [{"owner": "some-owner", "repo": "a.repo", "title": "The parser drops the last line of a file", "body": WORDS * 4,
                              "labels": ["bug", "good first issue"], "assignees": ["someone"], "milestone": None}]),
    ("todo_write", TODOS, [{"todos": [{"content": f"Step {i}: look at what the tests say", "status": "pending", "priority": "high", "id": str(i)}
                                      for i in range(6)]}]),
    ("search", SEARCH, [{"query": "how are masks of tokens computed for long strings", "top_k": 10, "after": "2024-02-29T12:30:00Z",
                         "domains": ["example.com", "docs.example.org"], "filters": {"lang": "en", "year": 2024, "tags": ["a", "b"]}}]),
    ("invoice", INVOICE, [{"number": "INV-004217", "currency": "CHF", "lines": [{"text": "Repair of a mill wheel", "quantity": 2, "price": 349.95}] * 3,
                           "due": "2025-01-31", "note": "Payable within thirty days, please."}]),
]


def cases():
    return [{"name": name, "kind": "schema", "source": schema,
             "answers": [json.dumps(a, ensure_ascii=False, separators=(",", ":")) for a in answers]}
            for name, schema, answers in SCHEMAS]


if __name__ == "__main__":
    print(json.dumps(cases(), ensure_ascii=False))
