#!/usr/bin/env python3
"""A server whose device is lost while it serves: who asked is told, and the program ends with the reason and status 1, so that
whoever keeps it running starts it anew. Standard library only."""

import http.client
import json
import os
import pathlib
import signal
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import Server, events  # noqa: E402

PROGRAM = os.environ["MILLRACE_FRAIL"]
FOLDER = tempfile.TemporaryDirectory(prefix="millrace-lost-")
MODEL = str(pathlib.Path(FOLDER.name, "tiny.gguf"))
pathlib.Path(MODEL).write_bytes(tiny_gguf.tiny_gguf(context=4096))
LOST = "the card has fallen off the bus"
ASKED = {"prompt": "hello", "max_tokens": 3, "ignore_eos": True}


class LostTest(unittest.TestCase):
    def serve(self):
        server = Server(PROGRAM, MODEL, "--backend", "cuda-emulation", "--drain-seconds", "100", "--ctx", "4096")
        self.addCleanup(lambda: server.process.poll() is not None or server.process.kill())
        return server

    def check_end(self, server):
        self.assertEqual(server.end(is_told=True), 1)
        self.assertRegex(server.log[-1], f"^millrace: the device has failed, .*{LOST}\n$")

    def test_whose_device_is_lost_ends_with_status_1(self):
        server = self.serve()
        self.assertEqual(server.json("/health")["status"], "ok")
        server.json("/v1/completions", ASKED)
        server.process.send_signal(signal.SIGUSR1)
        self.assertIn("a kernel failed", json.dumps(server.json("/v1/completions", ASKED, status=500)))
        self.check_end(server)

    def test_an_answer_under_way_is_told(self):
        server = self.serve()
        connection = http.client.HTTPConnection(server.host, server.port, timeout=200)
        connection.request("POST", "/v1/completions", json.dumps({**ASKED, "max_tokens": 4000, "stream": True}),
                           {"Content-Type": "application/json"})
        reply = connection.getresponse()
        self.assertTrue(reply.readline().startswith(b"data: "))
        server.process.send_signal(signal.SIGUSR1)
        self.assertIn("a kernel failed", events(reply.read())[-1])
        connection.close()
        self.check_end(server)


if __name__ == "__main__":
    unittest.main()
