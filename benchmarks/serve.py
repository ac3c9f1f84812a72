#!/usr/bin/env python3
"""The load of benchmarks/engine/throughput_bench over HTTP: tokens a second, and how long until the first one. Against
llama-server on the same file in the same run where its command is given (benchmarks/llama_server.py is one).

    benchmarks/serve.py build/release/millrace model.gguf [--llama-server COMMAND] [--conversations 16] [--rate 2] [--scale 0.4]

Every conversation is a thread that asks, reads the stream to its end, waits a little, and asks on with all that was said. They begin
all at once, or --rate a second on average with the gaps of a Poisson process. One of four system messages begins each; questions
and answers are as long as those of people. Standard library only."""

import argparse
import http.client
import json
import math
import random
import re
import shlex
import statistics
import subprocess
import sys
import threading
import time

WORDS = ("time year people way day man thing woman life child world school state family student group country problem hand part place case week "
         "company system program question work government number night point home water room mother area money story fact month lot right study").split()


class Person:
    """What one of them says, in words, and is answered, in tokens: log-normal, about as in the conversations of ShareGPT."""

    def __init__(self, seed, scale):
        self.rng, self.scale = random.Random(seed), scale

    def scaled(self, n):
        return max(1, round(n * self.scale))

    def length(self, median, sigma, most):
        return self.scaled(min(most, median * math.exp(sigma * self.rng.gauss(0, 1))))

    def words(self, n):
        return " ".join(self.rng.choice(WORDS) for _ in range(n))

    def system(self):
        return Person(1000000 + self.rng.randrange(4), self.scale).words(self.scaled(300))

    def question(self):
        return self.words(self.length(60, 1.1, 1500))

    def answer(self):
        return self.length(150, 0.8, 600)


class Conversation(threading.Thread):
    def __init__(self, port, index, arguments):
        super().__init__(daemon=True)
        self.port, self.arguments = port, arguments
        self.person = Person(index + 1, arguments.scale)
        self.first, self.gaps, self.n_tokens, self.n_held, self.fault = [], [], 0, 0, None

    def run(self):
        messages = [{"role": "system", "content": self.person.system()}]
        try:
            for _ in range(self.person.rng.randrange(1, 5)):
                messages.append({"role": "user", "content": self.person.question()})
                n = self.person.answer()
                if self.n_held + 2 * len(messages[-1]["content"].split()) + n > self.arguments.ctx:
                    return  # its context is full
                messages.append({"role": "assistant", "content": self.ask(messages, n)})
                time.sleep(self.person.rng.expovariate(1 / 2))
        except (OSError, AssertionError, http.client.HTTPException) as error:
            self.fault = error

    def ask(self, messages, n):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        body = {"messages": messages, "max_tokens": n, "temperature": 0, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True}}
        began = last = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        text = ""
        for line in reply:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            if chunk.get("usage"):
                self.n_tokens += chunk["usage"]["completion_tokens"]
                self.n_held = chunk["usage"]["total_tokens"]
            if not chunk["choices"] or not chunk["choices"][0]["delta"].get("content"):
                continue
            now = time.monotonic()
            (self.gaps if text else self.first).append(now - last if text else now - began)
            last = now
            text += chunk["choices"][0]["delta"]["content"]
        connection.close()
        return text


def measure(name, port, arguments):
    conversations = [Conversation(port, index, arguments) for index in range(arguments.conversations)]
    gaps_rng = random.Random(1)
    began = time.monotonic()
    for each in conversations:
        each.start()
        if arguments.rate:
            time.sleep(gaps_rng.expovariate(arguments.rate))
    for each in conversations:
        each.join()
    seconds = time.monotonic() - began
    faults = [each.fault for each in conversations if each.fault]
    if faults:
        sys.exit(f"{name}: {len(faults)} of {len(conversations)} conversations failed: {faults[0]}")
    at = lambda values, share: sorted(values)[min(len(values) - 1, int(share * len(values)))]
    first = [value for each in conversations for value in each.first]
    gaps = [value for each in conversations for value in each.gaps]
    n_tokens = sum(each.n_tokens for each in conversations)
    print(f"{name:14} {n_tokens / seconds:8.1f} tokens/s   first token: median {statistics.median(first):.3f} s, p95 {at(first, .95):.3f} s"
          f"   between tokens: median {1e3 * statistics.median(gaps):.1f} ms, p95 {1e3 * at(gaps, .95):.1f} ms", flush=True)
    return n_tokens / seconds


def serve_millrace(arguments):
    n_ctx = arguments.ctx
    process = subprocess.Popen([arguments.program, "serve", arguments.model, "--port", "0", "--ctx", str(n_ctx), "--parallel",
                                str(arguments.conversations), "--kv-tokens", str(n_ctx * arguments.conversations), "--threads",
                                str(arguments.threads)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline()
    return process, int(re.search(r":(\d+)$", line.strip())[1])


def serve_llama(arguments):
    port = 18080
    n_ctx = arguments.ctx * arguments.conversations
    threads = ["--threads", str(arguments.threads)] if arguments.threads else []
    process = subprocess.Popen([*shlex.split(arguments.llama_server), "-m", arguments.model, "--port", str(port), "-c", str(n_ctx), "-np",
                                str(arguments.conversations), *threads], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return process, port
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit("llama-server does not answer")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--llama-server", help="a command that takes the flags of llama-server")
    parser.add_argument("--conversations", type=int, default=16)
    parser.add_argument("--rate", type=float, default=0, help="conversations that begin in a second; 0: all at once")
    parser.add_argument("--scale", type=float, default=0.4, help="of all lengths")
    parser.add_argument("--ctx", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    rates = []
    servers = [("millrace", serve_millrace)] + ([("llama-server", serve_llama)] if arguments.llama_server else [])
    for name, serve in servers:
        process, port = serve(arguments)
        try:
            rates.append(measure(name, port, arguments))
        finally:
            process.terminate()
            process.wait(60)
    if len(rates) == 2:
        print(f"{rates[0] / rates[1]:.2f} times the tokens of llama-server")


if __name__ == "__main__":
    main()
