#!/usr/bin/env python3
"""The program with `--backend cuda`, from options to answers: what it loads, places, plans, batches and prints. Its kernels
run on the emulation, and on the GPU besides where there is one. Standard library only."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402
from http_server import PROGRAM, Server  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="millrace-cuda-")
MODEL = str(pathlib.Path(FOLDER.name, "tiny.gguf"))
pathlib.Path(MODEL).write_bytes(tiny_gguf.tiny_gguf(context=256))
GOLDENS = pathlib.Path(os.environ.get("MILLRACE_DATA_DIR", ""), "goldens")
# Each kind of layer: dense, with a window, with experts, with latents, recurrent.
FAMILIES = ["llama", "gemma3_text", "qwen3_moe", "deepseek_v3", "qwen3_5"]
NOISE = 0.25  # of the difference of two logits


def call(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=300)


def backends():
    probe = call("run", MODEL, "--tokens", "1", "--max-tokens", "1", "--backend", "cuda")
    return ["cuda-emulation"] + (["cuda"] if probe.returncode == 0 else [])


class RunTest(unittest.TestCase):
    def check(self, folder, backend, *options):
        """Greedy answers are those of the reference implementation, up to the first choice that rounding to bfloat16 may
        turn. Returns what lies on the device."""
        golden = json.loads((folder / "golden.json").read_text())
        n_checked = 0
        for prompt in golden["prompts"]:
            tokens = prompt["input_ids"]
            expected = [token for token, _ in itertools.takewhile(lambda each: each[1] > NOISE,
                                                                  zip(prompt["greedy_ids"], prompt["greedy_margins"]))]
            if not expected:
                continue
            n_checked += len(expected)
            done = call("run", str(folder), "--tokens", ",".join(map(str, tokens)), "--temperature", "0", "--ignore-eos",
                        "--max-tokens", str(len(expected)), "--json", "--backend", backend, *options)
            self.assertEqual(done.returncode, 0, done.stderr)
            answer = json.loads(done.stdout)
            with self.subTest(family=folder.name, backend=backend, options=options):
                self.assertEqual(answer["token_ids"], expected)
                self.assertGreater(answer["memory"]["on_device"]["weights_bytes"], 0)
        self.assertGreater(n_checked, 0)
        return answer["memory"]["on_device"]

    def test_answers_are_those_of_the_reference_implementation(self):
        if not GOLDENS.is_dir():
            self.skipTest("MILLRACE_DATA_DIR has no goldens")
        for backend in backends():
            for family in FAMILIES:
                whole = self.check(GOLDENS / family, backend)
                part = self.check(GOLDENS / family, backend, "--gpu-layers", "1")
                self.assertLess(part["weights_bytes"], whole["weights_bytes"])
            for family in FAMILIES:
                self.check(GOLDENS / family, "cuda-emulation", "--tensor-parallel-size", "2", "--threads", "2")
            without_experts = self.check(GOLDENS / "qwen3_moe", backend, "--cpu-moe")
            self.assertLess(without_experts["weights_bytes"], whole["weights_bytes"])

    def test_what_does_not_fit_or_cannot_be_is_refused(self):
        for wrong, status in [(["--cpu-moe"], 2), (["--gpu-layers", "x"], 2), (["--ctx", "1000000"], 2)]:
            done = call("run", MODEL, "hi", "--backend", "cuda-emulation", *wrong)
            self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_speed_stands_beside_what_the_device_can_do(self):
        for backend in backends():
            done = call("bench", MODEL, "--backend", backend, "--pp", "16", "--tg", "4", "--repeat", "1", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            report = json.loads(done.stdout)
            self.assertGreater(report["prefill"]["share_of_bf16_limit"], 0)
            self.assertGreater(report["decode"]["share_of_bandwidth"], 0)


def requests():
    """Greedy and drawn, cut and not, penalised, with a grammar, with log-probabilities; most share a beginning."""
    kinds = [{"temperature": 0}, {"temperature": 0.8}, {"temperature": 1.2, "top_k": 5}, {"top_p": 0.9}, {"min_p": 0.2},
             {"temperature": 0, "frequency_penalty": 0.5}, {"temperature": 0, "logprobs": True, "top_logprobs": 3},
             {"temperature": 0.7, "n": 2}, {"response_format": {"type": "json_object"}}]
    for i, kind in enumerate(kinds):
        text = "the same beginning of a few pages " * (i % 4) + f"number {i}"
        yield {"messages": [{"role": "user", "content": text}], "max_tokens": 6 + i, "seed": i, **kind}


class ServeTest(unittest.TestCase):
    def answers(self, server, bodies):
        """All of them at once."""
        replies = [None] * len(bodies)

        def ask(i):
            replies[i] = server.json("/v1/chat/completions", bodies[i])["choices"]

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return replies

    def check(self, *options):
        bodies = list(requests())
        alone = []
        for body in bodies:
            server = Server(PROGRAM, MODEL, *options)
            alone += self.answers(server, [body])
            self.assertEqual(server.end(), 0)
        server = Server(PROGRAM, MODEL, "--parallel", "8", *options)
        for time in ["cold", "warm"]:
            for body, got, expected in zip(bodies, self.answers(server, bodies), alone):
                with self.subTest(options=options, time=time, body=body):
                    self.assertEqual(got, expected)
        self.assertEqual(server.end(), 0)

    def test_cold_equals_warm_alone_equals_together(self):
        for backend in backends():
            for placed in [[], ["--gpu-layers", "0"], ["--kv-type", "bf16"]]:
                self.check("--backend", backend, *placed)
        self.check("--backend", "cpu", "--tensor-parallel-size", "2", "--threads", "2")


if __name__ == "__main__":
    unittest.main(verbosity=1)
