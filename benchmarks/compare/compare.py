#!/usr/bin/env python3
"""The speed of Millrace beside that of llama.cpp or ik_llama.cpp, on one file, in turns.

    benchmarks/compare/compare.py MODEL.gguf [--millrace build/release/millrace] [--peer NAME=llama-bench]...
        [--limits build/ci/benchmarks/ops_bench] [--regimes prefill,decode,batch,depth] [--rounds 3] [--threads 2]

A peer is the path of its llama-bench; a llama-batched-bench that lies beside it is asked for many sequences, and without one
these lines stay empty. Without --peer, the llama-bench on PATH is taken. A second peer may be the same program with
options behind the path: --peer 'ik-rtr=/path/llama-bench -rtr 1'.

Each round asks every program the same question before it goes on to the next one, so that what the machine does meanwhile hits
all alike. Printed are medians over the rounds with the least and the most, the ratio to the best peer, and what share of this
machine's limit ours is: of the int8 peak where many rows are computed, of the memory bandwidth read beside it in decode.
The int8 peak is that of vectors; tiles (AMX) may exceed it.
"""

import argparse
import json
import pathlib
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile


def run(command, with_stderr=False, cwd=None):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout + done.stderr if with_stderr else done.stdout


class Ours:
    name = "millrace"

    def __init__(self, program, model, threads):
        self.base = [program, "bench", model, "--threads", str(threads), "--repeat", "1", "--json"]
        self.bandwidth = []  # bytes/s, one reading a decode

    def prefill(self, n):
        return json.loads(run(self.base + ["--pp", str(n), "--tg", "0"]))["prefill"]["tokens_per_s"]["median"]

    def decode(self, n, batch=1, depth=0):
        out = json.loads(run(self.base + ["--pp", "0", "--tg", str(n), "--batch", str(batch), "--depth", str(depth)]))
        self.bandwidth.append(out["decode"]["read_bandwidth_bytes_per_s"])
        return out["decode"]["tokens_per_s"]["median"]


class Peer:
    def __init__(self, name, command, model, threads):
        self.name = name
        program, *options = shlex.split(command)
        program = str(pathlib.Path(shutil.which(program) or program).resolve())
        self.litter = tempfile.TemporaryDirectory()  # where peers may leave logs
        common = ["-m", str(pathlib.Path(model).resolve()), "-t", str(threads)] + options
        self.bench = [program] + common + ["-fa", "1", "-r", "1", "-o", "json"]
        batched = pathlib.Path(program).with_name("llama-batched-bench")
        self.batched = [str(batched)] + common + ["-fa", "on", "-c", "8192"] if batched.exists() else None
        usage = subprocess.run([program, "--help"], capture_output=True, text=True)
        self.has_depth = "--n-depth" in usage.stdout + usage.stderr

    def ask(self, arguments):
        return json.loads(run(self.bench + arguments, cwd=self.litter.name))[-1]["avg_ts"]

    def prefill(self, n):
        return self.ask(["-p", str(n), "-n", "0"])

    def decode(self, n, batch=1, depth=0):
        if batch == 1 and depth == 0:
            return self.ask(["-p", "0", "-n", str(n)])
        if batch == 1:
            return self.ask(["-p", "0", "-n", str(n), "-d", str(depth)] if self.has_depth
                            else ["-p", "0", "-n", "0", "-gp", f"{depth},{n}"])
        if self.batched is None:
            return None
        table = run(self.batched + ["-npp", "128", "-ntg", str(n), "-npl", str(batch)], with_stderr=True, cwd=self.litter.name)  # either
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]
        head = next(i for i, row in enumerate(rows) if "S_TG t/s" in row)
        return float(rows[-1][rows[head].index("S_TG t/s")])


# name, group, what is asked; tokens are few, as the rounds are what makes a figure sound
REGIMES = [
    ("prefill 512", "prefill", lambda e: e.prefill(512)),
    ("prefill 2048", "prefill", lambda e: e.prefill(2048)),
    ("decode", "decode", lambda e: e.decode(32)),
    ("decode, 4 sequences", "batch", lambda e: e.decode(16, batch=4)),
    ("decode, 8 sequences", "batch", lambda e: e.decode(16, batch=8)),
    ("decode, 16 sequences", "batch", lambda e: e.decode(16, batch=16)),
    ("decode at 4096", "depth", lambda e: e.decode(16, depth=4096)),
]


def int8_ops_per_token(inspected):
    """Of all matrices but the embedding and the output head; of experts those that a token uses."""
    metadata = inspected["metadata"]
    arch = metadata["general.architecture"]
    used = metadata.get(f"{arch}.expert_used_count", 0)
    total = 0
    for tensor in inspected["tensors"]:
        shape = tensor["shape"]
        if len(shape) < 2 or tensor["name"].startswith(("token_embd", "output.")):
            continue
        n = 1
        for dim in shape if len(shape) == 2 else [used] + shape[1:]:
            n *= dim
        total += 2 * n
    return total


def weight_bytes_per_token(inspected):
    metadata = inspected["metadata"]
    used = metadata.get(f"{metadata['general.architecture']}.expert_used_count", 0)
    names = {tensor["name"] for tensor in inspected["tensors"]}
    total = 0
    for tensor in inspected["tensors"]:
        if tensor["name"] == "token_embd.weight" and "output.weight" in names:
            continue
        n_bytes = tensor["n_bytes"]
        total += n_bytes * used // tensor["shape"][0] if len(tensor["shape"]) == 3 else n_bytes
    return total


def int8_peak(ops_bench, threads):
    if not pathlib.Path(ops_bench).exists():
        return None
    found = re.search(r"int8 (\d+) GOP/s", run([ops_bench, "--threads", str(threads), "--filter", "no such case"]))
    return float(found[1]) * 1e9 if found else None


def shown(values):
    values = [v for v in values if v is not None]
    if not values:
        return "–"
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--millrace", default="build/release/millrace")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PROGRAM")
    parser.add_argument("--limits", default="build/ci/benchmarks/ops_bench", metavar="OPS_BENCH")
    parser.add_argument("--regimes", default="prefill,decode,batch,depth")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    peers = args.peer or [f"llama.cpp={found}" for found in [shutil.which("llama-bench")] if found]
    ours = Ours(args.millrace, args.model, args.threads)
    engines = [ours] + [Peer(*peer.split("=", 1), args.model, args.threads) for peer in peers]
    inspected = json.loads(run([args.millrace, "inspect", args.model, "--json"]))
    wanted = args.regimes.split(",")
    regimes = [regime for regime in REGIMES if regime[1] in wanted]
    results = {(name, engine.name): [] for name, _, _ in regimes for engine in engines}
    readings = {name: [] for name, _, _ in regimes}
    peaks = []
    for _ in range(args.rounds):
        peaks.append(int8_peak(args.limits, args.threads))
        for name, _, question in regimes:
            for engine in engines:
                ours.bandwidth.clear()
                results[name, engine.name].append(question(engine))
                if engine is ours:
                    readings[name] += ours.bandwidth
    peaks = [peak for peak in peaks if peak]

    ops, n_bytes = int8_ops_per_token(inspected), weight_bytes_per_token(inspected)
    print(f"{pathlib.Path(args.model).name}, {args.threads} threads, {args.rounds} rounds, tokens/s")
    if peaks:
        print(f"int8 peak of vectors {min(peaks) / 1e9:.0f} to {max(peaks) / 1e9:.0f} GOP/s")
    print(f"{'':22}" + "".join(f"{engine.name:>26}" for engine in engines) + f"{'to the best peer':>18}  share of the limit")
    for name, group, _ in regimes:
        medians = {}
        for engine in engines:
            values = [v for v in results[name, engine.name] if v is not None]
            if values:
                medians[engine.name] = statistics.median(values)
        best = max((medians[e.name] for e in engines[1:] if e.name in medians), default=None)
        ratio = f"{medians[ours.name] / best:.2f}" if best else "–"
        share = ""
        if group == "prefill" and peaks:
            share = f"{100 * medians[ours.name] * ops / statistics.median(peaks):.0f} % of int8"
        elif name == "decode":
            read = statistics.median(readings[name])
            share = f"{100 * medians[ours.name] * n_bytes / read:.0f} % of {read / 1e9:.1f} GB/s"
        print(f"{name:22}" + "".join(f"{shown(results[name, engine.name]):>26}" for engine in engines) + f"{ratio:>18}  {share}")


if __name__ == "__main__":
    main()
