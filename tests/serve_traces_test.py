#!/usr/bin/env python3
"""Traces of requests, as a collector of OpenTelemetry receives them; and requests whose collector is slow or gone."""

import http.server
import json
import pathlib
import queue
import socket
import statistics
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="millrace-traces-")
MODEL = str(pathlib.Path(FOLDER.name, "tiny.gguf"))
pathlib.Path(MODEL).write_bytes(tiny_gguf.tiny_gguf(context=2048))
ASKED = {"prompt": "hello a", "max_tokens": 5, "ignore_eos": True}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(http.server.ThreadingHTTPServer):
    def __init__(self, status=200, seconds=0.0):
        self.status, self.seconds, self.documents = status, seconds, queue.Queue()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/collect/"

    def spans(self, n):
        out = []
        while len(out) < n:
            document = self.documents.get(timeout=60)
            (resource,) = document["resourceSpans"]
            names = {each["key"]: each["value"] for each in resource["resource"]["attributes"]}
            assert names["service.name"] == {"stringValue": "millrace"}
            out += resource["scopeSpans"][0]["spans"]
        return out


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        assert (self.path, self.headers["Content-Type"]) == ("/collect/v1/traces", "application/json")
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.server.seconds)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"{}")
        self.server.documents.put(document)

    def log_message(self, *_):
        pass


def attributes(span):
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


class TracesTest(unittest.TestCase):
    def start(self, url, *arguments):
        server = Server(PROGRAM, MODEL, "--threads", "1", "--otlp", url, *arguments)
        self.addCleanup(lambda: server.process.kill())
        return server

    def test_a_request_is_a_span(self):
        collector = Collector()
        server = self.start(collector.url)
        before = time.time_ns()
        server.json("/v1/completions", ASKED, X_Request_Id="mine", traceparent=f"00-{TRACE}-{PARENT}-01")
        (span,) = collector.spans(1)
        self.assertEqual((span["traceId"], span["parentSpanId"], span["name"], span["kind"]), (TRACE, PARENT, "POST /v1/completions", 2))
        self.assertRegex(span["spanId"], "^[0-9a-f]{16}$")
        begin, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
        self.assertTrue(before - 1e7 <= begin < end <= time.time_ns(), (before, begin, end))
        said = attributes(span)
        self.assertEqual((said["gen_ai.request.id"], said["gen_ai.response.model"]), ("mine", "tiny"))
        self.assertEqual((said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]), ("3", "5"))
        self.assertEqual(said["gen_ai.response.finish_reasons"], {"values": [{"stringValue": "length"}]})
        self.assertLessEqual(said["gen_ai.latency.time_to_first_token"], said["gen_ai.latency.e2e"])
        self.assertNotIn("hello", json.dumps(span))

        # A trace of its own; one that is not sampled; what no client asks; a refusal.
        server.json("/v1/completions", {**ASKED, "stream": False}, traceparent="nonsense")
        server.json("/v1/completions", ASKED, traceparent=f"00-{TRACE}-{PARENT}-00")
        server.json("/health")
        server.json("/v1/completions", {"mood": 1}, 400)
        own, refused = collector.spans(2)
        self.assertNotIn("parentSpanId", own)
        self.assertRegex(own["traceId"], "^[0-9a-f]{32}$")
        self.assertEqual((attributes(refused)["error.type"], attributes(refused)["http.response.status_code"]), ("400", "400"))
        self.assertNotIn("gen_ai.usage.input_tokens", attributes(refused))

        # What is left goes out at the end.
        server.json("/v1/completions", ASKED)
        self.assertEqual(server.end(), 0)
        self.assertEqual(len(collector.spans(1)), 1)

    def test_many_in_few_documents(self):
        collector = Collector()
        server = self.start(collector.url)
        for _ in range(200):
            server.json("/tokenize", {"content": "hello"})
        self.assertEqual(server.end(), 0)
        self.assertEqual(len({span["spanId"] for span in collector.spans(200)}), 200)

    def test_a_collector_that_is_slow_or_gone(self):
        with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
            gone = f"http://127.0.0.1:{silent.getsockname()[1]}"
            for collector, n_said in ((Collector(seconds=1.0).url, 0), (Collector(status=503).url, 1), (gone, 1), ("http://127.0.0.1:1", 1)):
                with self.subTest(collector):
                    server = self.start(collector)
                    times = []
                    while sum(times) < 2.5:
                        asked = time.monotonic()
                        server.json("/v1/completions", ASKED)
                        times.append(time.monotonic() - asked)
                    self.assertLess(statistics.median(times), 0.5)  # of many: a busy machine is no slow collector
                    self.assertEqual(server.end(), 0)
                    lost = [line for line in server.log if "traces are lost" in line]
                    self.assertEqual(len(lost), n_said, lost)

    def test_no_url(self):
        with self.assertRaisesRegex(AssertionError, "--otlp should be http"):
            self.start("https://collector")


if __name__ == "__main__":
    unittest.main(verbosity=1)
