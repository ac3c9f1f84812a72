#!/usr/bin/env python3
"""The dialects of the server as bytes: what each answers, streams and refuses. serve_clients_test.py has their clients."""

import base64
import concurrent.futures
import json
import pathlib
import re
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server, events  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="millrace-dialects-")


def model_file(name, **options):
    path = pathlib.Path(FOLDER.name, name)
    path.write_bytes(tiny_gguf.tiny_gguf(context=2048, **options))
    return str(path)


USER = [{"role": "user", "content": "hello"}]
N = 12


def setUpModule():
    global SERVER, TEXT, N_PROMPT
    SERVER = Server(PROGRAM, model_file("tiny.gguf"), "--threads", "1")
    # What every dialect must answer to the same conversation.
    reply = SERVER.json("/v1/chat/completions", {"messages": USER, "temperature": 0, "max_tokens": N, "ignore_eos": True})
    TEXT, N_PROMPT = reply["choices"][0]["message"]["content"], reply["usage"]["prompt_tokens"]


def tearDownModule():
    assert SERVER.end() == 0


class Dialect(unittest.TestCase):
    def refused(self, path, body, words, status=400):
        reply = SERVER.json(path, body, status)
        self.assertIn(words, json.dumps(reply))
        return reply


class AnthropicTest(Dialect):
    ASKED = {"model": "tiny", "messages": USER, "temperature": 0, "max_tokens": N}

    def test_a_message(self):
        reply = SERVER.json("/v1/messages", self.ASKED)
        self.assertEqual((reply["type"], reply["role"], reply["stop_reason"]), ("message", "assistant", "max_tokens"))
        self.assertEqual(reply["content"], [{"type": "text", "text": TEXT}])
        usage = reply["usage"]
        self.assertEqual(usage["input_tokens"] + usage["cache_read_input_tokens"], N_PROMPT)
        self.assertEqual(usage["output_tokens"], N)

    def test_a_stream(self):
        _, _, data = SERVER.call("POST", "/v1/messages", {**self.ASKED, "stream": True})
        names = [line[7:] for line in data.decode().split("\n") if line.startswith("event: ")]
        sent = [json.loads(each) for each in events(data)]
        self.assertEqual([each["type"] for each in sent], names)
        self.assertEqual(names[:2], ["message_start", "content_block_start"])
        self.assertEqual(names[-3:], ["content_block_stop", "message_delta", "message_stop"])
        self.assertEqual("".join(each["delta"]["text"] for each in sent if each["type"] == "content_block_delta"), TEXT)
        self.assertEqual(sent[-2]["delta"]["stop_reason"], "max_tokens")
        self.assertEqual(sent[-2]["usage"]["output_tokens"], N)

    def test_stop_sequences(self):
        reply = SERVER.json("/v1/messages", {**self.ASKED, "stop_sequences": [TEXT[4:6]]})
        self.assertEqual((reply["stop_reason"], reply["stop_sequence"]), ("stop_sequence", TEXT[4:6]))

    def test_counting(self):
        asked = {"model": "tiny", "messages": USER}
        self.assertEqual(SERVER.json("/v1/messages/count_tokens", asked), {"input_tokens": N_PROMPT})
        longer = SERVER.json("/v1/messages/count_tokens", {**asked, "system": [{"type": "text", "text": "Hm"}]})
        self.assertEqual(longer["input_tokens"], N_PROMPT + len("<system>Hm\n"))

    def test_an_answer_that_is_begun(self):
        begun = SERVER.json("/v1/messages", {**self.ASKED, "messages": [*USER, {"role": "assistant", "content": TEXT[:1]}]})
        self.assertTrue((TEXT[:1] + begun["content"][0]["text"]).startswith(TEXT))

    def test_tools_of_the_past(self):
        SERVER.json("/v1/messages", {**self.ASKED, "messages": [
            *USER, {"role": "assistant", "content": [{"type": "text", "text": "?"}, {"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x"}, {"type": "text", "text": "go on"}]}]})

    def test_refusals(self):
        for name, value in (("max_tokens", None), ("tools", [{"type": "bash_20250124", "name": "bash"}]), ("thinking", {"type": "enabled", "budget_tokens": 1}),
                            ("output_config", {"format": {"type": "xml"}}), ("top_k", "1"), ("messages", [])):
            with self.subTest(name):
                reply = self.refused("/v1/messages", {**self.ASKED, name: value}, name)
                self.assertEqual((reply["type"], reply["error"]["type"]), ("error", "invalid_request_error"))
                self.assertTrue(reply["request_id"])


class OllamaTest(Dialect):
    OPTIONS = {"temperature": 0, "num_predict": N, "ignore_eos": True}

    def test_chat(self):
        asked = {"model": "tiny:latest", "messages": USER, "options": self.OPTIONS}
        reply = SERVER.json("/api/chat", {**asked, "stream": False})
        self.assertEqual(reply["message"], {"role": "assistant", "content": TEXT})
        self.assertEqual((reply["done"], reply["done_reason"], reply["eval_count"]), (True, "length", N))
        _, headers, data = SERVER.call("POST", "/api/chat", asked)
        self.assertEqual(headers["Content-Type"], "application/x-ndjson")
        lines = [json.loads(line) for line in data.decode().splitlines()]
        self.assertEqual("".join(line["message"]["content"] for line in lines), TEXT)
        self.assertEqual([line["done"] for line in lines], [False] * (len(lines) - 1) + [True])
        self.assertEqual(lines[-1]["prompt_eval_count"], N_PROMPT)

    def test_generate(self):
        asked = {"model": "tiny", "prompt": "hello", "options": self.OPTIONS, "stream": False}
        self.assertEqual(SERVER.json("/api/generate", asked)["response"], TEXT)
        raw = SERVER.json("/api/generate", {**asked, "raw": True})
        self.assertEqual(raw["prompt_eval_count"], 1)
        self.assertEqual(SERVER.json("/api/generate", {"model": "tiny"})["done_reason"], "load")

    def test_what_is_there(self):
        self.assertEqual(SERVER.json("/api/tags")["models"][0]["name"], "tiny")
        self.assertEqual(SERVER.json("/api/ps")["models"][0]["context_length"], 2048)
        shown = SERVER.json("/api/show", {"model": "tiny"})
        self.assertEqual((shown["details"]["family"], shown["capabilities"]), ("llama", ["completion", "tools"]))
        self.assertIn("version", SERVER.json("/api/version"))
        self.assertEqual(SERVER.call("GET", "/")[2], b"Ollama is running")

    def test_refusals(self):
        asked = {"model": "tiny", "messages": USER}
        for name, value in (("format", "xml"), ("tools", [{}]), ("think", True), ("options", {"mood": 1}), ("options", {"num_ctx": 1 << 20})):
            with self.subTest(name):
                self.assertEqual(set(self.refused("/api/chat", {**asked, name: value}, name)), {"error"})
        self.refused("/api/chat", {"model": "other", "messages": USER}, "other", 404)
        self.refused("/api/pull", {"model": "tiny"}, "/api/pull", 501)


class LlamaServerTest(Dialect):
    def test_completion(self):
        asked = {"prompt": "ab", "temperature": 0, "n_predict": N, "ignore_eos": True, "return_tokens": True, "n_probs": 2}
        reply = SERVER.json("/completion", asked)
        self.assertEqual((len(reply["tokens"]), reply["stop_type"], reply["tokens_evaluated"]), (N, "limit", 2))
        self.assertEqual(len(reply["completion_probabilities"][0]["top_logprobs"]), 2)
        self.assertEqual(SERVER.json("/completion", {**asked, "prompt": ["a", 98]})["content"], reply["content"])
        sent = [json.loads(each) for each in events(SERVER.call("POST", "/completion", {**asked, "stream": True})[2])]
        self.assertEqual("".join(each["content"] for each in sent), reply["content"])
        self.assertEqual([each["stop"] for each in sent], [False] * (len(sent) - 1) + [True])
        self.refused("/completion", {**asked, "grammar": "root ::= x"}, "grammar")

    def test_infill(self):
        asked = {"input_prefix": "a", "input_suffix": "b", "prompt": "c", "n_predict": N, "temperature": 0}
        self.refused("/infill", asked, "trained to fill in")
        self.refused("/v1/completions", {"prompt": "a", "suffix": "b"}, "suffix")
        control = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>"]
        server = Server(PROGRAM, model_file("infill.gguf", control=control), "--threads", "1")
        try:
            reply = server.json("/infill", {**asked, "input_extra": [{"filename": "x", "text": "y"}]})
            self.assertEqual(reply["prompt"], "<|file_sep|>x\ny\n<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>c")
            same = server.json("/completion", {"prompt": reply["prompt"], "n_predict": N, "temperature": 0,
                                               "stop_token_ids": [tiny_gguf.END + 4]})
            self.assertEqual(same["content"], reply["content"])
            plain = server.json("/infill", {**asked, "prompt": ""})
            completed = server.json("/v1/completions", {"prompt": "a", "suffix": "b", "max_tokens": N, "temperature": 0})
            self.assertEqual(completed["choices"][0]["text"], plain["content"])
            self.assertIn("suffix", json.dumps(server.json("/v1/completions", {"prompt": [97], "suffix": "b"}, 400)))
        finally:
            self.assertEqual(server.end(), 0)

    def test_tokens(self):
        ids = SERVER.json("/tokenize", {"content": "hello a"})["tokens"]
        self.assertEqual(SERVER.json("/detokenize", {"tokens": ids}), {"content": "hello a", "prompt": "hello a"})
        pieces = SERVER.json("/tokenize", {"content": "é", "with_pieces": True})["tokens"]
        self.assertEqual([each["piece"] for each in pieces], [[0xC3], [0xA9]])
        self.assertEqual(SERVER.json("/tokenize", {"prompt": "hello a"})["tokens"], ids)
        self.assertEqual(SERVER.json("/tokenize", {"messages": USER})["count"], N_PROMPT)
        self.assertEqual([each["id"] for each in SERVER.json("/tokenize", {"inputs": "hello a"})], ids)
        self.assertEqual(SERVER.json("/apply-template", {"messages": USER}), {"prompt": "<user>hello\n<assistant>"})

    def test_what_is_there(self):
        self.assertEqual(SERVER.json("/props")["default_generation_settings"]["n_ctx"], 2048)
        self.assertEqual([slot["is_processing"] for slot in SERVER.json("/slots")], [False] * 16)


class TgiTest(Dialect):
    ASKED = {"inputs": "ab", "parameters": {"max_new_tokens": N}}

    def test_generate(self):
        reply = SERVER.json("/generate", self.ASKED)
        self.assertEqual(reply["details"]["generated_tokens"], len(reply["details"]["tokens"]))
        self.assertEqual(SERVER.json("/", self.ASKED)[0]["generated_text"], reply["generated_text"])
        whole = SERVER.json("/generate", {"inputs": "ab", "parameters": {"max_new_tokens": N, "return_full_text": True}})
        self.assertEqual(whole["generated_text"], "ab" + reply["generated_text"])
        sent = [json.loads(each) for each in events(SERVER.call("POST", "/generate_stream", self.ASKED)[2])]
        self.assertEqual("".join(each["token"]["text"] for each in sent), reply["generated_text"])
        self.assertEqual(sent[-1]["generated_text"], reply["generated_text"])
        self.assertEqual([each["details"] is None for each in sent], [True] * (len(sent) - 1) + [False])
        self.assertEqual(SERVER.json("/info")["max_total_tokens"], 2048)

    def test_the_best_of_several(self):
        asked = {"max_new_tokens": N, "temperature": 1.0, "seed": 7}
        reply = SERVER.json("/generate", {"inputs": "ab", "parameters": {**asked, "best_of": 5}})
        drawn = [reply["details"], *reply["details"]["best_of_sequences"]]
        mean = lambda details: sum(token["logprob"] for token in details["tokens"]) / len(details["tokens"])  # noqa: E731
        self.assertEqual(len(drawn), 5)
        self.assertEqual([mean(each) for each in drawn], sorted(map(mean, drawn), reverse=True))
        texts = [reply["generated_text"], *(each["generated_text"] for each in drawn[1:])]
        alone = SERVER.json("/generate", {"inputs": "ab", "parameters": asked})
        self.assertIn(alone["generated_text"], texts)
        self.assertNotIn("best_of_sequences", alone["details"])
        self.assertEqual(sorted(texts), sorted(choice["text"] for choice in SERVER.json("/v1/completions", {
            "prompt": "ab", "max_tokens": N, "temperature": 1.0, "seed": 7, "top_p": 1.0, "n": 5})["choices"]))
        self.refused("/generate", {"inputs": "ab", "parameters": {"best_of": 2}}, "do_sample")
        self.refused("/generate_stream", {"inputs": "ab", "parameters": {**asked, "best_of": 2}}, "do not stream")

    def test_refusals(self):
        for name, value in (("temperature", 0), ("top_p", 0), ("best_of", 0), ("grammar", {}), ("truncate", 3), ("mood", 1)):
            with self.subTest(name):
                reply = self.refused("/generate", {"inputs": "ab", "parameters": {name: value}}, name)
                self.assertEqual(reply["error_type"], "validation")


class PromptLogprobsTest(Dialect):
    """What an answer's tokens are given while it is drawn, they are given as part of a prompt."""

    ASKED = {"prompt": "hello a", "temperature": 0, "max_tokens": N, "logprobs": 2, "ignore_eos": True}

    def test_echo(self):
        drawn = SERVER.json("/v1/completions", self.ASKED)["choices"][0]
        whole = SERVER.json("/v1/completions", {**self.ASKED, "echo": True})["choices"][0]
        self.assertEqual(whole["text"], "hello a" + drawn["text"])
        self.assertEqual(whole["logprobs"]["tokens"], ["hello", " ", "a", *drawn["logprobs"]["tokens"]])
        self.assertIsNone(whole["logprobs"]["token_logprobs"][0])
        self.assertEqual(whole["logprobs"]["token_logprobs"][3:], drawn["logprobs"]["token_logprobs"])
        self.assertEqual(whole["logprobs"]["text_offset"][:4], [0, 5, 6, 7])
        ids = [*SERVER.json("/tokenize", {"content": "hello a"})["tokens"],
               *SERVER.json("/completion", {"prompt": "hello a", "temperature": 0, "n_predict": N, "ignore_eos": True, "return_tokens": True})["tokens"]]
        for _ in range(2):  # the second time the prefix cache knows it
            scored = SERVER.json("/v1/completions", {"prompt": ids, "max_tokens": 0, "logprobs": 2, "echo": True, "prompt_logprobs": 0})["choices"][0]
            self.assertEqual(scored["logprobs"], whole["logprobs"])
            self.assertEqual([next(iter(one.values()))["logprob"] for one in scored["prompt_logprobs"][1:]],
                             whole["logprobs"]["token_logprobs"][1:])
        streamed = [json.loads(each)["choices"][0] for each in events(SERVER.call("POST", "/v1/completions", {**self.ASKED, "echo": True, "stream": True})[2])[:-1]]
        self.assertEqual("".join(each["text"] for each in streamed), whole["text"])
        for name, values in whole["logprobs"].items():
            self.assertEqual([value for each in streamed if each["logprobs"] for value in each["logprobs"][name]], values)

    def test_several_prompts(self):
        reply = SERVER.json("/v1/completions", {"prompt": ["hello a", "h"], "n": 2, "echo": True, "max_tokens": 0, "logprobs": 0})
        self.assertEqual([len(choice["logprobs"]["tokens"]) for choice in reply["choices"]], [3, 3, 1, 1])

    def test_the_best_of_several(self):
        """Those whose tokens are likeliest on average, of each prompt, with numbers of their own."""
        asked = {"prompt": ["hello a", "h"], "temperature": 1.0, "seed": 7, "max_tokens": 6, "ignore_eos": True, "logprobs": 0}
        drawn = SERVER.json("/v1/completions", {**asked, "n": 6})
        best = SERVER.json("/v1/completions", {**asked, "n": 2, "best_of": 6})
        mean = lambda choice: sum(choice["logprobs"]["token_logprobs"]) / 6  # noqa: E731
        expected = []
        for first in (0, 6):
            expected += sorted(drawn["choices"][first:first + 6], key=mean, reverse=True)[:2]
        self.assertEqual([choice["index"] for choice in best["choices"]], [0, 1, 2, 3])
        self.assertEqual([choice["text"] for choice in best["choices"]], [choice["text"] for choice in expected])
        self.assertEqual([mean(choice) for choice in best["choices"]], [mean(choice) for choice in expected])
        self.assertEqual(best["usage"], drawn["usage"])
        del asked["logprobs"]
        bare = SERVER.json("/v1/completions", {**asked, "n": 2, "best_of": 6})["choices"]
        self.assertEqual([choice["text"] for choice in bare], [choice["text"] for choice in expected])
        self.assertEqual([choice["logprobs"] for choice in bare], [None] * 4)
        self.refused("/v1/completions", {**asked, "n": 3, "best_of": 2}, "best_of")
        self.refused("/v1/completions", {**asked, "best_of": 2, "stream": True}, "best_of")
        self.refused("/v1/completions", {**asked, "best_of": 100}, "more than the 128 choices")

    def test_ranks(self):
        reply = SERVER.json("/v1/completions", {"prompt": "hello a", "max_tokens": 1, "prompt_logprobs": 20})["choices"][0]
        self.assertIsNone(reply["logprobs"])
        for one in reply["prompt_logprobs"][1:]:
            ranked = sorted(one.values(), key=lambda each: each["rank"])
            self.assertEqual(ranked, sorted(one.values(), key=lambda each: -each["logprob"]))
            self.assertEqual([each["rank"] for each in ranked][:20], list(range(1, 21)))

    def test_tgi(self):
        asked = {"inputs": "hello a", "parameters": {"max_new_tokens": 1, "decoder_input_details": True}}
        prefill = SERVER.json("/generate", asked)["details"]["prefill"]
        scored = SERVER.json("/v1/completions", {"prompt": "hello a", "max_tokens": 0, "logprobs": 0, "echo": True})["choices"][0]["logprobs"]
        self.assertEqual([each["logprob"] for each in prefill], scored["token_logprobs"])
        self.refused("/generate_stream", asked, "decoder_input_details")

    def test_refusals(self):
        self.refused("/v1/completions", {**self.ASKED, "prompt_logprobs": 1, "stream": True}, "prompt_logprobs")
        self.refused("/v1/chat/completions", {"messages": USER, "prompt_logprobs": 1}, "prompt_logprobs")


class ResponsesTest(Dialect):
    ASKED = {"model": "tiny", "input": "hello", "temperature": 0, "max_output_tokens": N, "ignore_eos": True}

    def test_a_response(self):
        reply = SERVER.json("/v1/responses", self.ASKED)
        self.assertEqual(reply["output"][0]["content"][0]["text"], TEXT)
        self.assertEqual((reply["status"], reply["incomplete_details"]), ("incomplete", {"reason": "max_output_tokens"}))
        same = SERVER.json("/v1/responses", {**self.ASKED, "input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]})
        self.assertEqual(same["output"][0]["content"], reply["output"][0]["content"])

    def test_a_stream(self):
        sent = [json.loads(each) for each in events(SERVER.call("POST", "/v1/responses", {**self.ASKED, "stream": True})[2])]
        self.assertEqual([each["sequence_number"] for each in sent], list(range(len(sent))))
        types = [each["type"].removeprefix("response.") for each in sent]
        self.assertEqual(types[:4], ["created", "in_progress", "output_item.added", "content_part.added"])
        self.assertEqual(types[-4:], ["output_text.done", "content_part.done", "output_item.done", "incomplete"])
        self.assertEqual("".join(each["delta"] for each in sent if each["type"] == "response.output_text.delta"), TEXT)

    def test_refusals(self):
        for name, value in (("store", True), ("previous_response_id", "x"), ("tools", [{}]), ("background", True), ("reasoning", {"effort": "low"}),
                            ("input", [{"type": "function_call"}]), ("text", {"format": {"type": "json"}})):
            with self.subTest(name):
                self.refused("/v1/responses", {**self.ASKED, name: value}, name)


class EmbeddingTest(unittest.TestCase):
    def test_embeddings(self):
        server = Server(PROGRAM, model_file("embedding.gguf", pooling=1), "--threads", "1")
        try:
            reply = server.json("/v1/embeddings", {"model": "embedding", "input": ["hello", "a longer text"]})
            vectors = [each["embedding"] for each in reply["data"]]
            self.assertEqual([len(vector) for vector in vectors], [tiny_gguf.HIDDEN] * 2)
            self.assertAlmostEqual(sum(x * x for x in vectors[0]), 1, places=5)
            packed = server.json("/v1/embeddings", {"input": "hello", "encoding_format": "base64"})["data"][0]["embedding"]
            data = base64.b64decode(packed)
            self.assertEqual(list(struct.unpack(f"<{tiny_gguf.HIDDEN}f", data)), [struct.unpack("f", struct.pack("f", x))[0] for x in vectors[0]])
            self.assertEqual(server.json("/api/embed", {"model": "embedding", "input": ["hello"]})["embeddings"][0], vectors[0])
            self.assertEqual(server.json("/v1/embeddings", {"input": [[97, 98]]})["usage"]["prompt_tokens"], 2)
            for body, words in (({"input": []}, "input"), ({"input": "x" * 3000}, "2048"), ({"input": "x", "dimensions": 3}, "dimensions")):
                self.assertIn(words, json.dumps(server.json("/v1/embeddings", body, 400)))
            self.assertIn("embeddings", server.json("/v1/chat/completions", {"messages": USER}, 400)["error"]["message"])
            for path, more in (("/v1/messages", {"max_tokens": 1}), ("/api/chat", {}), ("/api/generate", {"prompt": "x"})):
                asked = {"model": "embedding", **({} if "prompt" in more else {"messages": USER}), **more}
                self.assertIn("gives embeddings", json.dumps(server.json(path, asked, 400)))
        finally:
            self.assertEqual(server.end(), 0)

    def test_of_a_model_that_has_none(self):
        self.assertIn("no embeddings", SERVER.json("/v1/embeddings", {"input": "x"}, 400)["error"]["message"])


class PageTest(unittest.TestCase):
    def test_the_files(self):
        for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/markdown.js", "text/javascript")):
            status, headers, body = SERVER.call("GET", path, Accept="text/html")
            self.assertEqual((status, headers["Content-Type"].split(";")[0]), (200, kind))
            self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
            source = pathlib.Path(__file__).parent.parent / "src/serve/web" / (path[1:] or "page.html")
            self.assertEqual(body, source.read_bytes())
            self.assertNotIn(b"http://", body.replace(b"http://www.w3.org", b""))


class SameAnswerTest(unittest.TestCase):
    """Cold equals warm: what a request is answered does not depend on what runs beside it."""

    def requests(self):
        for i in range(64):
            draws = {"temperature": [0, 0.8, 1.3][i % 3], "seed": i}
            text = "hello " * (i % 17) + str(i)
            messages = [{"role": "user", "content": text}]
            yield (
                ("/v1/chat/completions", {"messages": messages, **draws, "max_tokens": 8 + i, "logprobs": i % 2 == 0, "n": 1 + i % 3}),
                ("/v1/completions", {"prompt": text, **draws, "max_tokens": 5 + i, "logprobs": 2, "stream": i % 8 == 1}),
                ("/v1/messages", {"model": "tiny", "messages": messages, "max_tokens": 30, "temperature": 0, "stream": i % 8 == 2}),
                ("/api/generate", {"model": "tiny", "prompt": text, "stream": False, "options": {**draws, "num_predict": 20}}),
            )[i % 4]

    def answer(self, index, path, body):
        status, _, data = SERVER.call("POST", path, body, X_Request_Id=f"r{index}")
        self.assertEqual(status, 200, data)
        return self.without_times(data.decode())

    def without_times(self, text):
        """The same without clocks, and without what the cache saved."""
        text = re.sub(r'"(created|cached_tokens|cache_read_input_tokens|input_tokens|\w+_duration)":\d+', "", text)
        return re.sub(r'"created_at":"[^"]*"', "", text)

    def test_alone_and_together(self):
        asked = list(enumerate(self.requests()))
        alone = [self.answer(index, *request) for index, request in asked]
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            together = list(pool.map(lambda each: self.answer(each[0], *each[1]), asked))
        for (index, request), one, other in zip(asked, alone, together):
            self.assertEqual(one, other, (index, request))


if __name__ == "__main__":
    unittest.main(verbosity=1)
