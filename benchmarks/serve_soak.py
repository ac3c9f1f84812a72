#!/usr/bin/env python3
"""Random load for a long time: answers whole and streamed, clients that leave, that read slowly, that send garbage, floods
beyond the queue. Fails where a request that should have worked did not, where the server grows, or where it does not end.

    benchmarks/serve_soak.py build/release/millrace model.gguf --seconds 1800

Standard library only."""

import argparse
import collections
import http.client
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time


def body_of(rng, **fields):
    return {"messages": [{"role": "user", "content": "word " * rng.randrange(1, 60)}], "max_tokens": rng.randrange(1, 80), "ignore_eos": True, **fields}


def raw(body):
    data = json.dumps(body).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data


class Load:
    def __init__(self, port):
        self.port = port
        self.counts = collections.Counter()
        self.faults = []
        self.is_over = threading.Event()
        self.stood_still_at = 0.0

    def watch(self):
        """Where the whole machine stood still, as laptops and guests do, the limits of time that passed are no faults."""
        while not self.is_over.is_set():
            before = time.monotonic()
            time.sleep(1)
            if time.monotonic() - before > 10:
                self.stood_still_at = time.monotonic()
                self.counts["the machine stood still"] += 1

    def call(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, data

    def tier_kib(self):
        """What prefixes that leave the cache take, which has a limit of its own and fills slowly."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return int(re.search(r"^millrace:tier_used_bytes\{.*\} (\d+)$", text, re.M)[1]) // 1024

    def whole(self, rng):
        status, data = self.call(body_of(rng))
        assert status in (200, 429), data
        return f"whole {status}"

    def streamed(self, rng):
        status, data = self.call(body_of(rng, stream=True))
        assert status == 429 or data.endswith(b"data: [DONE]\n\n"), data[-100:]
        return f"streamed {status}"

    def leaves(self, rng):
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(raw(body_of(rng, stream=rng.random() < 0.5, max_tokens=1000)))
            if rng.random() < 0.5:
                try:
                    connection.recv(1)
                except TimeoutError:
                    pass  # patience is at an end, too
        return "left"

    def slow(self, rng):
        with socket.create_connection(("127.0.0.1", self.port), timeout=300) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(raw(body_of(rng, stream=True)))
            data = b""
            while not (data.endswith(b"0\r\n\r\n") or b" 429 " in data):
                part = connection.recv(512)
                assert part, data[-100:]
                data += part
                time.sleep(0.005)
        return "slow"

    def garbage(self, rng):
        with socket.create_connection(("127.0.0.1", self.port), timeout=300) as connection:
            connection.sendall(rng.randbytes(rng.randrange(1, 3000)) + b"\r\n\r\n")
            try:
                connection.recv(100)
            except ConnectionResetError:
                pass
        return "garbage"

    def flood(self, rng):
        threads = [threading.Thread(target=self.guarded, args=(self.whole, random.Random(rng.random()))) for _ in range(200)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return "flood"

    def guarded(self, kind, rng):
        began = time.monotonic()
        try:
            self.counts[kind(rng)] += 1
        except (OSError, AssertionError, http.client.HTTPException) as error:
            time.sleep(2)  # until watch() has seen it
            if self.stood_still_at > began:
                self.counts["lost while it did"] += 1
            else:
                self.faults.append(f"{kind.__name__}: {error!r}")
                print(self.faults[-1], flush=True)

    def work(self, seed):
        rng = random.Random(seed)
        kinds = [self.whole] * 6 + [self.streamed] * 6 + [self.leaves] * 4 + [self.slow] * 2 + [self.garbage] * 2
        while not self.is_over.is_set():
            self.guarded(self.flood if rng.random() < 0.002 else rng.choice(kinds), rng)


def anonymous_kib(pid):
    """What the process allocated: without the mapped model, with what is swapped."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return sum(int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("RssAnon", "VmSwap"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--clients", type=int, default=32)
    arguments = parser.parse_args()
    prefixes = tempfile.TemporaryDirectory(prefix="millrace-soak-")  # begins empty: what lies there is no growth
    server = subprocess.Popen([arguments.program, "serve", arguments.model, "--port", "0", "--ctx", "2048", "--max-waiting", "64",
                               "--cache-dir", prefixes.name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    load = Load(int(re.search(r":(\d+)$", server.stdout.readline().strip())[1]))
    threading.Thread(target=load.watch, daemon=True).start()
    threads = [threading.Thread(target=load.work, args=(seed,), daemon=True) for seed in range(arguments.clients)]
    for each in threads:
        each.start()
    sizes = []
    for _ in range(10):
        time.sleep(arguments.seconds / 10)
        planned = load.tier_kib()
        sizes.append(anonymous_kib(server.pid) - planned)
        n_files = len(os.listdir(f"/proc/{server.pid}/fd"))
        print(f"{sum(load.counts.values())} requests, {len(load.faults)} faults, {sizes[-1] / 1024:.1f} MiB and {planned / 1024:.1f} MiB of prefixes "
              f"that leave the cache, {n_files} files", flush=True)
    load.is_over.set()
    for each in threads:
        each.join(300)
    began = time.monotonic()
    server.terminate()
    status = server.wait(60)
    print(dict(sorted(load.counts.items())), f"ended in {time.monotonic() - began:.1f} s with status {status}")
    # The first tenths fill the cache; a few MiB are the connections of the moment.
    has_grown = min(sizes[-2:]) > max(sizes[2:5]) + 4096
    sys.exit(1 if load.faults or has_grown or status != 0 or any(each.is_alive() for each in threads) else 0)


if __name__ == "__main__":
    main()
