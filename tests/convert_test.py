#!/usr/bin/env python3
"""`convert`, from outside: a tiny Hugging Face folder, its GGUF file, and what both give.

The tokenizers of the shared corpus are used where they are there.
"""

import array
import json
import lzma
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
TOKENIZERS = pathlib.Path(os.environ.get("MILLRACE_DATA_DIR", "/nowhere")) / "corpus" / "tokenizers"
HIDDEN, HEADS, FF, LAYERS = 32, 4, 48, 2
TEXT = "Größe 12345 naïve\n\n\tif (a != b) { return 'été' }  你好，世界 こんにちは 👍🏽 мир ١٢٣\r\n   end "


def millrace(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, timeout=300)


def write_model(folder, n_vocab=40):
    config = {"model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
              "num_key_value_heads": 2, "intermediate_size": FF, "vocab_size": n_vocab, "max_position_embeddings": 128,
              "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "float32"}
    shapes = {"model.embed_tokens.weight": (n_vocab, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        shapes |= {layer + "input_layernorm.weight": (HIDDEN,), layer + "post_attention_layernorm.weight": (HIDDEN,),
                   layer + "self_attn.q_proj.weight": (HIDDEN, HIDDEN), layer + "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
                   layer + "self_attn.k_proj.weight": (HIDDEN // 2, HIDDEN), layer + "self_attn.v_proj.weight": (HIDDEN // 2, HIDDEN),
                   layer + "mlp.gate_proj.weight": (FF, HIDDEN), layer + "mlp.up_proj.weight": (FF, HIDDEN),
                   layer + "mlp.down_proj.weight": (HIDDEN, FF)}
    chance, header, data = random.Random(1), {}, b""
    some = array.array("f", (chance.gauss(0, 0.3) for _ in range(4099)))
    for name, shape in shapes.items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        at = chance.randrange(4099)
        values = array.array("f", (some[(at + i) % 4099] for i in range(n))).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(config))


class Convert(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.path = pathlib.Path(self.scratch.name)
        self.folder, self.file = self.path / "tiny", self.path / "tiny.gguf"

    def logits(self, model):
        out = self.path / "logits.npy"
        done = millrace("logits", model, "--tokens", "1,2,3,4,5", "--output", out, "--kv-type", "f32")
        self.assertEqual(done.returncode, 0, done.stderr)
        return out.read_bytes()

    def floats(self, npy):
        return array.array("f", npy[-5 * 40 * 4:])

    def test_the_file_is_the_folder(self):
        write_model(self.folder)
        done = millrace("convert", self.folder, self.file)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"no tokenizer.json", done.stderr)
        self.assertEqual(self.logits(self.folder), self.logits(self.file))
        self.assertEqual(millrace("inspect", self.file, "--check").returncode, 0)

    def test_other_formats(self):
        write_model(self.folder)
        exact = self.floats(self.logits(self.folder))
        for outtype, tolerance in (("f32", 0.0), ("f16", 0.02), ("bf16", 0.15)):
            done = millrace("convert", self.folder, self.file, "--outtype", outtype)
            self.assertEqual(done.returncode, 0, done.stderr)
            worst = max(abs(a - b) for a, b in zip(exact, self.floats(self.logits(self.file))))
            self.assertLessEqual(worst, tolerance, outtype)
            if tolerance:
                self.assertGreater(worst, 0.0, outtype)
        self.assertEqual(millrace("convert", self.folder, self.file, "--outtype", "q4_0").returncode, 2)

    def test_what_is_not_understood_is_not_written(self):
        write_model(self.folder)
        config = json.loads((self.folder / "config.json").read_text())
        (self.folder / "config.json").write_text(json.dumps(config | {"residual_multiplier": 0.2}))
        done = millrace("convert", self.folder, self.file)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn(b"residual_multiplier", done.stderr)
        self.assertFalse(self.file.exists())

    def test_a_tokenizer_that_gguf_cannot_say(self):
        write_model(self.folder)
        (self.folder / "tokenizer.json").write_text(json.dumps(
            {"added_tokens": [], "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "a": 1}}}))
        done = millrace("convert", self.folder, self.file)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertFalse(self.file.exists())
        self.assertEqual(millrace("convert", self.folder, self.file, "--no-tokenizer").returncode, 0)

    def test_tokenizers(self):
        if not TOKENIZERS.is_dir():
            self.skipTest(f"there is no folder {TOKENIZERS}")
        (self.path / "text").write_text(TEXT)
        for source in sorted(TOKENIZERS.iterdir()):
            tokenizer = lzma.decompress((source / "tokenizer.json.xz").read_bytes())
            n_vocab = 64 + max([token["id"] for token in json.loads(tokenizer)["added_tokens"]]
                               + list(json.loads(tokenizer)["model"]["vocab"].values()))
            write_model(self.folder, n_vocab)
            (self.folder / "tokenizer.json").write_bytes(tokenizer)
            (self.folder / "tokenizer_config.json").write_bytes((source / "tokenizer_config.json").read_bytes())
            done = millrace("convert", self.folder, self.file)
            self.assertEqual(done.returncode, 0, done.stderr)
            of_folder, of_file = (millrace("tokenize", model, "--file", self.path / "text", "--json")
                                  for model in (self.folder, self.file))
            self.assertEqual(of_folder.returncode, 0, of_folder.stderr)
            self.assertEqual(of_folder.stdout, of_file.stdout, source.name)


if __name__ == "__main__":
    unittest.main()
