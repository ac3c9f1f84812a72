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
]


def cases():
    return [{"name": name, "kind": "schema", "source": schema,
             "answers": [json.dumps(a, ensure_ascii=False, separators=(",", ":")) for a in answers]}
            for name, schema, answers in SCHEMAS]


if __name__ == "__main__":
    print(json.dumps(cases(), ensure_ascii=False))
