#!/usr/bin/env python3
"""What the server itself costs, beside the engine: the time of its threads for a token at 64 streams with one core for all,
and the memory of streams that wait. The model is too small to matter.

    benchmarks/serve_overhead.py build/release/millrace [--streams 64] [--idle 2000]

Standard library only; the client runs on the other cores."""

import argparse
import json
import os
import pathlib
import re
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))
import tiny_gguf  # noqa: E402


class Server:
    def __init__(self, program, model, *arguments):
        self.process = subprocess.Popen([program, "serve", model, "--port", "0", "--threads", "1", *arguments], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.port = int(re.search(r":(\d+)$", self.process.stdout.readline().strip())[1])
        self.pid = self.process.pid

    def end(self):
        self.process.kill()
        self.process.wait()

    def stream(self, n_tokens):
        body = json.dumps({"prompt": "hello", "max_tokens": n_tokens, "ignore_eos": True, "stream": True}).encode()
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return connection

    def io_seconds(self):
        """Of the processor, by the thread that does all input and output: the first one."""
        fields = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def anonymous_mib(self):
        return int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{self.pid}/status").read_text())[1]) / 1024


def read_to_end(connections):
    """Drains all streams; the number of events of them."""
    selector = selectors.DefaultSelector()
    tails = {}
    for connection in connections:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
        tails[connection] = b""
    n_events = 0
    while tails:
        for key, _ in selector.select(60):
            data = key.fileobj.recv(1 << 16)
            n_events += data.count(b"data: {")
            tails[key.fileobj] = (tails[key.fileobj] + data)[-32:]
            if not data or tails[key.fileobj].endswith(b"0\r\n\r\n"):
                selector.unregister(key.fileobj)
                del tails[key.fileobj]
                key.fileobj.close()
    return n_events


def measure_time(arguments, model):
    server = Server(arguments.program, model, "--parallel", str(arguments.streams), "--ctx", "2048", "--kv-tokens", str(2048 * arguments.streams))
    os.sched_setaffinity(server.pid, {0})
    for task in os.listdir(f"/proc/{server.pid}/task"):
        os.sched_setaffinity(int(task), {0})
    try:
        read_to_end([server.stream(50) for _ in range(arguments.streams)])
        began, began_io = time.monotonic(), server.io_seconds()
        n = read_to_end([server.stream(arguments.tokens) for _ in range(arguments.streams)])
        seconds, io = time.monotonic() - began, server.io_seconds() - began_io
    finally:
        server.end()
    print(f"{arguments.streams} streams on one core: {n / seconds:.0f} tokens/s in all; of the processor {1e6 * io / n:.1f} us a token for input and "
          f"output, {1e3 * arguments.streams * io / n:.2f} ms for a token of every stream")


def measure_memory(arguments, model):
    server = Server(arguments.program, model, "--parallel", "1", "--max-waiting", str(2 * arguments.idle), "--ctx", "4096")
    try:
        first = server.stream(4000)
        time.sleep(0.5)
        before = server.anonymous_mib()
        idle = [server.stream(10) for _ in range(arguments.idle)]
        for connection in idle:
            assert connection.recv(12) == b"HTTP/1.1 200"
        used = server.anonymous_mib() - before
        first.close()
        n_events = read_to_end(idle)
    finally:
        server.end()
    assert n_events >= arguments.idle * 2, n_events
    print(f"{arguments.idle} streams that wait: {used:.1f} MiB, {1024 * used / arguments.idle:.1f} KiB each; then all were answered")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--idle", type=int, default=2000)
    arguments = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(tiny_gguf.tiny_gguf(context=4096))
        file.flush()
        measure_time(arguments, file.name)
        measure_memory(arguments, file.name)


if __name__ == "__main__":
    main()
