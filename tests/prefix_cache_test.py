#!/usr/bin/env python3
"""Prefixes on the disk, as a stranger meets them: started again, killed, refused, another model. Standard library only."""

import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="millrace-prefixes-")
MODEL = pathlib.Path(FOLDER.name, "tiny.gguf")
MODEL.write_bytes(tiny_gguf.tiny_gguf(context=8192))
random.seed(5)
PROMPT = [random.randrange(200) for _ in range(3000)]


def command(cache, *arguments, tokens=PROMPT):
    return [PROGRAM, "run", str(MODEL), "--tokens", ",".join(map(str, tokens)), "--max-tokens", "8", "--temperature", "0",
            "--ignore-eos", "--threads", "1", "--json", *(["--cache-dir", str(cache)] if cache else ["--cache-disk", "0"]), *arguments]


def run(cache, *arguments, **more):
    done = subprocess.run(command(cache, *arguments, **more), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["token_ids"], answer["usage"]["cached_tokens"], done.stderr


class PrefixCacheTest(unittest.TestCase):
    def setUp(self):
        self.cache = pathlib.Path(tempfile.mkdtemp(dir=FOLDER.name), "cache")
        self.expected = run(None)[0]

    def test_the_next_start_finds_it(self):
        self.assertEqual(run(self.cache), (self.expected, 0, ""))
        ids, n_cached, log = run(self.cache)
        self.assertEqual(ids, self.expected)
        self.assertGreater(n_cached, 2900)
        self.assertEqual(log, "")
        self.assertGreater(run(self.cache, tokens=PROMPT[:2000] + [1] * 50)[1], 1900)
        self.assertEqual(run(None)[1], 0)

    def test_what_is_short_leaves_no_files(self):
        run(self.cache, tokens=PROMPT[:200])
        self.assertEqual([path for path in self.cache.rglob("*") if path.is_file() and path.name != "lock"], [])

    def test_another_type_or_model_finds_nothing(self):
        run(self.cache)
        self.assertEqual(run(self.cache, "--kv-type", "f32")[1], 0)
        self.assertGreater(run(self.cache, "--kv-type", "f32")[1], 2900)
        changed = bytearray(MODEL.read_bytes())
        changed[-1] ^= 1
        MODEL.write_bytes(changed)
        self.assertEqual(run(self.cache)[1], 0)
        changed[-1] ^= 1
        MODEL.write_bytes(changed)

    def test_a_server_says_that_a_folder_is_of_another(self):
        run(self.cache)
        for kv_type, expected in (("f32", 1), ("f16", 0)):
            server = Server(PROGRAM, str(MODEL), "--threads", "1", "--cache-dir", str(self.cache), "--kv-type", kv_type)
            self.assertEqual(server.end(), 0)
            self.assertEqual(sum("holds prefixes of another model" in line for line in server.log), expected, server.log)

    def test_a_kill_at_any_time_changes_no_answer(self):
        kept = 0
        for i in range(12):
            process = subprocess.Popen(command(self.cache), stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
            time.sleep(0.02 + 0.03 * i)
            process.kill()
            process.wait()
            ids, n_cached, log = run(self.cache)
            self.assertEqual(ids, self.expected)
            self.assertEqual(log, "", "a record that is not whole has a name")
            self.assertGreaterEqual(n_cached, kept)
            kept = n_cached if i else 0

    def test_a_folder_that_cannot_be_is_a_line_of_the_log(self):
        self.cache.write_text("a file")
        ids, n_cached, log = run(self.cache)
        self.assertEqual((ids, n_cached), (self.expected, 0))
        self.assertEqual(log.count("\n"), 1, log)
        self.assertIn("Not a directory", log)

    def test_the_limit_holds(self):
        run(self.cache, "--cache-disk", "128K")
        n_bytes = sum(path.stat().st_blocks * 512 for path in self.cache.rglob("*") if path.is_file())
        self.assertGreater(n_bytes, 0)
        self.assertLessEqual(n_bytes, 128 << 10)

    def test_sizes_and_conflicts_are_refused(self):
        for arguments, said in ([["--cache-disk", "8Q"], "8Q"], [["--cache-disk", "-1"], "-1"], [["--cache-disk", "0"], "--cache-dir"],
                                [["--cache-disk", "99999999T"], "99999999T"]):
            done = subprocess.run(command(self.cache, *arguments), capture_output=True, text=True, stdin=subprocess.DEVNULL)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(said, done.stderr)

    def test_a_server_started_again_finds_it(self):
        text = "hello, this is what all of us begin with. " * 60
        request = {"messages": [{"role": "system", "content": text}, {"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 8,
                   "ignore_eos": True}
        answers, cached = [], []
        for _ in range(2):
            server = Server(PROGRAM, str(MODEL), "--threads", "1", "--cache-dir", str(self.cache))
            reply = server.json("/v1/chat/completions", request)
            answers.append(reply["choices"][0]["message"]["content"])
            cached.append(reply["usage"]["prompt_tokens_details"]["cached_tokens"])
            self.assertEqual(server.end(), 0)
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(cached[0], 0)
        self.assertGreater(cached[1], 1000)


if __name__ == "__main__":
    unittest.main()
