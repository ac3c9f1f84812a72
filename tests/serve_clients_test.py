#!/usr/bin/env python3
"""The clients that people have, against the server: the packages of tests/requirements.txt, sync and async, streamed
and not."""

import asyncio
import json
import pathlib
import sys
import tempfile
import unittest

try:
    import anthropic
    import huggingface_hub
    import langchain_openai
    import ollama
    import openai
except ImportError as missing:
    print(f"skipped: {missing} (tests/requirements.txt)")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="millrace-clients-")
MODEL = str(pathlib.Path(FOLDER.name, "tiny.gguf"))
pathlib.Path(MODEL).write_bytes(tiny_gguf.tiny_gguf(context=2048))
USER = [{"role": "user", "content": "hello"}]
SIDES = ["left", "right"]
TOOL = {"name": "turn", "description": "Turns.", "parameters": {
    "type": "object", "properties": {"side": {"type": "string", "enum": SIDES}}, "required": ["side"], "additionalProperties": False}}


def setUpModule():
    # Clients import parts of themselves when they are first asked for: here, where nothing else runs. Python
    # 3.11 can lose a module's lock when a collection of garbage meets an import (KeyError in importlib).
    for client in (openai.OpenAI(api_key="none"), openai.AsyncOpenAI(api_key="none")):
        for part in ("chat", "completions", "embeddings", "models", "responses"):
            getattr(client, part)
        getattr(client.chat, "completions")
    for client in (anthropic.Anthropic(api_key="none"), anthropic.AsyncAnthropic(api_key="none")):
        getattr(client, "messages")
    global SERVER
    SERVER = Server(PROGRAM, MODEL, "--threads", "1")


def tearDownModule():
    assert SERVER.end() == 0


class OpenAiTest(unittest.TestCase):
    ASKED = {"model": "tiny", "messages": USER, "temperature": 0, "max_tokens": 16, "extra_body": {"ignore_eos": True}}

    def setUp(self):
        self.client = openai.OpenAI(base_url=SERVER.url + "/v1", api_key="none", max_retries=0)

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], ["tiny"])
        self.assertEqual(self.client.models.retrieve("tiny").id, "tiny")

    def test_chat(self):
        reply = self.client.chat.completions.create(**self.ASKED, logprobs=True, top_logprobs=3)
        self.assertEqual(reply.usage.completion_tokens, 16)
        self.assertEqual(len(reply.choices[0].logprobs.content), 16)
        self.assertTrue(reply._request_id)
        stream = self.client.chat.completions.create(**self.ASKED, stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
        self.assertEqual(chunks[-1].usage.completion_tokens, 16)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
        self.assertEqual(text, reply.choices[0].message.content)

    def test_completions(self):
        asked = {**self.ASKED, "prompt": "ab", "logprobs": 2}
        del asked["messages"]
        reply = self.client.completions.create(**asked)
        text = "".join(chunk.choices[0].text for chunk in self.client.completions.create(**asked, stream=True))
        self.assertEqual(text, reply.choices[0].text)
        self.assertEqual(len(reply.choices[0].logprobs.tokens), 16)

    def test_responses(self):
        asked = {"model": "tiny", "input": "hello", "temperature": 0, "max_output_tokens": 16}
        reply = self.client.responses.create(**asked)
        with self.client.responses.stream(**asked) as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        self.assertEqual(text, reply.output_text)

    def test_calls_of_tools(self):
        asked = {**self.ASKED, "max_tokens": 300, "temperature": 1.5, "seed": 1, "tools": [{"type": "function", "function": TOOL}],
                 "tool_choice": "required", "parallel_tool_calls": False}
        call = self.client.chat.completions.create(**asked).choices[0].message.tool_calls[0]
        self.assertIn(json.loads(call.function.arguments)["side"], SIDES)
        with self.client.chat.completions.stream(**{**asked, "parallel_tool_calls": False}) as stream:
            final = stream.get_final_completion().choices[0]
        self.assertEqual(final.finish_reason, "tool_calls")
        self.assertEqual(final.message.tool_calls[0].function.arguments, call.function.arguments)
        history = [*USER, final.message.to_dict(), {"role": "tool", "tool_call_id": final.message.tool_calls[0].id, "content": "up"}]
        self.client.chat.completions.create(**{**asked, "tool_choice": "auto", "messages": history})

    def test_calls_in_responses(self):
        asked = {"model": "tiny", "input": USER, "max_output_tokens": 300, "extra_body": {"seed": 1}, "parallel_tool_calls": False,
                 "tools": [{"type": "function", "strict": True, **TOOL}], "tool_choice": "required"}
        call = self.client.responses.create(**asked).output[-1]
        self.assertIn(json.loads(call.arguments)["side"], SIDES)
        with self.client.responses.stream(**asked) as stream:
            streamed = stream.get_final_response().output[-1]
        self.assertEqual((streamed.type, streamed.name, streamed.arguments), ("function_call", TOOL["name"], call.arguments))
        history = [*USER, streamed.to_dict(), {"type": "function_call_output", "call_id": streamed.call_id, "output": "up"}]
        for item in history[1:]:
            item.pop("parsed_arguments", None)
        self.client.responses.create(**{**asked, "tool_choice": "auto", "input": history})

    def test_asynchronously(self):
        async def ask():
            async with openai.AsyncOpenAI(base_url=SERVER.url + "/v1", api_key="none", max_retries=0) as client:
                async def streamed():
                    stream = await client.chat.completions.create(**self.ASKED, stream=True)
                    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
                whole = client.chat.completions.create(**self.ASKED)
                return await asyncio.gather(whole, *(streamed() for _ in range(8)))
        whole, *texts = asyncio.run(ask())
        self.assertEqual(set(texts), {whole.choices[0].message.content})

    def test_a_stream_that_is_left(self):
        with self.client.chat.completions.create(**{**self.ASKED, "max_tokens": 1500}, stream=True) as stream:
            next(iter(stream))
        self.client.chat.completions.create(**self.ASKED)

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError):
            self.client.chat.completions.create(**{**self.ASKED, "model": "other"})
        with self.assertRaises(openai.BadRequestError) as refused:
            self.client.chat.completions.create(**self.ASKED, n=1000)
        self.assertEqual(refused.exception.param, "n")
        with self.assertRaises(openai.BadRequestError) as refused:
            self.client.chat.completions.create(**{**self.ASKED, "messages": [{"role": "user", "content": "x" * 4000}]})
        self.assertEqual(refused.exception.code, "context_length_exceeded")


class AnthropicTest(unittest.TestCase):
    ASKED = {"model": "tiny", "messages": USER, "max_tokens": 16, "extra_body": {"temperature": 0}}

    def setUp(self):
        self.client = anthropic.Anthropic(base_url=SERVER.url, api_key="none", max_retries=0)

    def test_messages(self):
        reply = self.client.messages.create(**self.ASKED)
        with self.client.messages.stream(**self.ASKED) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(text, reply.content[0].text)
        self.assertEqual((final.stop_reason, final.usage.output_tokens), (reply.stop_reason, reply.usage.output_tokens))

    def test_calls_of_tools(self):
        tool = {"name": TOOL["name"], "input_schema": TOOL["parameters"]}
        asked = {**self.ASKED, "max_tokens": 300, "tools": [tool], "extra_body": {"seed": 1},
                 "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}
        reply = self.client.messages.create(**asked)
        with self.client.messages.stream(**asked) as stream:
            final = stream.get_final_message()
        self.assertEqual((reply.stop_reason, final.stop_reason), ("tool_use", "tool_use"))
        self.assertEqual(final.content[-1].input, reply.content[-1].input)
        self.assertIn(final.content[-1].input["side"], SIDES)
        result = {"type": "tool_result", "tool_use_id": final.content[-1].id, "content": "up"}
        history = [*USER, {"role": "assistant", "content": final.content}, {"role": "user", "content": [result]}]
        self.client.messages.create(**{**asked, "tool_choice": {"type": "auto"}, "messages": history})

    def test_an_answer_held_to_a_schema(self):
        schema = TOOL["parameters"]
        reply = self.client.messages.create(**{**self.ASKED, "max_tokens": 300}, output_config={"format": {"type": "json_schema", "schema": schema}})
        self.assertIn(json.loads(reply.content[0].text)["side"], SIDES)

    def test_counting(self):
        counted = self.client.messages.count_tokens(model="tiny", messages=USER)
        self.assertEqual(counted.input_tokens, len("<user>\n<assistant>") + 1)

    def test_asynchronously(self):
        async def ask():
            async with anthropic.AsyncAnthropic(base_url=SERVER.url, api_key="none", max_retries=0) as client:
                async def streamed():
                    async with client.messages.stream(**self.ASKED) as stream:
                        return "".join([text async for text in stream.text_stream])
                return await asyncio.gather(client.messages.create(**self.ASKED), *(streamed() for _ in range(4)))
        whole, *texts = asyncio.run(ask())
        self.assertEqual(set(texts), {whole.content[0].text})

    def test_errors(self):
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.create(**{**self.ASKED, "model": "other"})
        with self.assertRaises(anthropic.BadRequestError):
            self.client.messages.create(**self.ASKED, tools=[{"name": "f", "input_schema": {"not": {}}}])


class OllamaTest(unittest.TestCase):
    OPTIONS = {"temperature": 0, "num_predict": 16}

    def setUp(self):
        self.client = ollama.Client(host=SERVER.url)

    def test_chat(self):
        whole = self.client.chat(model="tiny", messages=USER, options=self.OPTIONS)
        parts = self.client.chat(model="tiny", messages=USER, options=self.OPTIONS, stream=True)
        self.assertEqual("".join(part.message.content for part in parts), whole.message.content)

    def test_generate(self):
        whole = self.client.generate(model="tiny", prompt="hello", options=self.OPTIONS)
        parts = self.client.generate(model="tiny", prompt="hello", options=self.OPTIONS, stream=True)
        self.assertEqual("".join(part.response for part in parts), whole.response)

    def test_an_answer_held_to_a_schema(self):
        asked = {"model": "tiny", "messages": USER, "options": {**self.OPTIONS, "num_predict": 300}, "format": TOOL["parameters"]}
        whole = self.client.chat(**asked).message.content
        self.assertIn(json.loads(whole)["side"], SIDES)
        self.assertEqual("".join(part.message.content for part in self.client.chat(**asked, stream=True)), whole)

    def test_calls_of_tools(self):
        """Ollama's API cannot ask for a call: seeds are tried until the model opens one, then the grammar holds it."""
        path = pathlib.Path(FOLDER.name, "caller.gguf")
        path.write_bytes(tiny_gguf.tiny_gguf(name="caller", context=2048, control=["<tool_call>", "</tool_call>"]))
        server = Server(PROGRAM, str(path), "--threads", "1")
        try:
            client = ollama.Client(host=server.url)
            tools = [{"type": "function", "function": TOOL}]
            for seed in range(60):
                asked = {"model": "caller", "messages": USER, "tools": tools,
                         "options": {"temperature": 1.5, "seed": seed, "num_predict": 400}}
                message = client.chat(**asked).message
                if message.tool_calls:
                    break
            calls = [(call.function.name, dict(call.function.arguments)) for call in message.tool_calls]
            for name, arguments in calls:
                self.assertEqual(name, "turn")
                self.assertIn(arguments["side"], SIDES)
            streamed = [call for part in client.chat(**asked, stream=True) for call in part.message.tool_calls or ()]
            self.assertEqual([(call.function.name, dict(call.function.arguments)) for call in streamed], calls)
            history = [*USER, message, {"role": "tool", "tool_name": "turn", "content": "up"}]
            self.assertTrue(client.chat(**{**asked, "messages": history}).done)
        finally:
            self.assertEqual(server.end(), 0)

    def test_what_is_there(self):
        self.assertEqual([model.model for model in self.client.list().models], ["tiny"])
        self.assertEqual(self.client.show("tiny").details.family, "llama")
        self.assertEqual(len(self.client.ps().models), 1)

    def test_asynchronously(self):
        async def ask():
            client = ollama.AsyncClient(host=SERVER.url)
            whole = await client.chat(model="tiny", messages=USER, options=self.OPTIONS)
            stream = await client.chat(model="tiny", messages=USER, options=self.OPTIONS, stream=True)
            return whole, [part async for part in stream]
        whole, parts = asyncio.run(ask())
        self.assertEqual("".join(part.message.content for part in parts), whole.message.content)
        self.assertEqual([part.done for part in parts], [False] * (len(parts) - 1) + [True])

    def test_errors(self):
        with self.assertRaises(ollama.ResponseError) as refused:
            self.client.chat(model="other", messages=USER)
        self.assertEqual(refused.exception.status_code, 404)


class HuggingFaceTest(unittest.TestCase):
    def setUp(self):
        self.client = huggingface_hub.InferenceClient(SERVER.url)

    def test_text_generation(self):
        whole = self.client.text_generation("ab", max_new_tokens=16)
        detailed = self.client.text_generation("ab", max_new_tokens=16, details=True)
        self.assertEqual(detailed.generated_text, whole)
        self.assertEqual("".join(self.client.text_generation("ab", max_new_tokens=16, stream=True)), whole)

    def test_chat_completion(self):
        reply = self.client.chat_completion(USER, max_tokens=16, temperature=0)
        parts = self.client.chat_completion(USER, max_tokens=16, temperature=0, stream=True)
        self.assertEqual("".join(part.choices[0].delta.content or "" for part in parts), reply.choices[0].message.content)

    def test_asynchronously(self):
        async def ask():
            client = huggingface_hub.AsyncInferenceClient(SERVER.url)
            whole = await client.text_generation("ab", max_new_tokens=16)
            return whole, "".join([part async for part in await client.text_generation("ab", max_new_tokens=16, stream=True)])
        whole, streamed = asyncio.run(ask())
        self.assertEqual(streamed, whole)


class LangChainTest(unittest.TestCase):
    ASKED = [("system", "Be terse."), ("user", "hello")]

    def setUp(self):
        self.chat = langchain_openai.ChatOpenAI(model="tiny", base_url=SERVER.url + "/v1", api_key="none", temperature=0, max_tokens=16,
                                                max_retries=0, extra_body={"ignore_eos": True})

    def test_chat(self):
        reply = self.chat.invoke(self.ASKED)
        self.assertEqual(reply.usage_metadata["output_tokens"], 16)
        self.assertEqual("".join(chunk.content for chunk in self.chat.stream(self.ASKED)), reply.content)
        self.assertEqual(asyncio.run(self.chat.ainvoke(self.ASKED)).content, reply.content)
        self.assertEqual([each.content for each in self.chat.batch([self.ASKED] * 3)], [reply.content] * 3)

    def test_structured_output(self):
        schema = {"title": "answer", "type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "additionalProperties": False}
        chat = langchain_openai.ChatOpenAI(model="tiny", base_url=SERVER.url + "/v1", api_key="none", temperature=0, max_tokens=50, max_retries=0)
        answer = chat.with_structured_output(schema, method="json_schema").invoke("hello")
        self.assertIn(answer["yes"], (True, False))


if __name__ == "__main__":
    unittest.main(verbosity=1)
