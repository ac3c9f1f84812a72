#!/usr/bin/env python3
"""Real models answer: sensible text, llama.cpp's perplexity, the promised start-up time and memory.

The models come from scripts/fetch-model. Expected perplexities were measured by llama_cpp_perplexity.py (xllamacpp
2026.10.11549) on the LICENSE and tests/data/prose.txt, windows of 256 tokens.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
PROGRAM = sys.argv[1]
# By the length of windows. A single one scatters by half a percent with how int8 activations happen to be rounded, in
# llama.cpp as here: their mean is held to the tolerance.
PERPLEXITY = {"smollm2": {128: 21.5802, 192: 23.4778, 256: 20.8097, 384: 17.0677},
              "gemma3-270m": {128: 16.1746, 192: 13.4271, 256: 12.4107, 384: 13.5760}}
PERPLEXITY_TOLERANCE = 0.005
FIRST_TOKEN_S = 0.300
COPYING_BYTES = 12 << 20  # of the file that are in memory beside their copies, for a moment
RSS_TOLERANCE = 0.01

failures = []


def expect(ok, sentence):
    print(("ok: " if ok else "FAILED: ") + sentence, flush=True)
    if not ok:
        failures.append(sentence)


def model_path(name):
    fetched = subprocess.run([HERE.parent / "scripts" / "fetch-model", name], capture_output=True, text=True)
    if fetched.returncode != 0:
        print(f"skipped: {fetched.stderr.strip()}")
        sys.exit(77)
    return fetched.stdout.strip()


def run_json(*arguments):
    done = subprocess.run([PROGRAM, *arguments, "--json"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    expect(done.returncode == 0, f"{arguments[0]} ends with 0 ({done.stderr.strip()[:200]})")
    return json.loads(done.stdout)


def test_perplexity(name, path):
    with tempfile.NamedTemporaryFile() as text:
        text.write((HERE.parent / "LICENSE").read_bytes() + (HERE / "data" / "prose.txt").read_bytes())
        text.flush()
        off = [run_json("perplexity", path, text.name, "--ctx", str(n))["perplexity"] / expected - 1
               for n, expected in PERPLEXITY[name].items()]
    mean = sum(off) / len(off)
    expect(abs(mean) <= PERPLEXITY_TOLERANCE, f"{name}: perplexity is {mean:+.3%} of llama.cpp's, windows by themselves "
           + ", ".join(f"{each:+.3%}" for each in off))


def test_answer(name, path, arguments, word):
    greedy = ["--temperature", "0", "--max-tokens", "60"]
    answer = run_json("run", path, *arguments, *greedy)
    expect(word in answer["text"].lower(), f"{name}: {arguments} -> {answer['text']!r} speaks of {word}")
    expect(answer["finish_reason"] in ("stop", "length"), f"{name}: finish_reason {answer['finish_reason']}")
    again = run_json("run", path, *arguments, *greedy, "--threads", "1")
    expect(again["token_ids"] == answer["token_ids"], f"{name}: one thread gives the same tokens")


def first_token_s(path):
    """Seconds from exec to the first byte of the answer."""
    begin = time.monotonic()
    with subprocess.Popen([PROGRAM, "run", path, "Hello", "--temperature", "0", "--max-tokens", "2"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as program:
        program.stdout.read(1)
        elapsed = time.monotonic() - begin
        program.stdout.read()
    return elapsed


def test_first_token(name, path):
    pathlib.Path(path).read_bytes()  # into the page cache
    best = float("inf")
    for _ in range(20):  # a busy machine gets more tries
        best = min(best, first_token_s(path))
        if best <= FIRST_TOKEN_S:
            break
    expect(best <= FIRST_TOKEN_S, f"{name}: first token {best * 1000:.0f} ms after exec, allowed {FIRST_TOKEN_S * 1000:.0f}")


def peak_and_plan(path, n_tokens, n_ctx, *arguments):
    """Peak resident memory of a process whose prompt fills the context, and the plan. In a child: ru_maxrss is a maximum."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        prompt = ",".join(str(5 + i * 7919 % 30000) for i in range(n_tokens))
        answer = run_json("run", path, "--tokens", prompt, "--ignore-eos", "--temperature", "0", "--max-tokens", "48", "--ctx", str(n_ctx), *arguments)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        os.write(writer, json.dumps([peak, answer["memory"]]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as child:
        peak, plan = json.loads(child.read() or "[0, {}]")
    os.wait()
    return peak, plan


def expect_memory(what, peak, planned, held_twice=0):
    expect(abs(peak - planned) < planned * RSS_TOLERANCE + held_twice,  # of a run that failed both are 0
           f"{what}: peak RSS {peak / 2**20:.1f} MiB, planned {planned / 2**20:.1f} MiB ({peak / max(1, planned) - 1:+.2%})")


def test_memory(name, path):
    for weights in ["mapped", "copied"]:
        # As many positions as nothing of the windows has to leave for.
        peak, plan = peak_and_plan(path, 976, 1024, "--cache-disk", "0", "--weights", weights)
        expect_memory(f"{name}, weights {weights}", peak, sum(plan.values()) - plan.get("tier_bytes", 0),
                      held_twice=COPYING_BYTES if weights == "copied" else 0)


def test_memory_of_ranks(name, path):
    """Parts of weights are copies, in place of the file."""
    peak, plan = peak_and_plan(path, 976, 1024, "--cache-disk", "0", "--weights", "mapped", "--tensor-parallel-size", "2", "--threads", "2")
    expect_memory(f"{name}, 2 ranks", peak, sum(plan.values()) - plan.get("tier_bytes", 0))


def test_memory_of_prefixes(name, path):
    """A prompt of which more goes to the disk than waits for it in memory at most: all of the plan is used."""
    with tempfile.TemporaryDirectory() as folder:
        peak, plan = peak_and_plan(path, 8000, 8192, "--cache-dir", folder, "--weights", "mapped")
    expect_memory(f"{name}, 8,000 tokens kept on the disk", peak, sum(plan.values()))


def test_copied_weights(name, path):
    """Copies of the weights take over in the midst of the answer."""
    told = [run_json("run", path, "Once upon a time", "--raw", "--temperature", "0", "--max-tokens", "200", "--ignore-eos", "--cache-disk", "0", "--weights", place)["text"]
            for place in ("mapped", "copied")]
    expect(told[0] == told[1], f"{name}: other text from copied weights: {told}")


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))  # of length 1 both


def test_similarity():
    """The sentences and figures of the model's own card."""
    folder = model_path("minilm")
    sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    expected = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}
    with tempfile.TemporaryDirectory() as scratch:
        file = str(pathlib.Path(scratch) / "minilm.gguf")
        done = subprocess.run([PROGRAM, "convert", folder, file], capture_output=True, text=True)
        expect(done.returncode == 0, f"minilm is written as GGUF ({done.stderr.strip()[:200]})")
        told = [run_json("embed", path, *sentences) for path in (folder, file)]
    expect(told[0] == told[1], "minilm: the same embeddings from the folder and from GGUF")
    embeddings = [each["embedding"] for each in told[0]["embeddings"]]
    for (i, j), similarity in expected.items():
        found = cosine(embeddings[i], embeddings[j])
        expect(abs(found - similarity) < 5e-4, f"minilm: similarity of {i} and {j} is {found:.4f}, the card's {similarity}")
    alone = [run_json("embed", folder, sentence)["embeddings"][0] for sentence in sentences]
    expect(alone == told[0]["embeddings"], "minilm: the same embeddings alone and together")


def main():
    paths = {name: model_path(name) for name in PERPLEXITY}
    for name, path in paths.items():
        test_perplexity(name, path)
    test_answer("smollm2", paths["smollm2"], ["Why is the sky blue?"], "scatter")
    test_answer("smollm2", paths["smollm2"],
                ["What is the capital of France?", "--system", "You are a helpful assistant."], "paris")
    # The Gemma file is of the base model: it has no chat template and continues text.
    test_answer("gemma3-270m", paths["gemma3-270m"], ["The capital of France is the city of", "--raw"], "paris")
    test_first_token("smollm2", paths["smollm2"])
    for name, path in paths.items():
        test_memory(name, path)
        test_memory_of_ranks(name, path)
        test_copied_weights(name, path)
    test_memory_of_prefixes("gemma3-270m", paths["gemma3-270m"])
    test_similarity()
    sys.exit(f"{len(failures)} of the expectations failed" if failures else 0)


main()
