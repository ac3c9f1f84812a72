#!/usr/bin/env python3
"""Masks of grammar_bench beside the package llguidance: the same schemas, answers and tokens.

grammar_vs_others.py BENCH TOKENIZER: the program grammar_bench, and a tokenizer.json. One thread each; for every token
of an answer the time of its mask, microseconds; `compile` in milliseconds, `cold` the first answer after it."""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from grammar_cases import cases  # noqa: E402


def quantile(values, share):
    return sorted(values)[int(share * (len(values) - 1))]


def llguidance_rows(tokenizer_path):
    import llguidance
    import llguidance.numpy as masks
    import tokenizers
    text = pathlib.Path(tokenizer_path).read_text()
    tokenizer = llguidance.LLTokenizer(text)
    own = tokenizers.Tokenizer.from_str(text)
    bits = masks.allocate_token_bitmask(1, tokenizer.vocab_size)

    def read(case, grammar):
        times = []
        for answer in case["answers"]:
            matcher = llguidance.LLMatcher(tokenizer, grammar)
            for token in own.encode(answer, add_special_tokens=False).ids:
                begin = time.perf_counter()
                masks.fill_next_token_bitmask(matcher, bits, 0)
                times.append((time.perf_counter() - begin) * 1e6)
                if not matcher.consume_token(token):
                    return None
        return times

    for case in cases():
        make = lambda: llguidance.LLMatcher.grammar_from_json_schema(json.dumps(case["source"]))
        first = make()
        matcher = llguidance.LLMatcher(tokenizer, first)
        if matcher.is_error() or read(case, first) is None:
            yield case["name"], None
            continue
        begin = time.perf_counter()
        llguidance.LLMatcher(tokenizer, make())
        compile_ms = (time.perf_counter() - begin) * 1e3
        cold, warm = read(case, first), read(case, first)
        yield case["name"], (compile_ms, quantile(cold, 0.5), quantile(cold, 0.99), quantile(warm, 0.5), quantile(warm, 0.99))


def our_rows(bench, tokenizer_path):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(cases(), file)
        file.flush()
        out = subprocess.run([bench, tokenizer_path, file.name], capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        row = json.loads(line)
        yield row["name"], (row["compile_ms"], row["cold_us"]["p50"], row["cold_us"]["p99"], row["warm_us"]["p50"], row["warm_us"]["p99"])


def main():
    bench, tokenizer_path = sys.argv[1:3]
    ours, others = dict(our_rows(bench, tokenizer_path)), dict(llguidance_rows(tokenizer_path))
    head = "compile ms  cold p50  cold p99  warm p50  warm p99"
    print(f"{'':14} | millrace: {head} | llguidance: {head}")
    for name, row in ours.items():
        shown = lambda r: "refused" if r is None else "  ".join(f"{x:8.2f}" for x in r)
        print(f"{name:14} | {shown(row)} | {shown(others[name])}")
    kept = [r for r in others.values() if r is not None]
    for i, what in enumerate(["compile ms", "cold p50", "cold p99", "warm p50", "warm p99"]):
        print(f"median over the cases, {what}: millrace {statistics.median(r[i] for r in ours.values()):.2f}, "
              f"llguidance {statistics.median(r[i] for r in kept):.2f}")


if __name__ == "__main__":
    main()
