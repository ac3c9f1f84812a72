#!/usr/bin/env python3
"""The contract of the command line: exit statuses, one sentence on standard error, JSON, exact bytes.

Runs the built program on small files made here. Standard library only."""

import json
import os
import pathlib
import resource
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else "build/release/millrace"
VERBS = ["run", "embed", "inspect", "tokenize", "detokenize", "render", "logits", "perplexity", "bench", "convert", "quantize", "imatrix", "doctor",
         "completion"]
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="millrace-cli-"))


def path_of(name, content):
    path = FOLDER / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


MODEL = path_of("tiny.gguf", tiny_gguf.tiny_gguf())
NO_TOKENIZER = path_of("bare.gguf", tiny_gguf.tiny_gguf(template=None, has_tokenizer=False))


EMBEDDINGS = path_of("embeddings.gguf", tiny_gguf.tiny_gguf(pooling=3))


def millrace(*arguments, stdin=b""):
    return subprocess.run([PROGRAM, *arguments], input=stdin, capture_output=True, timeout=60)


class Cli(unittest.TestCase):
    def done(self, *arguments, stdin=b""):
        """Standard output of a call that must succeed."""
        result = millrace(*arguments, stdin=stdin)
        self.assertEqual(result.returncode, 0, (arguments, result.stderr))
        return result.stdout.decode()

    def json_of(self, *arguments, stdin=b""):
        return json.loads(self.done(*arguments, stdin=stdin))

    def refused(self, status, *arguments, stdin=b""):
        """The sentence of a call that must fail with that status."""
        result = millrace(*arguments, stdin=stdin)
        self.assertEqual(result.returncode, status, (arguments, result.stdout[:200], result.stderr))
        sentence = result.stderr.decode()
        self.assertRegex(sentence, r"\Amillrace: [^\n]+\n\Z", arguments)
        self.assertNotRegex(sentence, r"[\x00-\x09\x0b-\x1f\x7f]", arguments)
        return sentence

    # Usage

    def test_help_and_version(self):
        self.assertRegex(self.done("--version"), r"\Amillrace \d+\.\d+\.\d+\n\Z")
        for verb in VERBS:
            self.assertIn(f"  {verb} ", self.done("--help"))
            self.assertIn(f"millrace {verb}", self.done(verb, "--help"))
        self.assertEqual(millrace().returncode, 2)

    def test_usage_errors(self):
        self.assertIn("did you mean tokenize?", self.refused(2, "tokenise"))
        self.assertIn("did you mean --json?", self.refused(2, "inspect", MODEL, "--jsn"))
        for verb in ["run", "embed", "inspect", "tokenize", "detokenize", "render", "logits", "perplexity", "bench", "convert", "quantize", "imatrix",
                     "completion"]:
            self.refused(2, verb)
        self.refused(2, "inspect", MODEL, "more")
        self.refused(2, "\x1b[31mred")
        self.refused(2, "completion", "tcsh")
        self.refused(2, "detokenize", MODEL, "1,x")
        self.refused(2, "detokenize", MODEL, "99999")
        for arguments in [
            ["--threads", "x"], ["--threads", "-1"], ["--threads", "100000"], ["--ctx", "-5"], ["--ctx", "100000"],
            ["--seed", "-1"], ["--seed", ""], ["--max-tokens", "1.5"], ["--temperature", "nan"], ["--top-p", "2"],
            ["--backend", "abacus"], ["--think", "--no-think"], ["--tokens", "1,,2"], ["--tokens", "999999"],
        ]:
            self.refused(2, "run", MODEL, "hi", *arguments)

    def test_what_a_gpu_computes_is_asked_of_a_gpu(self):
        for verb in [["run", MODEL, "hi"], ["serve", MODEL], ["bench", MODEL], ["logits", MODEL, "--tokens", "1", "--output", path_of("x.npy", b"")]]:
            for asked in [["--gpu-layers", "1"], ["--gpu-layers", "auto"], ["--cpu-moe"], ["--n-cpu-moe", "2"]]:
                self.assertIn("--backend cuda", self.refused(2, *verb, *asked))
        for wrong in [["--gpu-layers", "many"], ["--gpu-layers", "-1"], ["--gpu-layers", "1x"], ["--n-cpu-moe", "-1"], ["--cpu-moe", "--n-cpu-moe", "1"]]:
            sentence = self.refused(2, "run", MODEL, "hi", "--backend", "cuda", *wrong)
            self.assertIn(wrong[0] if wrong[0] != "--cpu-moe" else "--n-cpu-moe", sentence)

    def test_ranks(self):
        one = self.done("run", MODEL, "--raw", "hello", "--temperature", "0", "--max-tokens", "8", "--json")
        for backend in ["cpu", "reference"]:
            two = self.done("run", MODEL, "--raw", "hello", "--temperature", "0", "--max-tokens", "8", "--json",
                            "--backend", backend, "--tensor-parallel-size", "2", "--threads", "2")
            self.assertEqual(json.loads(one)["token_ids"], json.loads(two)["token_ids"])
        for wrong, named in [(["0"], "1 to 64"), (["65"], "1 to 64"), (["x"], "--tensor-parallel-size"),
                             (["2", "--threads", "1"], "--threads"), (["2", "--backend", "cuda", "--cpu-moe"], "--cpu-moe"),
                             (["64", "--threads", "64"], "64 ranks")]:
            self.assertIn(named, self.refused(2, "run", MODEL, "hi", "--tensor-parallel-size", *wrong))
        self.assertIn("--tensor-parallel-size", self.refused(2, "imatrix", MODEL, "--tokens", "1,2", "--output",
                                                             str(FOLDER / "x.dat"), "--tensor-parallel-size", "2"))

    def test_completion_scripts(self):
        for shell in ["bash", "zsh", "fish"]:
            script = self.done("completion", shell)
            for verb in VERBS:
                self.assertIn(verb, script)
            self.assertIn("max-tokens", script)
        subprocess.run(["bash", "-n"], input=self.done("completion", "bash").encode(), check=True)
        complete = self.done("completion", "bash") + (
            "COMP_WORDS=(millrace inspect --ch); COMP_CWORD=2; _millrace; echo ${COMPREPLY[@]}\n"
            "COMP_WORDS=(millrace tok); COMP_CWORD=1; _millrace; echo ${COMPREPLY[@]}\n"
        )
        found = subprocess.run(["bash"], input=complete.encode(), capture_output=True, check=True).stdout.decode()
        self.assertEqual(found, "--check\ntokenize\n")

    # Models that are none

    def test_a_model_cut_anywhere(self):
        whole = pathlib.Path(MODEL).read_bytes()
        for n in [0, 3, 4, 20, 24, 100, 1000, len(whole) // 2, len(whole) - 100]:
            cut = path_of("cut.gguf", whole[:n])
            self.refused(3, "inspect", cut)
            self.refused(3, "run", cut, "hi")
            self.refused(3, "tokenize", cut, "hi")

    def test_what_is_no_model(self):
        for path in [str(FOLDER / "none.gguf"), "/dev/null", str(FOLDER), path_of("junk.gguf", os.urandom(5000)),
                     path_of("text.gguf", "hello\n"), path_of("lfs.gguf", "version https://git-lfs.github.com/spec/v1\n")]:
            for verb in ["inspect", "bench"]:
                self.refused(3, verb, path)
            self.refused(3, "run", path, "hi")
            self.refused(3, "tokenize", path, "hi")
            self.refused(3, "render", path, "--input", path_of("chat.json", '{"messages":[]}'))
        os.mkfifo(FOLDER / "fifo.gguf")
        self.refused(3, "inspect", str(FOLDER / "fifo.gguf"))
        self.refused(3, "tokenize", path_of("tokenizer.json", "{}"), "hi")
        self.refused(3, "tokenize", path_of("tokenizer.json", "{"), "hi")

    def test_a_model_that_lies(self):
        whole = pathlib.Path(MODEL).read_bytes()
        key = b"llama.attention.head_count\x04\x00\x00\x00"
        self.assertIn(key, whole)
        for heads in [0, 3, 2**31, 2**32 - 1]:
            at = whole.index(key) + len(key)
            lying = path_of("lying.gguf", whole[:at] + struct.pack("<I", heads) + whole[at + 4 :])
            self.refused(3, "run", lying, "--tokens", "1")
            self.refused(3, "inspect", lying, "--check")

    def test_memory_of_hostile_files(self):
        """Beside the mapped file, at most 64 MiB."""
        if b"__asan_init" in pathlib.Path(PROGRAM).read_bytes():
            self.skipTest("the address sanitizer takes more than the limit")
        n = 2_000_000
        array = tiny_gguf.string("k") + struct.pack("<I", 9)
        files = {
            "bytes": array + struct.pack("<IQ", 0, 10 * n) + b"\1" * 10 * n,
            "strings": array + struct.pack("<IQ", 8, n) + b"\0" * 8 * n,
            "count": array + struct.pack("<IQ", 8, 1 << 40),
        }
        for name, entry in files.items():
            path = path_of(name + ".gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry)
            limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (64 << 20, 64 << 20))  # noqa: E731
            done = subprocess.run([PROGRAM, "inspect", path, "--json"], capture_output=True, preexec_fn=limit, timeout=60)
            self.assertEqual(done.returncode, 0 if name == "strings" else 3, (name, done.stderr))

    def test_weights_that_are_no_numbers(self):
        whole = pathlib.Path(MODEL).read_bytes()
        broken = path_of("nan.gguf", whole[:-4] + struct.pack("<f", float("nan")))
        self.assertIn("token_embd.weight", self.refused(3, "inspect", broken, "--check"))

    def test_a_file_cut_while_it_is_mapped(self):
        """SIGBUS becomes a sentence."""
        n_vocab = 1 << 25  # an embedding of 4 GiB of zeros that take no disk
        whole = tiny_gguf.tiny_gguf(template=None, has_tokenizer=False, n_vocab=n_vocab, n_drawn=1 << 20)
        path = path_of("sparse.gguf", whole)
        os.truncate(path, len(whole) + 4 * n_vocab * tiny_gguf.HIDDEN)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen([PROGRAM, "inspect", path, "--check"], **pipes) as process:
            for _ in range(1000):
                if "sparse.gguf" in pathlib.Path(f"/proc/{process.pid}/maps").read_text():
                    break
                time.sleep(0.001)
            time.sleep(0.05)  # past the header, into the weights
            os.truncate(path, len(whole))
            _, sentence = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 3, sentence)
        self.assertRegex(sentence.decode(), r"\Amillrace: [^\n]+\n\Z")
        self.assertIn("while it was in use", sentence.decode())

    # Verbs

    def test_inspect(self):
        found = self.json_of("inspect", MODEL, "--json", "--check")
        self.assertEqual(found["metadata"]["general.architecture"], "llama")
        self.assertEqual(found["metadata"]["tokenizer.ggml.tokens"], tiny_gguf.TOKENS)
        self.assertIn({"name": "blk.0.ffn_up.weight", "shape": [48, 32], "type": "F32", "n_bytes": 48 * 32 * 4},
                      found["tensors"])
        self.assertTrue(found["is_sound"])
        text = self.done("inspect", MODEL)
        for part in ["llama", "tiny", "apache-2.0", "blk.0.ffn_up.weight", "F32"]:
            self.assertIn(part, text)

    def test_hostile_strings_are_escaped(self):
        hostile = path_of("escape.gguf", tiny_gguf.tiny_gguf(name="\x1b]0;owned\x07\x9b31m\r\nx"))
        self.assertNotRegex(self.done("inspect", hostile), r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
        self.json_of("inspect", hostile, "--json")

    def test_tokenize_and_back(self):
        hello = tiny_gguf.TOKENS.index("hello")
        found = self.json_of("tokenize", MODEL, "hello", "--json")
        self.assertEqual(found, {"ids": [hello], "pieces": ["hello"]})
        self.assertEqual(self.json_of("tokenize", MODEL, "<|end|>", "--parse-special", "--json")["ids"], [tiny_gguf.END])
        self.assertEqual(len(self.json_of("tokenize", MODEL, "<|end|>", "--json")["ids"]), 7)
        for text in ["hello wörld\n\t😀", "", "\\", "a\r\n"]:
            file = path_of("text.txt", text)
            for ids in [self.json_of("tokenize", MODEL, "--file", file, "--json")["ids"],
                        self.json_of("tokenize", MODEL, "--json", stdin=text.encode())["ids"]]:
                back = millrace("detokenize", MODEL, ",".join(map(str, ids)))
                self.assertEqual(back.stdout.decode(), text)
                self.assertEqual(self.json_of("detokenize", MODEL, ",".join(map(str, ids)), "--json"), {"text": text})

    def test_render(self):
        chat = {"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": True}
        request = path_of("request.json", json.dumps(chat))
        self.assertEqual(self.done("render", MODEL, "--input", request), "<user>hi\n<assistant>")
        self.assertEqual(self.done("render", MODEL, stdin=json.dumps(chat).encode()), "<user>hi\n<assistant>")
        jinja = path_of("t.jinja", "{{ strftime_now('%Y') }} {{ x }}")
        dated = path_of("dated.json", '{"now": "2031-02-03T04:05:06", "x": "é"}')
        self.assertEqual(self.done("render", jinja, "--input", dated), "2031 é")
        self.assertIn("no cats", self.refused(1, "render", path_of("r.jinja", "{{ raise_exception('no cats') }}"),
                                              "--input", request))
        self.refused(3, "render", path_of("b.jinja", "{% if %}"), "--input", request)
        for broken in ["", "{", "[]", "1"]:
            self.refused(2, "render", MODEL, "--input", path_of("broken.json", broken))
        self.refused(2, "render", MODEL, "--input", str(FOLDER / "none.json"))
        self.refused(3, "render", NO_TOKENIZER, "--input", request)

    def test_render_of_a_folder(self):
        folder = FOLDER / "hf"
        folder.mkdir()
        request = path_of("bos.json", '{"messages": []}')
        (folder / "tokenizer_config.json").write_text(json.dumps(
            {"chat_template": "{{ bos_token }}!", "bos_token": {"content": "<s>"}, "eos_token": "</s>"}))
        self.assertEqual(self.done("render", str(folder), "--input", request), "<s>!")
        (folder / "chat_template.jinja").write_text("{{ eos_token }}?")
        self.assertEqual(self.done("render", str(folder), "--input", request), "</s>?")

    def test_run(self):
        greedy = ["--temperature", "0", "--max-tokens", "5", "--ignore-eos"]
        found = self.json_of("run", MODEL, "hello", *greedy, "--json")
        for key in ["text", "token_ids", "finish_reason", "usage", "timings"]:
            self.assertIn(key, found)
        self.assertEqual(len(found["token_ids"]), 5)
        self.assertEqual(found["finish_reason"], "length")
        again = self.json_of("run", MODEL, *greedy, "--json", "--threads", "1", stdin=b"hello")
        self.assertEqual(again["token_ids"], found["token_ids"])
        bare = self.json_of("run", NO_TOKENIZER, "--tokens", "1,2,3", *greedy, "--json")
        same = self.json_of("run", MODEL, "--tokens", "1,2,3", *greedy, "--json")
        self.assertEqual(bare["token_ids"], same["token_ids"])
        self.refused(3, "run", NO_TOKENIZER, "hello")

    def test_seeds(self):
        warm = ["--temperature", "1", "--max-tokens", "8", "--ignore-eos", "--json"]
        ids = [self.json_of("run", MODEL, "x", *warm, "--seed", seed)["token_ids"] for seed in ["1", "1", "2"]]
        self.assertEqual(ids[0], ids[1])
        self.assertNotEqual(ids[0], ids[2])

    def test_embed(self):
        texts = path_of("texts.txt", "hello\nyou\r\nhell")
        lines = self.done("embed", EMBEDDINGS, "--file", texts).splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual(lines, self.done("embed", EMBEDDINGS, "hello", "you", "hell").splitlines())
        self.assertEqual(lines, self.done("embed", EMBEDDINGS, stdin=b"hello\nyou\nhell\n").splitlines())
        self.assertEqual(lines[1:2], self.done("embed", EMBEDDINGS, "you", "--threads", "2").splitlines())
        ids = self.json_of("tokenize", EMBEDDINGS, "you", "--json")["ids"]
        self.assertEqual(lines[1:2], self.done("embed", EMBEDDINGS, "--tokens", ",".join(map(str, ids))).splitlines())
        told = self.json_of("embed", EMBEDDINGS, "hello", "you", "--json")
        self.assertEqual((told["pooling"], told["n_elements"]), ("last", tiny_gguf.HIDDEN))
        embeddings = [each["embedding"] for each in told["embeddings"]]
        self.assertEqual([len(each) for each in embeddings], [tiny_gguf.HIDDEN] * 2)
        for embedding in embeddings:
            self.assertAlmostEqual(sum(x * x for x in embedding), 1, places=5)
        longer = self.json_of("embed", EMBEDDINGS, "hello", "--json", "--no-normalize")["embeddings"][0]["embedding"]
        scale = sum(x * x for x in longer) ** 0.5
        for x, y in zip(longer, embeddings[0]):
            self.assertAlmostEqual(x / scale, y, places=5)
        rows = self.json_of("embed", EMBEDDINGS, "you", "--json", "--pooling", "none")["embeddings"][0]["embedding"]
        self.assertEqual([len(row) for row in rows], [tiny_gguf.HIDDEN] * len(ids))
        self.assertEqual(rows[-1], embeddings[1])
        first = self.json_of("embed", EMBEDDINGS, "you", "--json", "--pooling", "cls")["embeddings"][0]["embedding"]
        self.assertEqual(rows[0], first)

    def test_embed_refusals(self):
        self.assertIn("verb embed", self.refused(2, "run", EMBEDDINGS, "hello"))
        self.assertIn("verb embed", self.refused(2, "logits", EMBEDDINGS, "--tokens", "1", "--output", "x.npy"))
        self.assertIn("verb run", self.refused(2, "embed", MODEL, "hello"))
        self.assertIn("--pooling", self.refused(2, "embed", EMBEDDINGS, "hello", "--pooling", "max"))
        self.assertIn("head", self.refused(2, "embed", EMBEDDINGS, "hello", "--pooling", "rank"))
        too_long = self.refused(2, "embed", EMBEDDINGS, "a", "a" * (tiny_gguf.CONTEXT + 1))
        self.assertIn("text 2", too_long)
        self.assertIn(str(tiny_gguf.CONTEXT), too_long)
        self.refused(2, "embed", EMBEDDINGS, "")
        self.assertIn("score", self.refused(2, "embed", EMBEDDINGS, "a", "--query", "b"))
        self.refused(2, "embed", EMBEDDINGS, "a", "--tokens", "1")
        self.refused(2, "embed", EMBEDDINGS, "a", "--normalize", "--no-normalize")
        self.refused(2, "embed", EMBEDDINGS, "--tokens", "1", "--token-types", "1")
        self.refused(2, "embed", EMBEDDINGS, "--tokens", "999999")

    def test_logits(self):
        logits = {}
        for backend, chunk in [("reference", "512"), ("cpu", "512"), ("cpu", "1")]:
            path = FOLDER / f"{backend}{chunk}.npy"
            self.done("logits", MODEL, "--tokens", "1,2,3", "--output", str(path), "--backend", backend, "--chunk", chunk)
            raw = path.read_bytes()
            self.assertEqual(raw[:8], b"\x93NUMPY\x01\x00")
            n_header = struct.unpack("<H", raw[8:10])[0]
            header = eval(raw[10 : 10 + n_header])  # a literal, by the format
            self.assertEqual(header, {"descr": "<f4", "fortran_order": False, "shape": (3, len(tiny_gguf.TOKENS))})
            self.assertEqual((10 + n_header) % 64, 0)
            logits[backend + chunk] = raw[10 + n_header :]
            self.assertEqual(len(logits[backend + chunk]), 3 * len(tiny_gguf.TOKENS) * 4)
        self.assertEqual(logits["cpu512"], logits["cpu1"])
        floats = [struct.unpack(f"<{len(raw) // 4}f", raw) for raw in (logits["reference512"], logits["cpu512"])]
        self.assertLess(max(abs(a - b) for a, b in zip(*floats)), 1e-3)
        self.refused(2, "logits", MODEL, "--tokens", "1,2")
        self.refused(2, "logits", MODEL, "--tokens", "999999", "--output", str(FOLDER / "x.npy"))
        self.refused(1, "logits", MODEL, "--tokens", "1", "--output", "/no/such/folder/x.npy")

    def test_bench_and_doctor(self):
        found = self.json_of("bench", MODEL, "--pp", "8", "--tg", "4", "--repeat", "2", "--json")
        for part in ["prefill", "decode"]:
            self.assertLessEqual(found[part]["tokens_per_s"]["min"], found[part]["tokens_per_s"]["median"])
        machine = self.json_of("doctor", "--json")
        self.assertGreater(machine["read_bandwidth_bytes_per_s"], 1e8)
        self.assertGreaterEqual(machine["physical_cores"], 1)
        self.assertIsInstance(machine["missing"], list)
        self.assertIn("physical", self.done("doctor"))

    # Standard output

    def test_no_colours_in_files(self):
        for arguments in [["inspect", MODEL, "--check"], ["--help"], ["run", "--help"],
                          ["run", MODEL, "x", "--max-tokens", "2", "--temperature", "0", "--ignore-eos", "--raw"]]:
            result = millrace(*arguments)
            self.assertNotIn(b"\x1b", result.stdout + result.stderr, arguments)

    def test_a_reader_that_leaves(self):
        with open("/dev/full", "wb") as full:
            for arguments in [["inspect", MODEL], ["inspect", MODEL, "--json"], ["--help"], ["tokenize", MODEL, "hi"]]:
                result = subprocess.run([PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=60)
                self.assertEqual(result.returncode, 1, arguments)
                self.assertRegex(result.stderr.decode(), r"\Amillrace: [^\n]+\n\Z")
        read_end, write_end = os.pipe()
        os.close(read_end)
        result = subprocess.run([PROGRAM, "inspect", MODEL], stdout=write_end, stderr=subprocess.PIPE, timeout=60)
        os.close(write_end)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr.decode(), r"\Amillrace: [^\n]+\n\Z")


if __name__ == "__main__":
    try:
        unittest.main(verbosity=1)
    finally:
        subprocess.run(["rm", "-rf", str(FOLDER)], check=False)
