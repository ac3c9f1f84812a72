#!/usr/bin/env python3
"""Tools and reasoning over HTTP, with the template of every family: a tiny model of random weights is held to calls
that its parser reads, and what is streamed joins to what comes whole. Standard library only."""

import json
import os
import pathlib
import re
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server, events  # noqa: E402

TEMPLATES = pathlib.Path(os.environ.get("MILLRACE_DATA_DIR", ""), "corpus", "chat_templates")
FOLDER = tempfile.TemporaryDirectory(prefix="millrace-tools-")
# Of each family one; without the corpus the template that knows no tools.
FAMILIES = [
    "Qwen-Qwen3-0.6B", "Qwen3-Coder", "meta-llama-Llama-3.1-8B-Instruct", "mistralai-Mistral-Nemo-Instruct-2407",
    "Mistral-Small-3.2-24B-Instruct-2506", "mistralai-Ministral-3-14B-Reasoning-2512", "openai-gpt-oss-120b", "GLM-4.6",
    "moonshotai-Kimi-K2", "CohereForAI-c4ai-command-r7b-12-2024-tool_use", "meetkai-functionary-medium-v3.1",
    "deepseek-ai-DeepSeek-V3.1", "google-gemma-2-2b-it", "Qwen-QwQ-32B", "google-gemma-4-31B-it", "ByteDance-Seed-OSS",
    "deepseek-ai-DeepSeek-V3.2", "deepseek-ai-DeepSeek-V4", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "unsloth-Apriel-1.5",
    "LFM2-8B-A1B", "GigaChat3-10B-A1.8B", "GigaChat3.1-10B-A1.8B", "Apertus-8B-Instruct", "Kimi-K2-Thinking",
    "meetkai-functionary-medium-v3.2", "llama-4", "microsoft-Phi-3.5-mini-instruct", "ibm-granite-granite-3.3-2B-Instruct", "HuggingFaceTB-SmolLM3-3B",
]
TOOLS = [
    {"name": "get_weather", "description": "The weather.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 8}, "unit": {"enum": ["c", "f"]}},
        "required": ["city"], "additionalProperties": False}},
    {"name": "add", "parameters": {
        "type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "on": {"type": "boolean"}},
        "required": ["a", "on"], "additionalProperties": False}},
]
OPENAI_TOOLS = [{"type": "function", "function": tool} for tool in TOOLS]
USER = [{"role": "user", "content": "hello"}]
N = 500


def fits(name, arguments):
    """Whether the arguments are what the schema of the tool accepts."""
    if name == "add":
        return set(arguments) == {"a", "on"} and arguments["a"] in range(100) and arguments["on"] in (True, False)
    return name == "get_weather" and set(arguments) <= {"city", "unit"} and len(arguments["city"]) <= 8 \
        and arguments.get("unit", "c") in ("c", "f")


def control_tokens(template):
    marks = r"<\|[^|<>{}' ]+\|>|<\|[a-z_]+>|<[a-z_]+\|>|</?seed:[a-z_]+>|<｜[^｜<>{}]+｜>|\[/?[A-Z_]+\]|</?think>|</?tool_call>"
    return sorted(set(re.findall(marks, template)) - {"<|end|>"})


# As published with Llama 4, in short: tools in the first message, calls as those of functions.
LLAMA_4 = """{{- bos_token }}{%- if tools is defined and tools %}{%- set first = messages[0].content %}{%- set messages = messages[1:] %}
{{- '<|header_start|>user<|header_end|>\\n\\n' + first }}
{{- "\\nHere is a list of functions in JSON format that you can invoke:" }}
{%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{{- "Should you decide to return the function call(s), put them in the format of [func_name1(params_name1=params_value1), ...]\\n<|eot|>" }}
{%- endif %}{%- for message in messages %}{%- if 'tool_calls' in message and message.tool_calls %}
{{- '<|header_start|>assistant<|header_end|>\\n\\n<|python_start|>[' }}
{%- for call in message.tool_calls %}{{- call.function.name + '(' }}
{%- for name, value in call.function.arguments.items() %}{{- name + '=' }}{{- value | tojson }}{%- if not loop.last %}, {% endif %}{%- endfor %}
{{- ')' }}{%- if not loop.last %}, {% endif %}{%- endfor %}{{- ']<|python_end|><|eot|>' }}
{%- elif message.role == 'tool' %}{{- '<|header_start|>ipython<|header_end|>\\n\\n' }}{{- message.content | tojson }}{{- '<|eot|>' }}
{%- else %}{{- '<|header_start|>' + message.role + '<|header_end|>\\n\\n' + message.content + '<|eot|>' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|header_start|>assistant<|header_end|>\\n\\n' }}{%- endif %}"""


def model_file(name, template):
    path = pathlib.Path(FOLDER.name, name + ".gguf")
    path.write_bytes(tiny_gguf.tiny_gguf(template=template, name=name, context=8192, control=control_tokens(template)))
    return str(path)


def joined(chunks):
    """The message of a stream of chat chunks: the deltas put together as clients do it."""
    message, finish = {"content": "", "reasoning_content": "", "tool_calls": []}, None
    for chunk in chunks:
        choice = chunk["choices"][0]
        delta = choice["delta"]
        for name in ("content", "reasoning_content"):
            message[name] += delta.get(name) or ""
        for part in delta.get("tool_calls", ()):
            if part["index"] == len(message["tool_calls"]):
                assert part["id"] and part["type"] == "function"
                message["tool_calls"].append({"name": part["function"]["name"], "arguments": ""})
            else:
                assert part["index"] == len(message["tool_calls"]) - 1 and "id" not in part and "name" not in part["function"]
            message["tool_calls"][-1]["arguments"] += part["function"]["arguments"]
        finish = choice["finish_reason"] or finish
    return message, finish


def family_test(name):
    """The checks, with the template of one family."""
    class Checks(FamilyChecks, unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            path = TEMPLATES / (name + ".jinja")
            template = path.read_text() if path.exists() else LLAMA_4 if name == "llama-4" else tiny_gguf.TEMPLATE
            cls.server = Server(PROGRAM, model_file(name, template), "--threads", "1")

        @classmethod
        def tearDownClass(cls):
            assert cls.server.end() == 0
    return Checks


class FamilyChecks:
    def both_ways(self, asked):
        """The choice of an answer that comes whole, and its calls; what a stream of it joins to must be the same."""
        choice = self.server.json("/v1/chat/completions", asked)["choices"][0]
        message = choice["message"]
        sent = events(self.server.call("POST", "/v1/chat/completions", {**asked, "stream": True})[2])
        self.assertEqual(sent.pop(), "[DONE]")
        streamed, finish = joined([json.loads(each) for each in sent])
        calls = [call["function"] for call in message.get("tool_calls", [])]
        self.assertEqual(streamed["tool_calls"], calls)
        self.assertEqual(streamed["content"], message["content"] or "")
        self.assertEqual(streamed["reasoning_content"], message.get("reasoning_content", ""))
        self.assertEqual(finish, choice["finish_reason"])
        return choice, calls

    def test_calls_that_must_come_are_whole_and_valid(self):
        n_called = 0
        for seed in range(4):
            is_parallel = seed % 2 == 0
            choice, calls = self.both_ways({
                "messages": USER, "tools": OPENAI_TOOLS, "tool_choice": "required", "temperature": 1.5, "seed": seed,
                "max_tokens": N, "parallel_tool_calls": is_parallel})
            if choice["finish_reason"] == "length":
                continue
            self.assertEqual(choice["finish_reason"], "tool_calls")
            n_called += 1
            self.assertGreaterEqual(len(calls), 1)
            if not is_parallel:
                self.assertEqual(len(calls), 1)
            for call in calls:
                self.assertTrue(fits(call["name"], json.loads(call["arguments"])), call)
        self.assertGreater(n_called, 0)

    def test_free_answers(self):
        for seed in range(2):
            self.both_ways({"messages": USER, "tools": OPENAI_TOOLS, "temperature": 1.5, "seed": seed, "max_tokens": 80})

    def test_one_tool_by_name(self):
        named = {"type": "function", "function": {"name": "add"}}
        for choice in (named, {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}):
            _, calls = self.both_ways({"messages": USER, "tools": OPENAI_TOOLS, "tool_choice": choice, "seed": 1,
                                               "max_tokens": N, "parallel_tool_calls": False})
            self.assertEqual({call["name"] for call in calls} | {"add"}, {"add"})

    def test_answers_held_to_a_schema(self):
        schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
        form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
        n_ended = 0
        for seed in range(4):
            choice, calls = self.both_ways({"messages": USER, "response_format": form, "temperature": 1.5, "seed": seed,
                                                    "max_tokens": N})
            self.assertEqual(calls, [])
            if choice["finish_reason"] == "stop":
                n_ended += 1
                self.assertIn(json.loads(choice["message"]["content"]), ({"a": 1}, {"a": 2}))
        self.assertGreater(n_ended, 0)

    def test_signs_in_such_an_answer_are_text(self):
        text = "<think>a</think><tool_call>{}"
        form = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"enum": [text]}}}
        n_ended = 0
        for more in ({}, {"tools": OPENAI_TOOLS}):
            for seed in range(4):
                choice, calls = self.both_ways({"messages": USER, "response_format": form, "temperature": 1.5, "seed": seed,
                                                "max_tokens": N, **more})
                if choice["finish_reason"] == "stop" and not calls:
                    n_ended += 1
                    self.assertEqual(json.loads(choice["message"]["content"]), text)
        self.assertGreater(n_ended, 0)

    def test_a_conversation_with_results(self):
        call = {"id": "call_0123456789abcdef01234567", "type": "function",
                "function": {"name": "add", "arguments": json.dumps({"a": 7, "on": True})}}
        conversation = [*USER, {"role": "assistant", "content": None, "tool_calls": [call]},
                        {"role": "tool", "tool_call_id": call["id"], "content": "the result"}]
        prompt = self.server.json("/apply-template", {"messages": conversation, "tools": OPENAI_TOOLS})["prompt"]
        for part in ("get_weather", "add", "7", "the result"):
            self.assertIn(part, prompt)


@unittest.skipUnless(TEMPLATES.is_dir(), "needs the corpus of chat templates (MILLRACE_DATA_DIR)")
class ReasoningTest(unittest.TestCase):
    """A template whose prompt ends with the sign that begins the reasoning."""

    @classmethod
    def setUpClass(cls):
        template = (TEMPLATES / "Qwen-QwQ-32B.jinja").read_text()
        # It is there with a switch; without one the model reasons always.
        template = re.sub(r"\{%- if not enable_thinking -%\}.*?\{%- endif -%\}", "", template)
        cls.server = Server(PROGRAM, model_file("thinker", template), "--threads", "1")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.end() == 0

    def test_it_stands_apart(self):
        asked = {"messages": USER, "temperature": 0, "max_tokens": 12, "ignore_eos": True}
        reply = self.server.json("/v1/chat/completions", asked)
        message = reply["choices"][0]["message"]
        self.assertEqual((message["content"], message["reasoning"]), ("", message["reasoning_content"]))
        self.assertEqual(reply["usage"]["completion_tokens_details"]["reasoning_tokens"], 12)
        joined_again = self.server.json("/v1/chat/completions", {**asked, "reasoning_format": "none"})["choices"][0]["message"]
        self.assertIn(message["reasoning_content"], joined_again["content"])
        blocks = self.server.json("/v1/messages", {"messages": USER, "temperature": 0, "max_tokens": 12})["content"]
        self.assertEqual([block["type"] for block in blocks], ["thinking"])
        chat = self.server.json("/api/chat", {"model": "thinker", "messages": USER, "stream": False,
                                              "options": {"temperature": 0, "num_predict": 12, "ignore_eos": True}})
        self.assertEqual(chat["message"]["thinking"], message["reasoning_content"])
        items = self.server.json("/v1/responses", {"input": "hello", "temperature": 0, "max_output_tokens": 12, "ignore_eos": True})["output"]
        self.assertEqual(items[0]["content"][0]["text"], message["reasoning_content"])

    def test_it_has_a_limit(self):
        for limit in (0, 5, 30):
            for more in ({}, {"n": 2}, {"tools": OPENAI_TOOLS}, {"tools": OPENAI_TOOLS, "tool_choice": "required"}):
                with self.subTest((limit, more)):
                    reply = self.server.json("/v1/chat/completions", {
                        "messages": USER, "temperature": 1.5, "seed": 3, "max_tokens": 300, "thinking_budget": limit, **more})
                    for choice in reply["choices"]:
                        message = choice["message"]
                        self.assertTrue(message["content"] or message.get("tool_calls"), message)
                    n = reply["usage"]["completion_tokens_details"]["reasoning_tokens"] / len(reply["choices"])
                    self.assertLessEqual(n, limit + 12)  # signs, and what a character lacks

    def test_it_is_turned_off(self):
        for path, more in (("/v1/messages", {"thinking": {"type": "disabled"}}), ("/v1/chat/completions", {"reasoning_effort": "none"})):
            reply = self.server.json(path, {"messages": USER, "temperature": 1.5, "seed": 3, "max_tokens": 40, **more})
            if path == "/v1/messages":
                self.assertEqual([block["type"] for block in reply["content"]], ["text"])
            else:
                self.assertNotIn("reasoning_content", reply["choices"][0]["message"])

    def test_what_a_model_without_it_says(self):
        server = Server(PROGRAM, model_file("speaker", tiny_gguf.TEMPLATE), "--threads", "1")
        try:
            for path, field, value in (("/v1/chat/completions", "thinking_budget", 5), ("/v1/messages", "thinking", {"type": "enabled", "budget_tokens": 5})):
                reply = server.json(path, {"messages": USER, "max_tokens": 5, field: value}, 400)
                self.assertIn("no reasoning", json.dumps(reply))
        finally:
            self.assertEqual(server.end(), 0)


for family in FAMILIES if TEMPLATES.is_dir() else ["plain"]:
    globals()[f"Test_{family}"] = family_test(family)


if __name__ == "__main__":
    unittest.main()
