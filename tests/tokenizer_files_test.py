#!/usr/bin/env python3
"""`tokenizer.model` and `tekken.json` beside the packages they come from: sentencepiece, which trains small models of every
setting here, and tiktoken, which encodes by rank as mistral-common does, with the vocabulary of the shared corpus."""

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

PROGRAM = sys.argv.pop(1)
PROSE = (pathlib.Path(__file__).parent / "data" / "prose.txt").read_text()
LLAMA3 = pathlib.Path(os.environ.get("MILLRACE_DATA_DIR", "/nowhere")) / "corpus" / "tokenizers" / "llama3_1" / "tokenizer.json.xz"
PATTERN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
           r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXTS = ["", "Hello world", "  two  spaces  ", "Größe naïve ﬁ ½ ①", "你好 мир", "tab\tnew\nline", "▁x", "e\u0301 Å", "ÅÅ  \u3000a",
         *PROSE.split("\n")[:8]]


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
