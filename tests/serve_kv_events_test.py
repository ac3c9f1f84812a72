#!/usr/bin/env python3
"""What the prefix cache holds, as a router hears it over ZeroMQ: always what the server then finds in its cache."""

import concurrent.futures
import pathlib
import random
import re
import sys
import tempfile
import time
import unittest

try:
    import msgpack
    import zmq
except ImportError as missing:
    print(f"skipped: {missing} (tests/requirements.txt)")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="millrace-kv-events-")
MODEL = str(pathlib.Path(FOLDER.name, "tiny.gguf"))
pathlib.Path(MODEL).write_bytes(tiny_gguf.tiny_gguf(context=2048))
PAGE = 32
END = b"\xff" * 8
KEYS = {"BlockStored": {"type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name"},
        "BlockRemoved": {"type", "block_hashes", "medium"}, "AllBlocksCleared": {"type"}}


def number(frame):
    return int.from_bytes(frame, "big")


class Router:
    """Knows of one server what its events say, as their consumers do: missed ones are asked for."""

    def __init__(self, endpoint, replay_endpoint=None, topic="", binds=False):
        self.context = zmq.Context()
        self.context.linger = 0
        self.subscriber = self.context.socket(zmq.SUB)
        self.subscriber.subscribe(topic)
        (self.subscriber.bind if binds else self.subscriber.connect)(endpoint)
        self.replay_endpoint = replay_endpoint
        self.next = 0
        self.batches = []  # as they came
        self.beginnings = {}  # of each hash the tokens up to its end

    def receive(self):
        """One batch, and what was missed before it."""
        assert self.subscriber.poll(30000)
        _, n, payload = self.subscriber.recv_multipart()
        if number(n) > self.next:
            for missed, content in self.replay(self.next):
                if missed < number(n):
                    self.take(missed, content)
        self.take(number(n), payload)

    def replay(self, first):
        """Batches from that one on. Not with a REQ: it takes one answer to a question."""
        socket = self.context.socket(zmq.DEALER)
        socket.connect(self.replay_endpoint)
        socket.send_multipart([b"", first.to_bytes(8, "big")])
        out = []
        while socket.poll(30000):
            empty, n, payload = socket.recv_multipart()
            assert empty == b""
            if n == END:
                assert payload == b""
                socket.close()
                return out
            out.append((number(n), payload))
        raise AssertionError("no end of the replay")

    def take(self, n, payload):
        assert n == self.next, (n, self.next)
        self.next += 1
        unix_s, events, rank = msgpack.unpackb(payload)
        assert abs(unix_s - time.time()) < 300 and rank == 0
        self.batches.append((n, payload))
        for event in events:
            self.apply(event)

    def apply(self, event):
        assert set(event) == KEYS[event["type"]], event
        if event["type"] == "AllBlocksCleared":
            self.beginnings.clear()
            return
        assert event["medium"] == "GPU"
        if event["type"] == "BlockRemoved":
            for each in event["block_hashes"]:
                del self.beginnings[each]
            return
        assert event["block_size"] == PAGE and len(event["token_ids"]) == PAGE * len(event["block_hashes"])
        assert event["lora_id"] is None and event["lora_name"] is None
        before = [] if event["parent_block_hash"] is None else self.beginnings[event["parent_block_hash"]]
        for i, each in enumerate(event["block_hashes"]):
            assert each not in self.beginnings and 0 <= each < 1 << 64
            before = self.beginnings[each] = before + event["token_ids"][PAGE * i:PAGE * (i + 1)]

    def n_known(self, tokens):
        known = {tuple(each) for each in self.beginnings.values()}
        n = 0
        while tuple(tokens[:n + PAGE]) in known and n + PAGE <= len(tokens):
            n += PAGE
        return n

    def close(self):
        self.context.destroy(linger=0)


class KvEventsTest(unittest.TestCase):
    def start(self, *arguments):
        server = Server(PROGRAM, MODEL, "--threads", "1", *arguments)
        self.addCleanup(server.end)
        return server

    def endpoint(self, name):
        return f"ipc://{FOLDER.name}/{self.id().rsplit('.')[-1]}-{name}"

    def both(self, *arguments, **named):
        events, replay = self.endpoint("events"), self.endpoint("replay")
        server = self.start("--kv-events", events, "--kv-events-replay", replay, *arguments)
        return server, self.router(events, replay, **named)

    def router(self, *arguments, **named):
        router = Router(*arguments, **named)
        self.addCleanup(router.close)
        return router

    def ask(self, server, tokens):
        """How many of the tokens were in the cache."""
        reply = server.json("/v1/completions", {"prompt": tokens, "max_tokens": 1, "ignore_eos": True})
        return reply["usage"]["prompt_tokens_details"]["cached_tokens"]

    def counts(self, server):
        """Batches, and those of them that were dropped."""
        text = server.call("GET", "/metrics")[2].decode()
        return tuple(int(re.search(rf"^millrace:kv_event_batches{name}_total\{{.*\}} (\d+)$", text, re.M)[1]) for name in ("", "_dropped"))

    def subscribe(self, server, router):
        """Until the subscription is there: ZeroMQ does not say when."""
        for i in range(1000):
            self.ask(server, [5 + i % 7, 6 + i // 7 % 7, 7 + i // 49] * 20)
            if router.subscriber.poll(50):
                return
        raise AssertionError("no events")

    def said(self, server, pattern, n=1):
        """What the log holds of the pattern, n times at least."""
        deadline = time.monotonic() + 30
        while len(found := re.findall(pattern, "".join(list(server.log)))) < n:
            self.assertLess(time.monotonic(), deadline, server.log)
            time.sleep(0.01)
        return found

    def catch_up(self, server, router):
        n, n_dropped = self.counts(server)
        self.assertEqual(n_dropped, 0)
        while router.next < n:
            router.receive()

    def test_the_router_knows_what_the_cache_holds(self):
        server, router = self.both("--ctx", "512", "--kv-tokens", "1024", "--parallel", "2")
        self.subscribe(server, router)
        rng = random.Random(1)
        n_hits = 0
        for _ in range(200):
            # Few beginnings, so that they are shared; longer in all than the cache.
            tokens = ([rng.randrange(5, 8), 5] * 80)[:rng.randrange(30, 160)] + [rng.randrange(5, 9) for _ in range(rng.randrange(1, 90))]
            self.catch_up(server, router)
            known = router.n_known(tokens[:-1])
            self.assertEqual(self.ask(server, tokens) // PAGE * PAGE, known)
            n_hits += known > 0
        self.catch_up(server, router)
        events = [event for _, payload in router.batches for event in msgpack.unpackb(payload)[1]]
        self.assertGreater(n_hits, 50)
        self.assertGreater(sum(event["type"] == "BlockRemoved" for event in events), 50)
        self.assertLessEqual(len(router.beginnings), 1024 // PAGE)

        # Whoever comes later hears the same, whole or from some number on.
        self.assertEqual(router.replay(0), router.batches)
        self.assertEqual(router.replay(router.next - 3), router.batches[-3:])
        self.assertEqual(router.replay(router.next), [])
        self.assertEqual(events[0], {"type": "AllBlocksCleared"})
        self.assertEqual(server.end(), 0)
        router.receive()
        self.assertEqual(router.beginnings, {})

    def test_many_at_once(self):
        """Longer ones, which have places beyond the cache: from there they come back."""
        server, router = self.both("--ctx", "512", "--kv-tokens", "2048", "--parallel", "8", "--cache-dir", f"{FOLDER.name}/prefixes")
        self.subscribe(server, router)
        rng = random.Random(2)
        prompts = [[rng.randrange(5, 7) for _ in range(300)] for _ in range(100)]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda tokens: self.ask(server, tokens), prompts))
        self.catch_up(server, router)
        for tokens in prompts:
            known = router.n_known(tokens[:-1])
            self.assertGreaterEqual(self.ask(server, tokens), known)
            self.catch_up(server, router)
            self.assertEqual(router.n_known(tokens[:-1]), 288)

    def test_over_tcp_with_a_topic_and_in_the_older_form(self):
        server = self.start("--kv-events", "tcp://127.0.0.1:*", "--kv-events-replay", "tcp://127.0.0.1:*", "--kv-events-topic",
                            "kv@localhost@tiny", "--kv-events-format", "arrays")
        events, replay = self.said(server, r"--kv-events(?:-replay)?: (tcp://127\.0\.0\.1:\d+),", 2)
        router = self.router(events, replay, topic="kv@")
        deaf = self.router(events, topic="other")
        self.subscribe(server, router)
        topic, n, payload = router.subscriber.recv_multipart()
        self.assertEqual(topic, b"kv@localhost@tiny")
        _, events, rank = msgpack.unpackb(payload)
        name, hashes, parent, tokens, page, lora, medium, lora_name = events[0]
        self.assertEqual((name, page, lora, medium, lora_name, rank), ("BlockStored", PAGE, None, "GPU", None, 0))
        self.assertEqual(len(tokens), PAGE * len(hashes))
        self.assertIsNone(parent)
        self.assertEqual(msgpack.unpackb(router.replay(0)[0][1])[1], [["AllBlocksCleared"]])
        self.assertFalse(deaf.subscriber.poll(0))

    def test_a_router_that_is_called(self):
        router = Router("tcp://127.0.0.1:*", binds=True)
        self.addCleanup(router.close)
        endpoint = router.subscriber.last_endpoint.decode()
        server = self.start("--kv-events", endpoint)
        self.subscribe(server, router)
        _, _, payload = router.subscriber.recv_multipart()
        self.assertIn(msgpack.unpackb(payload)[1][0]["type"], ("AllBlocksCleared", "BlockStored"))

    def test_questions_that_are_none(self):
        server, router = self.both()
        socket = router.context.socket(zmq.DEALER)
        socket.connect(router.replay_endpoint)
        for parts in ([b"", b"short"], [b"12345678"], [b"", b"", b"12345678"], [b"x", b"12345678"]):
            socket.send_multipart(parts)
        socket.send_multipart([b"", b"\0" * 8])
        self.assertTrue(socket.poll(30000))  # one connection keeps the order
        self.assertEqual(len(self.said(server, "is not understood", 4)), 4)
        socket.close()
        self.assertEqual(len(router.replay(0)), 1)

    def test_a_subscriber_that_does_not_read(self):
        events = self.endpoint("events")
        server = self.start("--kv-events", events, "--ctx", "512", "--kv-tokens", "1024")
        context = zmq.Context()
        self.addCleanup(lambda: context.destroy(linger=0))
        socket = context.socket(zmq.SUB)
        socket.rcvhwm = 1
        socket.subscribe("")
        socket.connect(events)
        rng = random.Random(3)
        for _ in range(100):
            self.ask(server, [rng.randrange(5, 9) for _ in range(200)])
        self.assertGreaterEqual(self.counts(server)[0], 100)
        self.assertEqual(server.end(), 0)

    def test_what_is_refused(self):
        taken = zmq.Context.instance().socket(zmq.PUB)
        self.addCleanup(taken.close)
        port = taken.bind_to_random_port("tcp://127.0.0.1")
        for arguments, said in ((["--kv-events", "http://x"], "--kv-events should be tcp://"),
                                (["--kv-events", "tcp://*:what"], "cannot be opened"),
                                (["--kv-events", f"tcp://*:{port}"], "in use"),
                                (["--kv-events", "tcp://*:*", "--kv-events-format", "xml"], "maps or arrays, found xml"),
                                (["--kv-events-topic", "t"], "belong to --kv-events")):
            with self.subTest(arguments), self.assertRaisesRegex(AssertionError, said):
                self.start(*arguments)


if __name__ == "__main__":
    unittest.main(verbosity=1)
