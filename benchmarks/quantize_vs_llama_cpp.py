#!/usr/bin/env python3
"""The time of `quantize` beside llama.cpp's, on one file, in turns.

    pip install llama-cpp-py-sync numpy
    benchmarks/quantize_vs_llama_cpp.py build/release/millrace MODEL.gguf [--types Q4_K_M,Q8_0] [--repeat 5] [--threads 2]

MODEL should hold F16, BF16 or F32. Ours is timed as a process, with its report of errors but without the comparison of
predictions; llama.cpp's is timed around llama_model_quantize(), in a process of its own. Both until the file is on the disk;
both files lie in one folder. That the bytes are equal is a test: tests/llama_cpp_test.py.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent / "tests"
THEIRS = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import llama_cpp
begin = time.monotonic()
llama_cpp.quantize(sys.argv[2], sys.argv[3], sys.argv[4], n_threads=int(sys.argv[5]))
with open(sys.argv[3], "rb") as file:
    os.fsync(file.fileno())
print(time.monotonic() - begin)
"""


def ours(options, out, mixture):
    begin = time.monotonic()
    subprocess.run([options.program, "quantize", options.model, out, mixture, "--no-sample", "--allow-requantize",
                    "--threads", str(options.threads)], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


def theirs(options, out, mixture):
    done = subprocess.run([sys.executable, "-c", THEIRS, TESTS, options.model, out, mixture, str(options.threads)], check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return float(done.stdout)


def spread(times):
    return f"{min(times):6.2f} {statistics.median(times):6.2f} {max(times):6.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--types", default="F16,Q8_0,Q4_0,Q5_1,Q2_K,Q3_K_M,Q4_K_M,Q5_K_M,Q6_K,IQ4_XS,MXFP4_MOE")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(f"{'seconds: min, median, max':<10}\n{'type':<10} {'ours':^20}   {'llama.cpp':^20}   ratio of medians")
    with tempfile.TemporaryDirectory() as folder:
        out = [pathlib.Path(folder) / name for name in ("ours.gguf", "theirs.gguf")]
        for mixture in options.types.split(","):
            times = ([], [])
            for _ in range(options.repeat):
                times[0].append(ours(options, out[0], mixture))
                times[1].append(theirs(options, out[1], mixture))
            ratio = statistics.median(times[1]) / statistics.median(times[0])
            print(f"{mixture:<10} {spread(times[0])}   {spread(times[1])}   {ratio:.2f} times as fast", flush=True)


main()
