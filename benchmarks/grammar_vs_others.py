#!/usr/bin/env python3
"""Masks of grammar_bench beside the packages llguidance and xgrammar: the same schemas, answers and tokens.

grammar_vs_others.py BENCH TOKENIZER: the program grammar_bench, and a tokenizer.json. One thread each; for every token
of an answer the time of its mask, microseconds; `compile` in milliseconds, `cold` the first answer after it. Times are
those of the thread on a processor. Packages: llguidance, xgrammar (pip install --no-deps, with apache-tvm-ffi and
pydantic: of torch and transformers it uses here what the stand-ins below have), tokenizers, numpy."""
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import types

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from grammar_cases import cases  # noqa: E402

COLUMNS = ["compile ms", "cold p50", "cold p99", "warm p50", "warm p99"]


def quantile(values, share):
    return sorted(values)[int(share * (len(values) - 1))]


def timed(call):
    begin = time.thread_time_ns()
    result = call()
    return result, (time.thread_time_ns() - begin) / 1e3


class Llguidance:
    def __init__(self, tokenizer_text, tokenizer):
        import llguidance
        import llguidance.numpy as masks
        self.package, self.masks = llguidance, masks
        self.tokenizer = llguidance.LLTokenizer(tokenizer_text)
        self.bits = masks.allocate_token_bitmask(1, self.tokenizer.vocab_size)

    def compile(self, schema):
        grammar = self.package.LLMatcher.grammar_from_json_schema(schema)
        if self.package.LLMatcher(self.tokenizer, grammar).is_error():
            raise RuntimeError("refused")
        return grammar

    def matcher(self, grammar):
        matcher = self.package.LLMatcher(self.tokenizer, grammar)
        return lambda: self.masks.fill_next_token_bitmask(matcher, self.bits, 0), matcher.consume_token


class Xgrammar:
    def __init__(self, tokenizer_text, tokenizer):
        import numpy
        import tvm_ffi  # noqa: F401  before torch is stood in for
        torch = types.ModuleType("torch")
        torch.Tensor = torch.LongTensor = torch.FloatTensor = numpy.ndarray
        torch.int32, torch.tensor, torch.full = numpy.int32, lambda x, dtype: numpy.array(x, dtype), numpy.full
        transformers = types.ModuleType("transformers")
        for name in ("PreTrainedTokenizerBase", "PreTrainedTokenizerFast", "LogitsProcessor"):
            setattr(transformers, name, type(name, (), {}))
        sys.modules.update(torch=torch, transformers=transformers)
        import xgrammar
        self.package = xgrammar
        pieces = [piece for piece, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
        info = xgrammar.TokenizerInfo(pieces, vocab_type=xgrammar.VocabType.BYTE_LEVEL, vocab_size=len(pieces),
                                      stop_token_ids=[len(pieces) - 1])
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.bits = numpy.zeros((1, (len(pieces) + 31) // 32), numpy.int32)

    def compile(self, schema):
        return self.compiler.compile_json_schema(schema, any_whitespace=True)

    def matcher(self, grammar):
        matcher = self.package.GrammarMatcher(grammar)
        return lambda: matcher.fill_next_token_bitmask(self.bits), matcher.accept_token


def rows(package, answers):
    """For each case the milliseconds to compile it, and the microseconds of each mask, cold and warm; None: refused."""
    for case in cases():
        try:
            package.compile('{"type": "boolean"}')  # what is made once for a vocabulary is there
            grammar, compile_us = timed(lambda: package.compile(json.dumps(case["source"])))
            cold, warm = [], []
            for times in (cold, warm):
                for answer in answers[case["name"]]:
                    fill, accept = package.matcher(grammar)
                    for token in answer:
                        times.append(timed(fill)[1])
                        if not accept(token):
                            raise RuntimeError("an answer is refused")
            yield case["name"], (compile_us / 1e3, cold, warm)
        except RuntimeError as error:
            print(f"{type(package).__name__}, {case['name']}: {error}", file=sys.stderr)
            yield case["name"], None


def our_rows(bench, tokenizer_path):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(cases(), file)
        file.flush()
        out = subprocess.run([bench, tokenizer_path, file.name], stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in out.splitlines():
        row = json.loads(line)
        yield row["name"], (row["compile_ms"], row["cold_us"], row["warm_us"])


def shown(row):
    if row is None:
        return f"{'refused':>48}"
    compile_ms, cold, warm = row
    return "".join(f"{x:10.2f}" for x in (compile_ms, *(quantile(t, q) for t in (cold, warm) for q in (0.5, 0.99))))[2:]


def main():
    bench, tokenizer_path = sys.argv[1:3]
    import tokenizers
    text = pathlib.Path(tokenizer_path).read_text()
    tokenizer = tokenizers.Tokenizer.from_str(text)
    answers = {case["name"]: [tokenizer.encode(answer, add_special_tokens=False).ids for answer in case["answers"]] for case in cases()}
    tables = {"millrace": dict(our_rows(bench, tokenizer_path))}
    for package in (Llguidance, Xgrammar):
        tables[package.__name__.lower()] = dict(rows(package(text, tokenizer), answers))
    for name, table in tables.items():
        print(f"{name:16}" + "".join(f"{column:>10}" for column in COLUMNS))
        for case, row in table.items():
            print(f"  {case:14}{shown(row)}")
        kept = [row for row in table.values() if row is not None]
        cold, warm = ([t for row in kept for t in row[i]] for i in (1, 2))
        print(f"  {'all tokens':14}{shown((sum(row[0] for row in kept) / len(kept), cold, warm))}"
              f"   (compile: mean; slowest mask: cold {max(cold):.0f}, warm {max(warm):.0f}; {len(cold)} tokens)\n")


if __name__ == "__main__":
    main()
