#!/usr/bin/env python3
"""Our files in llama.cpp, and its files beside ours.

- Every golden checkpoint that `convert` accepts, written as float32, is loaded by llama.cpp and its logits (of a model that gives
  embeddings, its rows) are compared.
- `quantize` gives the same formats and the same bytes as llama.cpp's tool, mixture by mixture.

Skipped where the package llama-cpp-py-sync is not installed or not loadable.
"""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import numpy as np
    import llama_cpp
except (ImportError, RuntimeError) as error:
    print(f"llama.cpp is not here: {str(error)[:200]}")
    sys.exit(77)

PROGRAM = sys.argv.pop(1)
GOLDENS = pathlib.Path(os.environ.get("MILLRACE_DATA_DIR", "/nowhere")) / "goldens"
# llama.cpp's own error: it multiplies through other roundings, and looks GELU up by float16.
TOLERANCE, TOLERANCE_OF_GELU = 2e-3, 1e-2
HAVE_GELU = ("bert", "gemma4_moe")
# What llama.cpp computes otherwise, whatever the file says; there it must only load and run it.
DIFFERENT = {
    "deepseek_v2": "it scores groups of experts as DeepSeek-V3 does",
    "embeddinggemma": "it takes its own pattern of windows",
    "gemma2": "it takes its own attention scale",
    "gemma3": "it takes its own pattern of windows",
    "gemma3_text": "it takes its own pattern of windows",
    "gpt_oss": "it rounds where yarn's ramp begins and ends",
    "gpt_oss_hd64": "it rounds where yarn's ramp begins and ends",
    "gpt_oss_mxfp4": "it rounds where yarn's ramp begins and ends, and activations",
    "llama4": "it has chunks and temperatures of 8192 positions always",
    "llama4_text": "it has chunks and temperatures of 8192 positions always",
    "ministral": "it has no windows in this architecture",
    "mistral": "it has no windows in this architecture",
    "phi3": "it chooses longrope factors by the size of its context",
    "phi4_mini": "it chooses longrope factors by the size of its context",
    "qwen2_swa": "it has no windows in this architecture",
    "smollm3": "it takes its own pattern of layers without rotation",
    "starcoder2": "it has no windows in this architecture",
}
# What it does not load: it must say so, or abort.
REFUSED = {
    "cohere": "it has norms of heads in 64 layers and more only",
    "deepseek_v2_lite": "it knows files without q_lora_rank by their 27 layers",
    "deepseek_v3_noqlora": "it knows files without q_lora_rank by their 27 layers",
    "deepseek_v32": "its indexers have heads of a power of two",
    "deepseek_v4": "it compresses by 4 and 128 only",
    "gemma3n": "it has per-layer embeddings of 256 always",
    "gemma4_text": "it has its own pattern of layers that share keys",
    "glm_moe_dsa": "its indexers have heads of a power of two",
    "glm_moe_dsa_shared": "its indexers have heads of a power of two",
    "qwen2_moe": "it has experts in every layer",
    "xlm_roberta": "it wants a tokenizer, and the folder has none",
}
WORD_PIECES = {"added_tokens": [], "normalizer": {"type": "BertNormalizer"}, "pre_tokenizer": {"type": "BertPreTokenizer"},
               "model": {"type": "WordPiece", "unk_token": "[UNK]",
                         "vocab": {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + [f"x{i}" for i in range(92)])}}}


def millrace(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, timeout=300)


def goldens_of(folder):
    """What the prompts give: ("logits" or "rows", {prompt: float32 (n_tokens, width)})."""
    blob = (folder / "golden.safetensors").read_bytes()
    n = int.from_bytes(blob[:8], "little")
    header, found = json.loads(blob[8:8 + n]), {}
    ending = ".logits" if "p0.logits" in header else ".last_hidden_state"
    for name, entry in header.items():
        if name.startswith("p") and name.endswith(ending) and name[1].isdigit():
            begin, end = (8 + n + each for each in entry["data_offsets"])
            found[name.removesuffix(ending)] = np.frombuffer(blob[begin:end], np.float32).reshape(entry["shape"])
    return "logits" if ending == ".logits" else "rows", found


def with_tokenizer(folder, scratch):
    """The folder with a tokenizer: there llama.cpp looks for the number of token types."""
    copy = scratch / folder.name
    copy.mkdir()
    for name in ("config.json", "model.safetensors"):
        (copy / name).symlink_to(folder / name)
    (copy / "tokenizer.json").write_text(json.dumps(WORD_PIECES))
    return copy


class Oracle:
    """llama.cpp in a process of its own, started anew when it has aborted."""

    def __init__(self):
        self.process = None

    def ask(self, question):
        if self.process is None:
            self.process = subprocess.Popen([sys.executable, llama_cpp.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.PIPE, text=True, env=os.environ | {"GGML_NO_BACKTRACE": "1"})
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        if answer := self.process.stdout.readline().strip():
            return answer
        _, said = self.process.communicate()
        ending, self.process = self.process.returncode, None
        return f"ends with {ending}: " + " ".join(line for line in said.splitlines() if "ASSERT" in line)

    def close(self):
        if self.process is not None:
            self.process.communicate()


class Converted(unittest.TestCase):
    def test_goldens(self):
        self.oracle = Oracle()
        self.addCleanup(self.oracle.close)
        if not GOLDENS.is_dir():
            self.skipTest(f"there is no folder {GOLDENS}")
        with tempfile.TemporaryDirectory() as scratch:
            for folder in sorted(GOLDENS.iterdir()):
                file = pathlib.Path(scratch) / "model.gguf"
                source = with_tokenizer(folder, pathlib.Path(scratch)) if folder.name == "bert" else folder
                if not (folder / "golden.json").exists() or millrace("convert", source, file, "--outtype", "f32").returncode != 0:
                    continue
                with self.subTest(folder.name):
                    print(f"{folder.name:<20} {self.compare(folder, file)}")

    def compare(self, folder, file):
        gives, expected = goldens_of(folder)
        prompts = {prompt["name"]: prompt["input_ids"] for prompt in json.loads((folder / "golden.json").read_text())["prompts"]
                   if prompt["name"] in expected}
        keys = json.loads(millrace("inspect", file, "--json").stdout)["metadata"]
        beta_fast = next((value for key, value in keys.items() if key.endswith(".yarn_beta_fast")), None)
        answer = self.oracle.ask({"file": str(file), "out": str(file.parent / "found.npz"), "tokens": prompts, "gives": gives,
                                  "yarn_beta_fast": beta_fast})
        if answer != "done":
            self.assertIn(folder.name, REFUSED, answer)
            return f"not loaded: {REFUSED[folder.name]} (it {answer[:150]})"
        self.assertNotIn(folder.name, REFUSED)
        with np.load(file.parent / "found.npz") as found:
            worst = max(float(np.abs(found[name] - expected[name]).max()) for name in prompts)
        if folder.name in DIFFERENT:
            return f"differs by {worst:.1e}: {DIFFERENT[folder.name]}"
        self.assertLessEqual(worst, TOLERANCE_OF_GELU if folder.name in HAVE_GELU else TOLERANCE)
        return f"largest error in llama.cpp {worst:.1e}, of {gives}"


def tensors_of(file):
    """{name: (type, bytes)} of a GGUF file, by way of `inspect`, in the order of the file."""
    found = json.loads(millrace("inspect", file, "--json").stdout)
    blob = file.read_bytes()
    n_data = sum((each["n_bytes"] + 31) // 32 * 32 for each in found["tensors"])
    at, tensors = (len(blob) + 31) // 32 * 32 - n_data, {}
    for each in found["tensors"]:
        tensors[each["name"]] = (each["type"], blob[at:at + each["n_bytes"]])
        at += (each["n_bytes"] + 31) // 32 * 32
    return tensors


class Quantized(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = pathlib.Path(scratch.name)
        self.file, self.ours, self.theirs = (self.path / name for name in ("model.gguf", "ours.gguf", "theirs.gguf"))

    def compare(self, what, *options, **their_options):
        """Returns False where llama.cpp does not quantise the file."""
        mixture = options[0]
        try:
            llama_cpp.quantize(self.file, self.theirs, mixture, **their_options)
        except llama_cpp.Refused as refusal:
            print(f"{what}: llama.cpp refuses: {str(refusal)[:150]}")
            return False
        done = millrace("quantize", self.file, self.ours, *options, "--no-sample", "--allow-requantize")
        self.assertEqual(done.returncode, 0, (what, mixture, done.stderr))
        ours, theirs = tensors_of(self.ours), tensors_of(self.theirs)
        self.assertEqual({name: kind for name, (kind, _) in ours.items()}, {name: kind for name, (kind, _) in theirs.items()},
                         (what, mixture))
        for name, (_, content) in ours.items():
            self.assertEqual(content == theirs[name][1], True, (what, mixture, name))
        return True

    def write_model(self, n_layers, n_kv_heads, n_experts=0, is_tied=False):
        """A random Llama (or Mixtral) of 256 hidden units, as float16."""
        rng, hidden, n_vocab = np.random.default_rng(1), 256, 96
        config = {"model_type": "mixtral" if n_experts else "llama", "hidden_size": hidden, "num_hidden_layers": n_layers,
                  "num_attention_heads": 8, "num_key_value_heads": n_kv_heads, "intermediate_size": hidden,
                  "vocab_size": n_vocab, "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
                  "tie_word_embeddings": is_tied}
        if n_experts:
            config |= {"num_local_experts": n_experts, "num_experts_per_tok": 2, "sliding_window": None}
        shapes = {"model.embed_tokens.weight": (n_vocab, hidden), "model.norm.weight": (hidden,)}
        if not is_tied:
            shapes["lm_head.weight"] = (n_vocab, hidden)
        for i in range(n_layers):
            layer, kv = f"model.layers.{i}.", hidden // 8 * n_kv_heads
            shapes |= {layer + "input_layernorm.weight": (hidden,), layer + "post_attention_layernorm.weight": (hidden,)}
            shapes |= {layer + f"self_attn.{part}_proj.weight": (n, hidden) for part, n in zip("qkvo", (hidden, kv, kv, hidden))}
            if n_experts:
                shapes[layer + "block_sparse_moe.gate.weight"] = (n_experts, hidden)
                shapes |= {layer + f"block_sparse_moe.experts.{e}.w{j}.weight": (hidden, hidden)
                           for e in range(n_experts) for j in (1, 2, 3)}
            else:
                shapes |= {layer + f"mlp.{part}_proj.weight": (hidden, hidden) for part in ("gate", "up", "down")}
        header, data = {}, []
        for name, shape in shapes.items():
            values = (rng.standard_t(5, shape) * 0.05).astype(np.float16).tobytes()
            at = sum(map(len, data))
            header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + len(values)]}
            data.append(values)
        text = json.dumps(header).encode()
        folder = self.path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
        (folder / "config.json").write_text(json.dumps(config))
        done = millrace("convert", folder, self.file)
        self.assertEqual(done.returncode, 0, done.stderr)

    def check_all(self, what, mixtures):
        for mixture in mixtures:
            self.assertTrue(self.compare(what, mixture))

    def test_layers(self):
        self.write_model(n_layers=16, n_kv_heads=2)
        self.check_all("16 layers, groups of 4", [each for each in llama_cpp.FILE_TYPES if each != "Q2_K_S"])
        self.assertTrue(self.compare("pure", "Q4_K_M", "--pure", pure=True))

    def test_tied_small_groups(self):
        self.write_model(n_layers=9, n_kv_heads=8, is_tied=True)
        self.check_all("9 layers, tied", ["Q2_K", "Q3_K_M", "Q4_K_S", "Q5_K_M", "IQ4_XS"])

    def test_eight_experts(self):
        self.write_model(n_layers=2, n_kv_heads=2, n_experts=8)
        self.check_all("8 experts", ["Q2_K", "Q3_K_S", "Q3_K_L", "Q4_K_M", "IQ4_XS", "MXFP4_MOE"])

    def test_importance(self):
        """What `imatrix` measured, in both tools."""
        self.write_model(n_layers=8, n_kv_heads=2, n_experts=4)
        matrix = self.path / "imatrix.gguf"
        tokens = ",".join(str(i * i % 96) for i in range(60))
        done = millrace("imatrix", self.file, "--tokens", tokens, "-o", matrix)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = {name: np.frombuffer(content, np.float32) for name, (_, content) in tensors_of(matrix).items()}
        means = {}
        for name, sums in found.items():
            if name.endswith(".in_sum2"):
                counts = found[name.removesuffix(".in_sum2") + ".counts"]
                sums = sums.reshape(len(counts), -1)
                means[name.removesuffix(".in_sum2")] = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], 1)
        for mixture in ("Q2_K_S", "Q4_K_M", "Q4_0", "Q5_1", "IQ4_XS", "Q6_K"):
            self.assertTrue(self.compare("with importance", mixture, "--imatrix", matrix, importance=means))

    def test_goldens(self):
        """Names of every family; small rows, where formats are replaced: of some families, all mixtures."""
        if not GOLDENS.is_dir():
            self.skipTest(f"there is no folder {GOLDENS}")
        for folder in sorted(GOLDENS.iterdir()):
            if not (folder / "golden.json").exists() or millrace("convert", folder, self.file).returncode != 0:
                continue
            with self.subTest(folder.name):
                is_thorough = folder.name in ("llama", "deepseek_v3", "gpt_oss_mxfp4", "qwen3_next", "glm5_next")
                for mixture in llama_cpp.FILE_TYPES if is_thorough else ["Q4_K_M"]:
                    if mixture != "Q2_K_S" and not self.compare(folder.name, mixture):
                        break


if __name__ == "__main__":
    unittest.main()
