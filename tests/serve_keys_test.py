#!/usr/bin/env python3
"""Who may ask the server: API keys and their limits, TLS, what SIGHUP reads again; and what /metrics says of it."""

import hashlib
import http.client
import json
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server, events  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="millrace-keys-")
MODEL = str(pathlib.Path(FOLDER.name, "tiny.gguf"))
pathlib.Path(MODEL).write_bytes(tiny_gguf.tiny_gguf(context=2048))
CHAT = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 5, "ignore_eos": True}


def key_file(name, *keys):
    path = pathlib.Path(FOLDER.name, name)
    path.write_text(json.dumps({"keys": [
        {"name": owner, "sha256": hashlib.sha256(secret.encode()).hexdigest(), **limits} for owner, secret, limits in keys]}))
    return str(path)


class KeyTest(unittest.TestCase):
    def serve(self, *arguments):
        server = Server(PROGRAM, MODEL, "--threads", "1", *arguments)
        self.addCleanup(lambda: self.assertEqual(server.end(), 0))
        return server

    def chat(self, server, secret, **headers):
        given = {"Authorization": f"Bearer {secret}"} if secret else {}
        status, got, body = server.call("POST", "/v1/chat/completions", CHAT, **given, **headers)
        return status, got, json.loads(body)

    def test_every_route_but_health_asks_for_a_key(self):
        server = self.serve("--api-key", "secret", "--api-key", "other")
        for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/completions"), ("POST", "/api/chat"),
                             ("POST", "/v1/messages"), ("POST", "/tokenize"), ("GET", "/props"), ("POST", "/generate")):
            with self.subTest(path):
                self.assertEqual(server.call(method, path, {} if method == "POST" else None)[0], 401)
        self.assertEqual(server.call("GET", "/health")[0], 200)
        self.assertEqual(self.chat(server, "secret")[0], 200)
        self.assertEqual(self.chat(server, "other")[0], 200)
        self.assertEqual(self.chat(server, None, x_api_key="secret")[0], 200)
        status, headers, body = self.chat(server, "wrong")
        self.assertEqual((status, headers["WWW-Authenticate"], body["error"]["code"]), (401, "Bearer", "invalid_api_key"))
        self.assertNotIn("wrong", json.dumps(body) + "".join(server.log))

    def test_limits(self):
        server = self.serve("--api-keys", key_file("limits", ("slow", "s", {"requests_per_minute": 2}), ("small", "t", {"tokens_per_minute": 10}),
                                                   ("picky", "p", {"models": ["other"]}), ("free", "f", {})), "--served-name", "tiny")
        self.assertEqual([self.chat(server, "s")[0] for _ in range(2)], [200, 200])
        status, headers, body = self.chat(server, "s")
        self.assertEqual((status, body["error"]["type"]), (429, "rate_limit_error"))
        self.assertIn(int(headers["Retry-After"]), range(25, 31))
        self.assertEqual([self.chat(server, "t")[0] for _ in range(2)], [200, 429])
        self.assertEqual(self.chat(server, "p")[0], 404)
        self.assertEqual({self.chat(server, "f")[0] for _ in range(5)}, {200})
        self.assertTrue(any("key=slow" in line for line in server.log))

    def test_keys_are_read_again(self):
        path = key_file("again", ("one", "first", {}))
        server = self.serve("--api-keys", path)
        key_file("again", ("two", "second", {}))
        self.assertEqual(self.chat(server, "first")[0], 200)
        self.hang_up(server, "read the keys")
        self.assertEqual((self.chat(server, "first")[0], self.chat(server, "second")[0]), (401, 200))
        pathlib.Path(path).write_text("{")
        self.hang_up(server, "stay as they were")
        self.assertEqual(self.chat(server, "second")[0], 200)

    def hang_up(self, server, words):
        server.process.send_signal(signal.SIGHUP)
        for _ in range(500):
            if any(words in line for line in server.log):
                return
            time.sleep(0.02)
        self.fail((words, server.log))

    def test_bad_files(self):
        for content, words in (("{", "no valid JSON"), ("{}", "keys is missing"), ('{"keys": [{"name": "a", "sha256": "1"}]}', "keys[0].sha256")):
            path = pathlib.Path(FOLDER.name, "bad")
            path.write_text(content)
            done = subprocess.run([PROGRAM, "serve", MODEL, "--api-keys", str(path)], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 2)
            self.assertIn(words, done.stderr)

    def test_an_open_address_with_a_key(self):
        server = self.serve("--host", "0.0.0.0", "--api-key", "secret")
        server.host = "127.0.0.1"
        self.assertEqual(self.chat(server, "secret", Host="any.example")[0], 200)


@unittest.skipUnless(shutil.which("openssl"), "no openssl to make a certificate with")
class TlsTest(unittest.TestCase):
    def certificate(self, name):
        certificate, key = (str(pathlib.Path(FOLDER.name, name + ending)) for ending in (".crt", ".key"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                       check=True, capture_output=True)
        return certificate, key

    def test_https(self):
        certificate, key = self.certificate("tls")
        server = Server(PROGRAM, MODEL, "--threads", "1", "--tls-cert", certificate, "--tls-key", key)
        try:
            self.assertTrue(server.url.startswith("https://"))
            context = ssl.create_default_context(cafile=certificate)
            connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=60)
            for stream in (False, True):
                connection.request("POST", "/v1/chat/completions", json.dumps({**CHAT, "stream": stream}), {"Content-Type": "application/json"})
                reply = connection.getresponse()
                self.assertEqual(reply.status, 200)
                data = reply.read()
            self.assertEqual(events(data)[-1], "[DONE]")
            connection.request("GET", "/health", headers={"Connection": "close"})
            self.assertEqual(connection.getresponse().read(), b'{"status":"ok"}')
            connection.close()
            self.assertEqual(server.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")[:4], b"")  # no TLS, no answer
        finally:
            self.assertEqual(server.end(), 0)

    def test_certificates_are_read_again(self):
        certificate, key = self.certificate("again")
        server = Server(PROGRAM, MODEL, "--threads", "1", "--tls-cert", certificate, "--tls-key", key)
        try:
            shown = lambda: ssl.get_server_certificate(("127.0.0.1", server.port)).strip()
            before = pathlib.Path(certificate).read_text().strip()
            self.assertEqual(shown(), before)
            self.certificate("again")
            after = pathlib.Path(certificate).read_text().strip()
            self.assertNotEqual(after, before)
            server.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 30
            while shown() != after:
                self.assertLess(time.monotonic(), deadline)
        finally:
            self.assertEqual(server.end(), 0)

    def test_files_that_do_not_belong_together(self):
        certificate, _ = self.certificate("one")
        _, key = self.certificate("two")
        done = subprocess.run([PROGRAM, "serve", MODEL, "--tls-cert", certificate, "--tls-key", key], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no key of that certificate", done.stderr)


class MetricsTest(unittest.TestCase):
    def values(self, server):
        status, headers, body = server.call("GET", "/metrics")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        out = {}
        for line in body.decode().splitlines():
            if line.startswith("#"):
                self.assertRegex(line, r"\A# (HELP \S+ .+|TYPE \S+ (gauge|counter|histogram))\Z")
                continue
            found = re.fullmatch(r'([a-z0-9_:]+)(\{[^{}]*\}) (\S+)', line)
            self.assertIsNotNone(found, line)
            self.assertNotIn((found[1], found[2]), out)
            out[found[1], found[2]] = float(found[3])
        return out

    def test_the_page(self):
        server = Server(PROGRAM, MODEL, "--threads", "1")
        try:
            for _ in range(2):
                server.json("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "hello " * 20}]})
            values = self.values(server)
            one = {name: value for (name, labels), value in values.items() if "le=" not in labels}
            for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
                         "vllm:lora_requests_info", "vllm:cache_config_info", "vllm:num_preemptions_total", "millrace:parked_total",
                         "millrace:kv_bytes", "millrace:tier_used_bytes", "process_resident_memory_bytes"):
                self.assertIn(name, one)
            labels = next(labels for name, labels in values if name == "vllm:cache_config_info")
            self.assertRegex(labels, r'model_name="tiny".*block_size="32".*num_gpu_blocks="\d+"')
            self.assertEqual(one["vllm:generation_tokens_total"], 10)
            self.assertEqual(one["vllm:time_to_first_token_seconds_count"], 2)
            self.assertEqual(one["vllm:inter_token_latency_seconds_count"], 8)
            self.assertEqual(one["vllm:request_queue_time_seconds_count"], 2)
            self.assertEqual(values["vllm:request_success_total", '{model_name="tiny",engine="0",finished_reason="length"}'], 2)
            self.assertEqual(one["vllm:num_requests_running"], 0)
            self.assertEqual(one["vllm:prefix_cache_queries_total"], one["vllm:prompt_tokens_total"])
            self.assertGreater(one["vllm:prefix_cache_hits_total"], 0)  # the second one was the first again
            for name in ("vllm:time_to_first_token_seconds", "vllm:e2e_request_latency_seconds"):
                buckets = [value for (each, _), value in values.items() if each == name + "_bucket"]
                self.assertEqual(buckets, sorted(buckets))
                self.assertEqual(buckets[-1], one[name + "_count"])
        finally:
            self.assertEqual(server.end(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=1)
