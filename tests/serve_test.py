#!/usr/bin/env python3
"""The HTTP server as a stranger meets it: requests right and wrong, streams, limits, ends. Standard library only;
serve_clients_test.py runs the real clients."""

import json
import os
import pathlib
import re
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server, events, read_all  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="millrace-serve-")
CONTEXT = 4096
MODEL = str(pathlib.Path(FOLDER.name, "tiny.gguf"))
pathlib.Path(MODEL).write_bytes(tiny_gguf.tiny_gguf(context=CONTEXT))
LONG = str(pathlib.Path(FOLDER.name, "long.gguf"))  # for answers that take seconds at least
pathlib.Path(LONG).write_bytes(tiny_gguf.tiny_gguf(context=65536))

USER = [{"role": "user", "content": "hello"}]
# The tiny model is random: what it says is noise, but the same noise each time.
GREEDY = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}


def chat(**fields):
    return {"messages": USER, **GREEDY, **fields}


def setUpModule():
    global SERVER
    SERVER = Server(PROGRAM, MODEL, "--threads", "1")


def tearDownModule():
    assert SERVER.end() == 0


class ChatTest(unittest.TestCase):
    def test_an_answer(self):
        reply = SERVER.json("/v1/chat/completions", chat(model="tiny"))
        self.assertEqual(reply["object"], "chat.completion")
        self.assertEqual(reply["model"], "tiny")
        self.assertEqual(reply["choices"][0]["finish_reason"], "length")
        self.assertEqual(reply["choices"][0]["message"]["role"], "assistant")
        self.assertEqual(reply["usage"]["completion_tokens"], 12)
        self.assertEqual(reply["usage"]["total_tokens"], reply["usage"]["prompt_tokens"] + 12)

    def test_streamed_and_whole_are_the_same_text(self):
        whole = SERVER.json("/v1/chat/completions", chat(n=2, logprobs=True, top_logprobs=2))
        _, headers, data = SERVER.call("POST", "/v1/chat/completions", chat(
            n=2, logprobs=True, top_logprobs=2, stream=True, stream_options={"include_usage": True}))
        self.assertEqual(headers["Content-Type"], "text/event-stream")
        sent = events(data)
        self.assertEqual(sent.pop(), "[DONE]")
        chunks = [json.loads(each) for each in sent]
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], 24)
        self.assertTrue(all(chunk["usage"] is None for chunk in chunks[:-1]))
        for index in (0, 1):
            of_choice = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == index]
            text = "".join(c["delta"].get("content", "") for c in of_choice)
            self.assertEqual(text, whole["choices"][index]["message"]["content"])
            self.assertEqual([c["delta"]["role"] for c in of_choice if "role" in c["delta"]], ["assistant"])
            self.assertEqual([c["finish_reason"] for c in of_choice if c["finish_reason"]], ["length"])
            logprobs = [entry for c in of_choice if c["logprobs"] for entry in c["logprobs"]["content"]]
            self.assertEqual(logprobs, whole["choices"][index]["logprobs"]["content"])
            self.assertEqual(len(logprobs), 12)
            for entry in logprobs:
                self.assertEqual(len(entry["top_logprobs"]), 2)
                self.assertEqual(entry["logprob"], entry["top_logprobs"][0]["logprob"])  # greedy

    def test_seeds(self):
        def text(**fields):
            drawn = chat(temperature=1.5, **fields)
            return [c["message"]["content"] for c in SERVER.json("/v1/chat/completions", drawn)["choices"]]
        self.assertEqual(text(seed=7), text(seed=7))
        self.assertNotEqual(text(seed=7), text(seed=8))
        self.assertNotEqual(text(), text())
        several = text(seed=7, n=3)
        self.assertEqual(several[0], text(seed=7)[0])
        self.assertEqual(len(set(several)), 3)

    def test_stop(self):
        text = SERVER.json("/v1/chat/completions", chat(max_tokens=60))["choices"][0]["message"]["content"]
        stop = text[3:5]
        reply = SERVER.json("/v1/chat/completions", chat(max_tokens=60, stop=stop))
        self.assertEqual(reply["choices"][0]["message"]["content"], text[:text.index(stop)])
        self.assertEqual(reply["choices"][0]["finish_reason"], "stop")
        self.assertLess(reply["usage"]["completion_tokens"], 60)
        kept = SERVER.json("/v1/chat/completions", chat(max_tokens=60, stop=[stop], include_stop_str_in_output=True))
        self.assertEqual(kept["choices"][0]["message"]["content"], text[:text.index(stop)] + stop)

    def test_a_stop_ends_one_choice_alone(self):
        def choices(**fields):
            reply = SERVER.json("/v1/chat/completions", chat(temperature=1.5, seed=7, n=3, max_tokens=60, **fields))
            return [(c["message"]["content"], c["finish_reason"]) for c in reply["choices"]]
        whole = choices()
        stop = next(a for a in whole[0][0] if any(a not in text for text, _ in whole[1:]))
        self.assertEqual(choices(stop=stop), [(text.split(stop)[0], "stop" if stop in text else "length")
                                              for text, _ in whole])

    def test_cached_tokens(self):
        body = chat(messages=[{"role": "user", "content": "a long beginning " * 20}])
        first, again = (SERVER.json("/v1/chat/completions", body)["usage"] for _ in range(2))
        self.assertGreater(again["prompt_tokens_details"]["cached_tokens"], 100)
        self.assertEqual(first["prompt_tokens"], again["prompt_tokens"])

    def test_content_in_parts_and_a_conversation_with_tools(self):
        parts = [{"type": "text", "text": "hello"}]
        same = SERVER.json("/v1/chat/completions", chat(messages=[{"role": "user", "content": parts}]))
        self.assertEqual(same["choices"], SERVER.json("/v1/chat/completions", chat())["choices"])
        call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}
        SERVER.json("/v1/chat/completions", chat(messages=[
            *USER, {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "1"}]))


class CompletionTest(unittest.TestCase):
    def test_prompts_of_every_kind(self):
        def texts(prompt, **fields):
            return [c["text"] for c in SERVER.json("/v1/completions", {"prompt": prompt, **GREEDY, **fields})["choices"]]
        ids = SERVER.json("/v1/completions", {"prompt": "ab", **GREEDY})["usage"]["prompt_tokens"]
        self.assertEqual(ids, 2)
        one = texts("ab")
        self.assertEqual(texts(["ab", "cd"]), one + texts("cd"))
        self.assertEqual(texts([97, 98]), one)
        self.assertEqual(texts([[97, 98]] * 2, n=2), one * 4)
        self.assertEqual(texts("ab", echo=True), ["ab" + one[0]])

    def test_logprobs(self):
        reply = SERVER.json("/v1/completions", {"prompt": "ab", **GREEDY, "logprobs": 3})["choices"][0]
        logprobs = reply["logprobs"]
        self.assertEqual({len(each) for each in logprobs.values()}, {12})
        self.assertEqual(logprobs["text_offset"][0], 0)
        for token, value, best in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]):
            self.assertEqual(value, best[token])
            self.assertEqual(value, max(best.values()))

    def test_the_default_is_sixteen_tokens(self):
        reply = SERVER.json("/v1/completions", {"prompt": "ab", "temperature": 0, "ignore_eos": True})
        self.assertEqual(reply["usage"]["completion_tokens"], 16)

    def test_streamed(self):
        body = {"prompt": ["ab", "cd"], **GREEDY, "echo": True}
        whole = SERVER.json("/v1/completions", body)["choices"]
        sent = events(SERVER.call("POST", "/v1/completions", {**body, "stream": True})[2])
        self.assertEqual(sent.pop(), "[DONE]")
        chunks = [json.loads(each)["choices"][0] for each in sent]
        for index in (0, 1):
            self.assertEqual("".join(c["text"] for c in chunks if c["index"] == index), whole[index]["text"])


class RefusalTest(unittest.TestCase):
    def refused(self, status, words, body, path="/v1/chat/completions", **headers):
        reply = SERVER.json(path, body, status, **headers)["error"]
        self.assertIn(words, reply["message"])
        self.assertEqual(set(reply), {"message", "type", "param", "code"})
        SERVER.json("/v1/chat/completions", chat(max_tokens=1))  # and the next one works
        return reply

    def test_every_field_by_its_name(self):
        wrong = {
            "model": 1, "temperature": "hot", "top_p": 2, "n": 0, "stop": [1], "frequency_penalty": 3, "presence_penalty": [],
            "logit_bias": {"x": 1}, "logprobs": 1, "top_logprobs": 2, "seed": 1.5, "stream": "yes",
            "stream_options": {"include_usage": True}, "max_tokens": -1, "max_completion_tokens": True,
            "tools": [{"type": "custom", "custom": {"name": "f"}}], "tool_choice": "auto", "parallel_tool_calls": 1, "functions": [{}],
            "response_format": {"type": "xml"}, "reasoning_effort": "low", "verbosity": "high",
            "modalities": ["audio"], "audio": {}, "prediction": {}, "web_search_options": {}, "store": True,
            "grammar": "root ::= x", "top_k": -2, "min_p": -0.1, "min_tokens": 3, "truncate_prompt_tokens": 1,
            "chat_template": "x", "stop_token_ids": [-1], "messages": 5,
        }
        for name, value in wrong.items():
            with self.subTest(name):
                status = 404 if name == "model" and isinstance(value, str) else 400
                reply = self.refused(status, name, chat(**{name: value}))
                self.assertTrue(reply["param"].startswith(name), reply)

    def test_answers_held_to_a_grammar(self):
        schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
        for fields, pattern in (
                ({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}, r'\{\s*"a":\s*[12]\s*\}'),
                ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"), ({"guided_regex": "(ab){1,2}c"}, "(ab){1,2}c"),
                ({"grammar": 'root ::= "x" [0-9]{2}'}, r"x\d\d")):
            with self.subTest(fields):
                choice = SERVER.json("/v1/chat/completions", chat(max_tokens=60, temperature=1.5, **fields))["choices"][0]
                if choice["finish_reason"] == "stop":
                    self.assertRegex(choice["message"]["content"], f"(?s)^(?:{pattern})$")
        reply = self.refused(400, "not", chat(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"not": {}}}}))
        self.assertEqual(reply["param"], "response_format")

    def test_unknown_fields(self):
        reply = self.refused(400, "temperature", chat(temperatur=0))
        self.assertEqual((reply["param"], reply["code"]), ("temperatur", "unknown_parameter"))

    def test_messages(self):
        for messages, words in (
                ([], "messages is empty"), ([{"role": "wizard", "content": ""}], "messages[0].role"),
                ([{"role": "user"}], "messages[0].content"), ([{"role": "user", "content": 1}], "messages[0].content"),
                ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "image_url"),
                ([{"role": "user", "content": "a", "mood": "glad"}], "messages[0].mood"),
                ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}], "arguments")):
            with self.subTest(words):
                self.refused(400, words, chat(messages=messages))

    def test_what_is_too_long(self):
        reply = self.refused(400, "the context 4096", chat(messages=[{"role": "user", "content": "x" * 5000}]))
        self.assertEqual((reply["code"], reply["param"]), ("context_length_exceeded", "messages"))
        self.refused(400, "the context", {"prompt": [1] * CONTEXT}, "/v1/completions")
        self.refused(400, "token", {"prompt": [1 << 20]}, "/v1/completions")

    def test_bodies(self):
        for body in ("", "{", "[]", "nul", "{\"messages\": [\"\xff\"]}".encode("latin-1"), "[" * 100000, "{\"a\":1}\0"):
            with self.subTest(body[:20]):
                self.refused(400, "body", body)

    def test_other_models(self):
        self.assertEqual(self.refused(404, "gpt-9", chat(model="gpt-9"))["code"], "model_not_found")
        self.assertEqual(SERVER.call("GET", "/v1/models/gpt-9")[0], 404)

    def test_routes_and_methods(self):
        self.assertEqual(SERVER.call("GET", "/nowhere")[0], 404)
        self.assertEqual(SERVER.call("GET", "/v1/chat/completions")[0], 405)
        self.assertEqual(SERVER.call("POST", "/v1/models", {})[0], 405)
        self.assertEqual(SERVER.call("TRACE", "/health")[0], 405)
        self.assertEqual(SERVER.call("OPTIONS", "/health")[0], 204)
        status, headers, body = SERVER.call("HEAD", "/v1/models")
        self.assertEqual((status, body), (200, b""))
        self.assertGreater(int(headers["Content-Length"]), 10)


class WhoMayAskTest(unittest.TestCase):
    def test_names_of_other_machines(self):
        self.assertEqual(SERVER.call("GET", "/health", Host="evil.example:8080")[0], 421)
        self.assertEqual(SERVER.call("GET", "/health", Host="localhost:1")[0], 200)

    def test_pages_of_other_sites(self):
        self.assertEqual(SERVER.call("POST", "/v1/chat/completions", chat(), Origin="https://evil.example")[0], 403)
        self.assertEqual(SERVER.call("POST", "/v1/chat/completions", json.dumps(chat()), Content_Type="text/plain")[0], 415)
        _, headers, _ = SERVER.call("OPTIONS", "/v1/chat/completions", Origin="https://evil.example")
        self.assertNotIn("Access-Control-Allow-Origin", headers)

    def test_pages_that_were_allowed(self):
        server = Server(PROGRAM, MODEL, "--cors-origin", "https://good.example", "--allow-host", "good.example")
        try:
            status, headers, _ = server.call("POST", "/v1/chat/completions", chat(max_tokens=1), Origin="https://good.example")
            self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (200, "https://good.example"))
            _, headers, _ = server.call("OPTIONS", "/v1/chat/completions", Origin="https://good.example", Host="good.example")
            self.assertIn("Authorization", headers["Access-Control-Allow-Headers"])
        finally:
            self.assertEqual(server.end(), 0)

    def test_an_open_address_is_refused_without_a_word(self):
        with self.assertRaisesRegex(AssertionError, "--allow-no-key"):
            Server(PROGRAM, MODEL, "--host", "0.0.0.0")


class WireTest(unittest.TestCase):
    def status(self, raw):
        reply = SERVER.send(raw)
        self.assertTrue(reply.startswith(b"HTTP/1.1 "), reply[:80])
        return int(reply.split()[1])

    def test_what_is_no_http(self):
        get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
        post = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for raw, status in (
                (b"\x16\x03\x01\x00\xa5\r\n\r\n", 400), (b"GET\r\n\r\n", 400), (b"GET /health HTTP/1.1\r\n\r\n", 400),
                (b"GET /health HTTP/3.0\r\nHost: localhost\r\n\r\n", 505), (get + b"Host: b\r\n\r\n", 400),
                (b"GET /health HTTP/1.1\nHost: localhost\n\n", 505), (get + b"A : b\r\n\r\n", 400),
                (get + b"X: " + b"a" * 20000 + b"\r\n\r\n", 431), (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
                (b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400), (b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
                (post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
                (post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
                (post + b"Content-Length: -1\r\n\r\n", 400), (post + b"Content-Length: 99999999999\r\n\r\n", 413),
                (post + b"Transfer-Encoding: gzip\r\n\r\n", 501), (post + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 415),
                (post + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400)):
            with self.subTest(raw[:90]):
                self.assertEqual(self.status(raw), status)
        SERVER.json("/health")

    def test_pipelined_requests_are_answered_in_order(self):
        body = json.dumps(chat(max_tokens=3)).encode()
        post = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: one\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)) + body
        reply = SERVER.send(post + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.assertEqual(reply.count(b"HTTP/1.1 200 OK"), 2)
        self.assertLess(reply.index(b"chatcmpl-one"), reply.index(b'{"status":"ok"}'))

    def test_a_chunked_body_that_was_announced(self):
        body = json.dumps(chat(max_tokens=2)).encode()
        with socket.create_connection((SERVER.host, SERVER.port), timeout=30) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
            self.assertEqual(connection.recv(1000), b"HTTP/1.1 100 Continue\r\n\r\n")
            for at in range(0, len(body), 7):
                connection.sendall(b"%x\r\n" % len(body[at:at + 7]) + body[at:at + 7] + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
            self.assertIn(b"200 OK", read_all(connection))

    def test_http_1_0(self):
        body = json.dumps(chat(max_tokens=3, stream=True)).encode()
        reply = SERVER.send(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\nHost: localhost\r\n"
                            b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.assertNotIn(b"chunked", reply)
        self.assertTrue(reply.endswith(b"data: [DONE]\n\n"))

    def test_request_ids(self):
        _, headers, body = SERVER.call("POST", "/v1/chat/completions", chat(max_tokens=1), X_Request_Id="my-id")
        self.assertEqual(headers["x-request-id"], "my-id")
        self.assertEqual(json.loads(body)["id"], "chatcmpl-my-id")
        drawn = {SERVER.call("GET", "/health")[1]["x-request-id"] for _ in range(3)}
        self.assertEqual(len(drawn), 3)


class LifeTest(unittest.TestCase):
    def stream(self, server, **fields):
        connection = socket.create_connection((server.host, server.port), timeout=200)
        body = json.dumps(chat(stream=True, **fields)).encode()
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
        while b"content" not in connection.recv(65536):
            pass
        return connection

    def wait_for_log(self, server, words, seconds=20):
        deadline = time.monotonic() + seconds
        while not any(words in line for line in server.log):
            self.assertLess(time.monotonic(), deadline, (words, server.log[-3:]))
            time.sleep(0.02)
        return next(line for line in server.log if words in line)

    def test_a_client_that_leaves_ends_its_answer(self):
        server = Server(PROGRAM, LONG, "--parallel", "1", "--threads", "1", "--ctx", "65536")
        try:
            self.stream(server, max_tokens=65000).close()
            self.assertIn("finish=cancelled", self.wait_for_log(server, "status=499"))
            server.json("/v1/chat/completions", chat(max_tokens=1))  # the one place there is, is free again
        finally:
            self.assertEqual(server.end(), 0)

    def test_what_runs_is_finished_and_nothing_new_begins(self):
        server = Server(PROGRAM, MODEL, "--threads", "1")
        connection = self.stream(server, max_tokens=2000)
        idle = socket.create_connection((server.host, server.port), timeout=200)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(read_all(idle), b"")
        self.addCleanup(connection.close)
        self.addCleanup(idle.close)
        self.assertTrue(read_all(connection).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"))
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((server.host, server.port), timeout=5)
        self.assertEqual(server.end(is_told=True), 0)

    def test_the_drain_has_an_end(self):
        server = Server(PROGRAM, LONG, "--threads", "1", "--drain-seconds", "0", "--ctx", "65536", "--parallel", "1")
        connection = self.stream(server, max_tokens=65000)
        self.addCleanup(connection.close)
        self.assertEqual(server.end(), 0)
        self.assertNotIn(b"[DONE]", read_all(connection))

    def test_a_full_queue(self):
        server = Server(PROGRAM, LONG, "--parallel", "1", "--max-waiting", "1", "--threads", "1", "--ctx", "65536")
        try:
            held = [self.stream(server, max_tokens=65000)]
            waiting = threading.Thread(target=lambda: server.call("POST", "/v1/chat/completions", chat(max_tokens=1)))
            waiting.start()
            time.sleep(0.3)
            status, headers, body = server.call("POST", "/v1/chat/completions", chat())
            self.assertEqual(status, 429, body)
            self.assertIn(int(headers["Retry-After"]), range(1, 3601))
            self.assertEqual(json.loads(body)["error"]["type"], "rate_limit_error")
            server.json("/health")
            held.pop().close()
            waiting.join(60)
            server.json("/v1/chat/completions", chat(max_tokens=1))
        finally:
            self.assertEqual(server.end(), 0)

    def test_thousands_of_streams_on_one_thread(self):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
        n = 2000 if limit[1] == resource.RLIM_INFINITY else min(2000, limit[1] // 2)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        server = Server(PROGRAM, LONG, "--threads", "1", "--parallel", "64", "--max-waiting", str(2 * n), "--ctx", "65536", "--kv-tokens", "131072")
        try:
            n_threads = lambda: len(os.listdir(f"/proc/{server.process.pid}/task"))
            before = n_threads()
            held = self.stream(server, max_tokens=60000)
            body = json.dumps(chat(stream=True, max_tokens=5)).encode()
            connections = [socket.create_connection((server.host, server.port), timeout=200) for _ in range(n)]
            for each in connections:
                each.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
                             b"Content-Length: %d\r\n\r\n" % len(body) + body)
            self.assertEqual(n_threads(), before)
            texts = {tuple(json.loads(event)["choices"][0]["delta"].get("content") for event in events(data)[:-1])
                     for data in map(self.unchunked, connections)}
            self.assertEqual(len(texts), 1, texts)
            held.close()
        finally:
            self.assertEqual(server.end(), 0)

    def unchunked(self, connection):
        """The body of a stream that ended as it should."""
        data = read_all(connection)
        connection.close()
        self.assertTrue(data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), data[-200:])
        return re.sub(rb"\r\n[0-9a-f]+\r\n", b"", data)

    def test_a_unix_socket(self):
        path = str(pathlib.Path(FOLDER.name, "socket"))
        server = Server(PROGRAM, MODEL, "--unix-socket", path)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
                self.assertIn(b'{"status":"ok"}', read_all(connection))
        finally:
            self.assertEqual(server.end(), 0)
        self.assertFalse(pathlib.Path(path).exists())

    def test_a_port_that_is_taken(self):
        with self.assertRaisesRegex(AssertionError, "cannot listen"):
            Server(PROGRAM, MODEL, port=str(SERVER.port))


if __name__ == "__main__":
    unittest.main(verbosity=1)
