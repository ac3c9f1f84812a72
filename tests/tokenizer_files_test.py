#!/usr/bin/env python3
"""`tokenizer.model` and `tekken.json` beside the packages they come from: sentencepiece, which trains small models of every
setting here, and tiktoken, which encodes by rank as mistral-common does, with the vocabulary of the shared corpus. And
`tokenizer.json` of encoders, as `convert` writes it."""

import base64
import itertools
import json
import lzma
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

try:
    import sentencepiece
    import tiktoken
except ImportError:
    print("sentencepiece or tiktoken is not installed: pip install -r tests/requirements.txt")
    sys.exit(77)

from convert_test import PROGRAM, write_model  # takes the program out of the arguments

PROSE = (pathlib.Path(__file__).parent / "data" / "prose.txt").read_text()
LLAMA3 = pathlib.Path(os.environ.get("MILLRACE_DATA_DIR", "/nowhere")) / "corpus" / "tokenizers" / "llama3_1" / "tokenizer.json.xz"
PATTERN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
           r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXTS = ["", "Hello world", "  two  spaces  ", "Größe naïve ﬁ ½ ①", "你好 мир", "tab\tnew\nline", "▁x", "e\u0301 Å", "ÅÅ  \u3000a",
         *PROSE.split("\n")[:8]]


def field_of(message, number):
    """The bytes of a field of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        size = {0: 0, 5: 4, 1: 8}.get(key & 7)
        size = varint() if size is None else size or (varint(), 0)[1]
        if key == number << 3 | 2:
            return message[at : at + size]
        at += size


def framed(begin, end, ids, n_between=1):
    """A post-processor that puts a text between two tokens, and `n_between` of the second between two texts."""
    token = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [token(begin), {"Sequence": {"id": "A", "type_id": 0}}, token(end)],
            "pair": [token(begin), {"Sequence": {"id": "A", "type_id": 0}}, *[token(end)] * n_between,
                     {"Sequence": {"id": "B", "type_id": 0}}, token(end)],
            "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (begin, end)}}


class TokenizerFiles(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def ids(self, text):
        (self.folder / "text").write_text(text, newline="")
        done = subprocess.run([PROGRAM, "tokenize", self.folder, "--file", self.folder / "text", "--no-special", "--json"],
                              capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["ids"]

    def test_sentence_piece(self):
        (self.folder / "prose").write_text(PROSE)
        settings = itertools.product(("bpe", "unigram"), ("identity", "nmt_nfkc"), (True, False), (True, False))
        for kind, rule, prefix, merges in settings:
            with self.subTest(kind=kind, rule=rule, prefix=prefix, merges=merges):
                sentencepiece.SentencePieceTrainer.train(
                    input=str(self.folder / "prose"), model_prefix=str(self.folder / "tokenizer"), model_type=kind,
                    vocab_size=420 if kind == "bpe" else 250, hard_vocab_limit=False, byte_fallback=kind == "bpe",
                    normalization_rule_name=rule, add_dummy_prefix=prefix, remove_extra_whitespaces=merges, minloglevel=3)
                oracle = sentencepiece.SentencePieceProcessor(model_file=str(self.folder / "tokenizer.model"))
                for text in TEXTS:
                    self.assertEqual(self.ids(text), oracle.encode(text), text)

    def expect_written(self, tokenizer, config, n_vocab):
        """That the GGUF file made of the tokenizer gives the ids that the tokenizer gives."""
        write_model(self.folder, n_vocab)
        (self.folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (self.folder / "tokenizer_config.json").write_text(json.dumps(config))
        file = self.folder / "written.gguf"
        done = subprocess.run([PROGRAM, "convert", self.folder, file], capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        for text in [*TEXTS, "a [MASK] b <mask> c"]:
            (self.folder / "text").write_text(text, newline="")
            found = [subprocess.run([PROGRAM, "tokenize", model, "--file", self.folder / "text", "--parse-special", "--json"],
                                    capture_output=True, timeout=60) for model in (self.folder, file)]
            ids = [json.loads(done.stdout)["ids"] for done in found]
            self.assertEqual(*ids, text)
            self.assertGreaterEqual(len(ids[0]), 2)

    def test_unigram_of_tokenizer_json(self):
        """As XLM-RoBERTa and T5 have it."""
        (self.folder / "prose").write_text(PROSE)
        sentencepiece.SentencePieceTrainer.train(
            input=str(self.folder / "prose"), model_prefix=str(self.folder / "trained"), model_type="unigram", vocab_size=250,
            hard_vocab_limit=False, normalization_rule_name="nmt_nfkc", minloglevel=3)
        trained = (self.folder / "trained.model").read_bytes()
        oracle = sentencepiece.SentencePieceProcessor(model_proto=trained)
        vocab = [[oracle.id_to_piece(i), oracle.get_score(i)] for i in range(oracle.vocab_size())]
        special = {name: i for i, name in enumerate(["<unk>", "<s>", "</s>"])} | {"<mask>": len(vocab)}
        charsmap = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(field_of(field_of(trained, 3), 2)).decode()}
        marks = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
        spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
        for normalizer, splits in ((charsmap, {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, marks]}),
                                   ({"type": "Sequence", "normalizers": [charsmap, {"type": "Strip"}, spaces]}, marks)):
            self.expect_written(
                {"added_tokens": [{"id": i, "content": name, "special": True, "lstrip": name == "<mask>"} for name, i in special.items()],
                 "normalizer": normalizer, "pre_tokenizer": splits, "decoder": marks, "post_processor": framed("<s>", "</s>", special, 2),
                 "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab}},
                {"bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}, len(vocab) + 1)

    def test_byte_level_between_two_tokens(self):
        """As ModernBERT has it."""
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
        merges = [["l", "l"], ["h", "e"], ["he", "ll"], ["hell", "o"], ["Ġ", "w"]]
        pieces = letters + ["".join(pair) for pair in merges]
        special = {name: len(pieces) + i for i, name in enumerate(["[CLS]", "[SEP]", "[MASK]"])}
        self.expect_written(
            {"added_tokens": [{"id": i, "content": name, "special": True, "lstrip": name == "[MASK]"} for name, i in special.items()],
             "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
             "decoder": {"type": "ByteLevel"}, "post_processor": framed("[CLS]", "[SEP]", special),
             "model": {"type": "BPE", "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": merges}},
            {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}, len(pieces) + len(special))

    def test_tekken(self):
        if not LLAMA3.exists():
            self.skipTest(f"there is no file {LLAMA3}")
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        spelt = printable + [byte for byte in range(256) if byte not in printable]
        byte_of = {chr(byte if i < len(printable) else 256 + i - len(printable)): byte for i, byte in enumerate(spelt)}
        vocab = json.loads(lzma.open(LLAMA3).read())["model"]["vocab"]
        ranks = {bytes(byte_of[c] for c in piece): rank for piece, rank in sorted(vocab.items(), key=lambda entry: entry[1])}
        tokens = [{"rank": rank, "token_bytes": base64.b64encode(token).decode()} for token, rank in ranks.items()]
        (self.folder / "tekken.json").write_text(json.dumps({
            "config": {"pattern": PATTERN, "default_vocab_size": len(ranks) + 1000, "default_num_special_tokens": 1000},
            "vocab": tokens}))
        oracle = tiktoken.Encoding("tekken", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
        for text in [*TEXTS, PROSE, pathlib.Path(__file__).read_text(), "antidisestablishmentarianism zqxjkvb 12345"]:
            self.assertEqual(self.ids(text), [1000 + rank for rank in oracle.encode(text)], text[:60])


if __name__ == "__main__":
    unittest.main()
