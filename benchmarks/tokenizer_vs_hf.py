#!/usr/bin/env python3
"""Tokenizing 10 MB of mixed text and code, next to the `tokenizers` package on one thread, in one run.

tokenizer_vs_hf.py BENCH TOKENIZER...: the program tokenizer_bench, and tokenizer.json files (or .xz of them).
The text is a list of documents of up to some tens of kB, and the package is called by its fastest way (no
offsets), so that neither side is measured at an unusual size. It comes from what every machine with Python has: the sources of its standard library, and sentences in
many languages.
"""
import json
import lzma
import os
import pathlib
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402  (the settings above must be there first)

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))
from tokenizers_oracle import SAMPLES  # noqa: E402

N_BYTES = 10_000_000
N_REPEAT = 3


def documents():
    """Half code, half prose: docstrings and comments count as English, every file is followed by samples."""
    parts, size = [], 0
    sources = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("**/*.py"))
    while size < N_BYTES:
        for i, source in enumerate(sources):
            code = source.read_text(encoding="utf-8", errors="replace")[:20_000]
            prose = "\n".join(SAMPLES[(i + k) % len(SAMPLES)] for k in range(1 + len(code) // 2000))
            parts.append(f"{code}{prose}\n".replace("\0", ""))
            size += len(parts[-1].encode())
            if size >= N_BYTES:
                break
    return parts


def hf_speed(path, texts):
    oracle = tokenizers.Tokenizer.from_file(str(path))
    oracle.encode_special_tokens = True  # as the benchmark: texts of control tokens stay text
    seconds = []
    for _ in range(N_REPEAT):
        begin = time.perf_counter()
        n_ids = sum(len(e.ids) for e in oracle.encode_batch_fast(texts, add_special_tokens=False))
        seconds.append(time.perf_counter() - begin)
    return sum(len(text.encode()) for text in texts) / statistics.median(seconds) / 1e6, n_ids


def main():
    bench, paths = sys.argv[1], sys.argv[2:]
    texts = documents()
    with tempfile.TemporaryDirectory() as folder:
        text_path = pathlib.Path(folder) / "text"
        text_path.write_bytes("\0".join(texts).encode())
        print(f"{'tokenizer':<20}{'ours MB/s':>12}{'tokenizers MB/s':>18}{'ratio':>8}{'load ms':>10}")
        for path in map(pathlib.Path, paths):
            name = path.parent.name if path.name.startswith("tokenizer.json") else path.stem
            if path.suffix == ".xz":
                plain = pathlib.Path(folder) / "tokenizer.json"
                plain.write_bytes(lzma.open(path).read())
                path = plain
            ours = json.loads(subprocess.run([bench, path, text_path], capture_output=True, check=True).stdout)
            theirs, n_ids = hf_speed(path, texts)
            print(f"{name:<20}{ours['mb_per_second']:>12.1f}{theirs:>18.2f}{ours['mb_per_second'] / theirs:>8.1f}"
                  f"{ours['load_ms']:>10.1f}")
            if n_ids != ours["n_ids"]:
                sys.exit(f"{name}: {ours['n_ids']} ids, the original gives {n_ids}")


if __name__ == "__main__":
    main()
