#!/usr/bin/env python3
"""The clients that people have, against the server: the packages of tests/requirements.txt, sync and async, streamed
and not."""

import asyncio
import pathlib
import sys
import tempfile
import unittest

try:
    import openai
except ImportError as missing:
    print(f"skipped: {missing} (tests/requirements.txt)")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import Server  # noqa: E402

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else "build/release/millrace"
FOLDER = tempfile.TemporaryDirectory(prefix="millrace-clients-")
MODEL = str(pathlib.Path(FOLDER.name, "tiny.gguf"))
pathlib.Path(MODEL).write_bytes(tiny_gguf.tiny_gguf(context=2048))
USER = [{"role": "user", "content": "hello"}]


def setUpModule():
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


if __name__ == "__main__":
    unittest.main(verbosity=1)
