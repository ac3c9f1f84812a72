#!/usr/bin/env python3
"""`quantize`, `imatrix` and the comparisons of `perplexity`, from outside, on a tiny random model. Standard library only."""

import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_gguf  # noqa: E402

PROGRAM = sys.argv.pop(1)
FORMATS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M",
           "Q5_K_S", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4", "MXFP4_MOE"]


def millrace(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, timeout=300)


class Tools(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = pathlib.Path(scratch.name)
        self.source, self.result = self.path / "source.gguf", self.path / "result.gguf"
        self.source.write_bytes(tiny_gguf.tiny_gguf())
        rng = random.Random(2)
        self.text = self.path / "text"
        self.text.write_text("".join(rng.choice("hello world\n") for _ in range(900)))

    def done(self, *arguments):
        result = millrace(*arguments)
        self.assertEqual(result.returncode, 0, (arguments, result.stderr))
        return result.stdout.decode()

    def json_of(self, *arguments):
        return json.loads(self.done(*arguments, "--json"))

    def refused(self, status, *arguments):
        result = millrace(*arguments)
        self.assertEqual(result.returncode, status, (arguments, result.stderr))
        return result.stderr.decode()

    def types(self, file):
        found = self.json_of("inspect", file, "--check")
        return {tensor["name"]: tensor["type"] for tensor in found["tensors"]}

    # quantize

    def test_every_type(self):
        errors = {}
        for mixture in FORMATS:
            report = self.json_of("quantize", self.source, self.result, mixture, "--sample", self.text)
            types = self.types(self.result)
            self.assertEqual({each["name"]: each["to"] for each in report["tensors"]}, types)
            self.assertEqual(types["output_norm.weight"], "F32")
            self.assertEqual(report["n_bytes"], self.json_of("inspect", self.result)["n_bytes"])
            self.assertEqual(report["divergence"]["n_positions"] > 100, True)
            errors[mixture] = report["relative_rmse"], report["divergence"]["kl_mean"]
        self.assertEqual(errors["F32"], (0.0, 0.0))
        for finer, coarser in (("F16", "BF16"), ("BF16", "Q8_0"), ("Q8_0", "Q5_1"), ("Q5_1", "Q4_0")):
            self.assertLess(errors[finer][0], errors[coarser][0], (finer, coarser))
            self.assertLess(errors[finer][1], errors[coarser][1], (finer, coarser))
        self.assertLess(errors["Q8_0"][0], 0.01)
        self.assertLess(errors["Q4_0"][0], 0.12)

    def test_errors_are_those_of_the_weights(self):
        report = self.json_of("quantize", self.source, self.result, "Q8_0", "--no-sample")
        squares = norm = 0.0
        for name, before in self.floats(self.source).items():
            after = self.floats(self.result)[name]
            squares += sum((a - b) ** 2 for a, b in zip(before, after))
            norm += sum(a * a for a in before) if after != before else 0.0
        self.assertAlmostEqual(report["relative_rmse"], (squares / norm) ** 0.5, places=6)
        self.assertNotIn("divergence", report)

    def floats(self, file):
        """{name: elements} of a file of F32, F16 and Q8_0."""
        blob, found = file.read_bytes(), self.json_of("inspect", file)["tensors"]
        at = (len(blob) + 31) // 32 * 32 - sum((each["n_bytes"] + 31) // 32 * 32 for each in found)
        out = {}
        for each in found:
            part = blob[at:at + each["n_bytes"]]
            at += (each["n_bytes"] + 31) // 32 * 32
            if each["type"] != "Q8_0":
                n, letter = (len(part) // 4, "f") if each["type"] == "F32" else (len(part) // 2, "e")
                out[each["name"]] = struct.unpack(f"<{n}{letter}", part)
                continue
            out[each["name"]] = []
            for i in range(0, len(part), 34):
                scale, *levels = struct.unpack("<e32b", part[i:i + 34])
                out[each["name"]] += [scale * level for level in levels]
        return out

    def test_threads_change_nothing(self):
        files = []
        for threads in (1, 3):
            self.done("quantize", self.source, self.result, "Q4_K_M", "--threads", threads, "--no-sample")
            files.append(self.result.read_bytes())
        self.assertEqual(*files)

    def test_replacements_are_said(self):
        text = self.done("quantize", self.source, self.result, "Q4_K_M", "--no-sample")
        self.assertIn("instead of Q4_K: 32 columns are no whole blocks of 256", text)
        self.assertEqual(self.types(self.result)["blk.0.attn_q.weight"], "Q5_0")
        self.assertEqual(self.types(self.result)["blk.0.ffn_down.weight"], "F16")  # 48 columns

    def test_choices(self):
        self.done("quantize", self.source, self.result, "q8_0", "--tensor-type", "attn_[qk]=q4_0", "--tensor-type", "attn=F16",
                  "--token-embedding-type", "Q5_1", "--no-sample")
        types = self.types(self.result)
        self.assertEqual([types[f"blk.0.{part}.weight"] for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up")],
                         ["Q4_0", "Q4_0", "F16", "F16", "Q8_0"])
        self.assertEqual(types["token_embd.weight"], "Q5_1")
        self.done("quantize", self.source, self.result, "Q4_0", "--output-type", "Q8_0", "--no-sample")
        self.assertEqual(self.types(self.result)["token_embd.weight"], "Q8_0")  # tied: it is the output
        self.done("quantize", self.source, self.result, "Q4_0", "--pure", "--no-sample")
        self.assertEqual(self.types(self.result)["token_embd.weight"], "Q4_0")

    def test_a_dry_run_writes_nothing(self):
        planned = self.json_of("quantize", self.source, self.result, "Q5_K_M", "--dry-run")
        self.assertFalse(self.result.exists())
        made = self.json_of("quantize", self.source, self.result, "Q5_K_M")
        self.assertEqual([each["to"] for each in planned["tensors"]], [each["to"] for each in made["tensors"]])
        self.assertEqual(planned["n_bytes"], made["n_bytes"])

    def test_refusals(self):
        self.assertIn("known: F32", self.refused(2, "quantize", self.source, self.result, "Q9"))
        self.refused(2, "quantize", self.source, self.result)
        self.refused(2, "quantize", self.source, self.result, "Q8_0", "--tensor-type", "attn_q")
        self.refused(2, "quantize", self.source, self.result, "Q8_0", "--tensor-type", "(=Q4_0")
        self.refused(2, "quantize", self.source, self.result, "Q8_0", "--output-type", "I32")
        self.refused(2, "quantize", self.source, self.result, "Q8_0", "--output-type", "F8_E4M3")  # GGUF has none
        self.refused(3, "quantize", self.text, self.result, "Q8_0")
        self.refused(3, "quantize", self.source, self.result, "Q8_0", "--imatrix", self.text)
        self.assertIn("--imatrix", self.refused(2, "quantize", self.wide(), self.result, "Q2_K_S"))
        self.assertFalse(self.result.exists())
        self.result.write_text("the old file")
        self.refused(2, "quantize", self.wide(), self.result, "Q2_K_S")
        self.assertEqual(self.result.read_text(), "the old file")
        self.done("quantize", self.source, self.result, "Q8_0")
        self.assertIn("--allow-requantize", self.refused(2, "quantize", self.result, self.path / "twice.gguf", "Q4_0"))
        self.done("quantize", self.result, self.path / "twice.gguf", "Q4_0", "--allow-requantize")
        self.done("quantize", self.result, self.result, "Q4_0", "--allow-requantize")  # onto itself

    def wide(self):
        """A model whose rows are whole blocks of 256."""
        file, tiny_gguf.HIDDEN = self.path / "wide.gguf", 256
        try:
            file.write_bytes(tiny_gguf.tiny_gguf())
        finally:
            tiny_gguf.HIDDEN = 32
        return file

    def test_weights_that_are_no_numbers(self):
        whole = self.source.read_bytes()
        self.source.write_bytes(whole[:-4] + struct.pack("<f", float("nan")))
        sentence = self.refused(3, "quantize", self.source, self.result, "Q4_0")
        self.assertIn("token_embd.weight", sentence)
        self.assertFalse(self.result.exists())

    # imatrix

    def test_an_importance_matrix_helps_where_it_says(self):
        matrix = self.path / "matrix.gguf"
        report = self.json_of("imatrix", self.source, self.text, "-o", matrix, "--ctx", 64)
        self.assertEqual(report["n_weights"], 7)
        self.assertEqual(self.json_of("imatrix", self.source, self.text, "-o", matrix, "--ctx", 64, "--chunks", 2)["n_tokens"], 128)
        found = {each["name"]: each["shape"] for each in self.json_of("inspect", matrix)["tensors"]}
        self.assertEqual(found["blk.0.ffn_down.weight.in_sum2"], [1, 48])
        self.assertEqual(found["blk.0.ffn_down.weight.counts"], [1, 1])
        self.assertNotIn("token_embd.weight.in_sum2", found)
        made = self.json_of("quantize", self.source, self.result, "Q4_0", "--imatrix", matrix)
        self.assertEqual({each["name"] for each in made["tensors"] if each.get("has_importance")},
                         {f"blk.0.{part}.weight" for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                                                              "ffn_down")})
        metadata = self.json_of("inspect", self.result)["metadata"]
        self.assertEqual(metadata["quantize.imatrix.entries_count"], 7)
        self.assertEqual(metadata["quantize.imatrix.chunks_count"], 2)
        self.assertIn("another model", self.refused(2, "quantize", self.wide(), self.result, "Q4_0", "--imatrix", matrix))

    def test_imatrix_of_embeddings(self):
        """Each window is a text, with the tokens around it that the tokenizer puts there."""
        self.source.write_bytes(tiny_gguf.tiny_gguf(pooling=3))
        matrix, small = self.path / "imatrix.gguf", self.path / "small.gguf"
        report = self.json_of("imatrix", self.source, self.text, "-o", matrix, "--ctx", 16)
        self.assertEqual(report["n_weights"], 7)
        self.assertGreater(report["n_windows"], 10)
        self.done("imatrix", self.source, "--tokens", "1,2,3", "-o", small)
        errors = [self.json_of("quantize", self.source, self.result, "Q4_0", "--imatrix", each)["tensors"] for each in (matrix, small)]
        self.assertNotEqual(*errors)
        self.assertTrue(any(each.get("has_importance") for each in errors[0]))
        self.refused(2, "imatrix", self.source, "--tokens", "1,99999", "-o", matrix)

    def test_imatrix_needs_a_text(self):
        self.refused(2, "imatrix", self.source, "-o", self.result)
        self.refused(2, "imatrix", self.source, self.text)
        self.done("imatrix", self.source, "--tokens", "1,2,3", "-o", self.result)
        self.refused(2, "imatrix", self.source, "--tokens", "1,99999", "-o", self.result)

    # perplexity

    def test_a_base_of_the_same_model(self):
        base = self.path / "base"
        alone = self.json_of("perplexity", self.source, self.text, "--ctx", 64, "--save-base", base)
        same = self.json_of("perplexity", self.source, self.text, "--base", base)
        self.assertEqual(same["perplexity"], alone["perplexity"])
        self.assertEqual(same["divergence"]["n_positions"], alone["n_tokens"])
        self.assertLess(abs(same["divergence"]["kl_mean"]), 1e-5)
        self.assertGreater(same["divergence"]["same_top"], 0.99)
        self.assertAlmostEqual(same["divergence"]["perplexity_ratio"], 1.0, places=4)
        self.assertEqual(self.json_of("perplexity", self.source, "--base", base), same)  # its tokens are in the base

    def test_a_base_of_another_model(self):
        base = self.path / "base"
        self.done("perplexity", self.source, self.text, "--ctx", 64, "--save-base", base)
        worse = {}
        for mixture in ("Q8_0", "Q4_0"):
            self.done("quantize", self.source, self.result, mixture, "--no-sample")
            worse[mixture] = self.json_of("perplexity", self.result, "--base", base)["divergence"]
            self.assertGreaterEqual(worse[mixture]["kl_max"], worse[mixture]["kl_p99"])
            self.assertGreaterEqual(worse[mixture]["kl_p99"], worse[mixture]["kl_median"])
        self.assertGreater(worse["Q4_0"]["kl_mean"], 4 * worse["Q8_0"]["kl_mean"])
        self.assertIn("KL divergence", self.done("perplexity", self.result, "--base", base))

    def test_bases_that_do_not_fit(self):
        base = self.path / "base"
        self.done("perplexity", self.source, self.text, "--ctx", 64, "--save-base", base)
        other = self.path / "other"
        other.write_text(self.text.read_text()[::-1])
        self.assertIn("other tokens", self.refused(2, "perplexity", self.source, other, "--base", base))
        small = self.path / "small.gguf"
        small.write_bytes(tiny_gguf.tiny_gguf(has_tokenizer=False, n_vocab=40))
        self.assertIn("vocabulary", self.refused(2, "perplexity", small, "--base", base))
        self.refused(3, "perplexity", self.source, "--base", self.text)
        whole = base.read_bytes()
        for cut in (0, 10, len(whole) // 2, len(whole) - 1):
            base.write_bytes(whole[:cut])
            self.refused(3, "perplexity", self.source, "--base", base)


if __name__ == "__main__":
    unittest.main()
