#!/usr/bin/env python3
"""What a Hugging Face folder holds beside its weights: recommendations, ends of answers, tokenizers, towers."""

import base64
import json
import os
import pathlib
import struct
import tempfile
import unittest

from convert_test import millrace, write_model

N_VOCAB = 290
PATTERN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
           r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def varint(n):
    out = b""
    while n >= 128:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def sentence_piece():
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)] + [(f"<0x{i:02X}>", 0.0, 6) for i in range(256)]
    pieces += [(text, -1.0 - i, 1) for i, text in enumerate(["he", "llo", "hello", "▁hello", "▁", "h", "e", "l", "o", "ll", "lo"])]
    file = b"".join(field(1, field(1, text.encode()) + field(2, score) + field(3, kind)) for text, score, kind in pieces)
    return file + field(2, field(3, 2)) + field(3, field(3, 1) + field(4, 0))


def tekken():
    tokens = [bytes([i]) for i in range(256)] + [b"he", b"llo", b"hello", b" hello"]
    return {"config": {"pattern": PATTERN, "default_vocab_size": 280, "default_num_special_tokens": 20, "version": "v3"},
            "vocab": [{"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": None} for i, t in enumerate(tokens)]}


def add_tensors(path, names):
    """Adds tensors of two float32 to a safetensors file."""
    file = path.read_bytes()
    (n,) = struct.unpack("<Q", file[:8])
    header, data = json.loads(file[8 : 8 + n]), file[8 + n :]
    for name in names:
        header[name] = {"dtype": "F32", "shape": [2], "data_offsets": [len(data), len(data) + 8]}
        data += bytes(8)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


GOLDENS = pathlib.Path(os.environ.get("MILLRACE_DATA_DIR", "/nowhere")) / "goldens"


class PublishedSpelling(unittest.TestCase):
    def test_heads_of_layers_that_see_everything(self):
        """Gemma 4 as it is published has two settings where transformers 5 writes one for each layer."""
        if not GOLDENS.is_dir():
            self.skipTest(f"there is no folder {GOLDENS}")
        for family, heads in (("gemma4_text", {"global_head_dim": 32}),
                              ("gemma4_moe", {"global_head_dim": 32, "num_global_key_value_heads": 1})):
            with self.subTest(family), tempfile.TemporaryDirectory() as scratch:
                found = {}
                for name, spelt in (("layers", {}), ("published", {"per_layer_config": None, **heads}),
                                    ("wrong", {"per_layer_config": None, **heads, "global_head_dim": 16})):
                    folder = pathlib.Path(scratch, name)
                    folder.mkdir()
                    (folder / "model.safetensors").symlink_to(GOLDENS / family / "model.safetensors")
                    config = json.loads((GOLDENS / family / "config.json").read_text())
                    (folder / "config.json").write_text(json.dumps({**config, **spelt}))
                    done = millrace("logits", folder, "--tokens", "5,6,7,8,9", "--output", folder / "out.npy")
                    found[name] = (folder / "out.npy").read_bytes() if done.returncode == 0 else done.returncode
                self.assertEqual(found["layers"], found["published"])
                self.assertEqual(found["wrong"], 3)


class Folder(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name) / "tiny"
        write_model(self.folder, N_VOCAB)

    def write(self, name, value):
        (self.folder / name).write_text(json.dumps(value))

    def run_json(self, *arguments, model=None):
        done = millrace("run", model or self.folder, "--json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def inspect(self, model, *arguments):
        done = millrace("inspect", model, "--json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_recommendations_are_the_defaults_of_run(self):
        one = ("--tokens", "1,2", "--max-tokens", "1")
        plain = {"temperature": 0.7, "top_k": 0, "top_p": 0.95, "min_p": 0.0, "repetition_penalty": 1.0}
        self.assertEqual(self.run_json(*one)["sampling"], plain)
        told = {"temperature": 0.3, "top_k": 7, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.2}
        self.write("generation_config.json", {**told, "do_sample": True, "max_length": 99, "transformers_version": "5"})
        self.assertEqual(self.run_json(*one)["sampling"], told)
        given = self.run_json(*one, "--temperature", "0", "--top-k", "3", "--repetition-penalty", "1")["sampling"]
        self.assertEqual(given, {**told, "temperature": 0, "top_k": 3, "repetition_penalty": 1})
        file = self.folder.parent / "tiny.gguf"
        self.assertEqual(millrace("convert", self.folder, file, "--no-tokenizer").returncode, 0)
        self.assertEqual(self.run_json(*one, model=file)["sampling"], told)
        self.write("generation_config.json", {"do_sample": False, "temperature": 0.3})
        self.assertEqual(self.run_json(*one)["sampling"], {**plain, "temperature": 0})

    def test_answers_end_where_the_publisher_says(self):
        greedy = ("--tokens", "1,2", "--max-tokens", "3", "--temperature", "0")
        first = self.run_json(*greedy)["token_ids"][0]
        for ends in (first, [N_VOCAB - 1, first]):
            self.write("generation_config.json", {"eos_token_id": ends})
            answer = self.run_json(*greedy)
            self.assertEqual((answer["finish_reason"], answer["token_ids"]), ("stop", []))
            self.assertEqual(len(self.run_json(*greedy, "--ignore-eos")["token_ids"]), 3)

    def test_recommendations_that_make_no_sense_are_refused(self):
        for config in ({"temperature": -1}, {"top_p": 2}, {"top_k": "40"}, {"eos_token_id": [-1]}, {"eos_token_id": "2"}, []):
            self.write("generation_config.json", config)
            done = millrace("run", self.folder, "--tokens", "1", "--max-tokens", "1")
            self.assertEqual(done.returncode, 3, config)
            self.assertIn(b"generation_config.json", done.stderr)

    def test_tokenizers_of_other_kinds(self):
        for name, content, ids in (("tokenizer.model", sentence_piece(), [1, 262, 263, 3 + ord("!")]),
                                   ("tekken.json", json.dumps(tekken()).encode(), [1, 278, 20 + ord(" "), 20 + ord("!")])):
            with self.subTest(name):
                (self.folder / name).write_bytes(content)
                text = "hello !"
                file = self.folder.parent / (name + ".gguf")
                done = millrace("convert", self.folder, file)
                self.assertEqual(done.returncode, 0, done.stderr)
                for model in (self.folder, file):
                    done = millrace("tokenize", model, text, "--json")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertEqual(json.loads(done.stdout)["ids"], ids)
                    back = millrace("detokenize", model, ",".join(map(str, ids)))
                    self.assertEqual(back.stdout.decode(), text)
                    self.assertEqual(self.run_json(text, "--raw", "--max-tokens", "1", model=model)["usage"]["prompt_tokens"], 4)
                self.inspect(self.folder, "--check")
                (self.folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
                self.write("chat.json", {"messages": [{"role": "user", "content": "hi"}]})
                done = millrace("render", self.folder, "--input", self.folder / "chat.json")
                self.assertEqual(done.stdout, b"<s>hi</s>", done.stderr)
                (self.folder / name).write_bytes(content[:100])
                self.assertEqual(millrace("tokenize", self.folder, text).returncode, 3)
                self.assertEqual(millrace("inspect", self.folder, "--check").returncode, 3)
                (self.folder / name).unlink()

    def test_towers_are_named_and_left_out(self):
        names = ["vision_tower.a", "model.visual.b", "multi_modal_projector.c", "audio_tower.d"]
        add_tensors(self.folder / "model.safetensors", names)
        seen = self.inspect(self.folder, "--check")
        self.assertEqual(seen["folder"], {"quantisation": "", "n_files": 1, "tower": {"n_tensors": 4, "n_bytes": 32}})
        self.assertFalse(any("visual" in tensor["name"] for tensor in seen["tensors"]))
        done = millrace("run", self.folder, "--tokens", "1", "--max-tokens", "1")
        self.assertIn(b"4 tensors (0 MB) read images or sound and are left out", done.stderr)
        add_tensors(self.folder / "model.safetensors", ["model.strange.e"])
        done = millrace("inspect", self.folder)
        self.assertEqual(done.returncode, 3)
        self.assertIn(b"model.strange.e", done.stderr)


if __name__ == "__main__":
    unittest.main()
