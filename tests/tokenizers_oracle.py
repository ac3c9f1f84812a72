#!/usr/bin/env python3
"""Compares tokenizers with the `tokenizers` package from PyPI: ids with and without special tokens, and decoding.

tokenizers_oracle.py PROBE CORPUS [NAME...]: the probe program, the folder with tokenizers/NAME/tokenizer.json.xz.
First small tokenizers, which the package makes here, so that every part of the format is met once; then the
published ones, where the corpus is there. Exit status 77 (skipped) where the package is missing.
"""
import json
import lzma
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

try:
    import tokenizers
    from tokenizers import (AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors,
                            trainers)
except ImportError:
    print("skipped: needs the package `tokenizers` from PyPI (pip install tokenizers)")
    sys.exit(77)

SAMPLES = [
    "The quick brown fox jumps over the lazy dog. It's 3.14159 o'clock; they've said WE'LL go, I'M sure.",
    "Быстрая коричневая лиса прыгает через ленивую собаку. Съешь же ещё этих мягких французских булок.",
    "快速的棕色狐狸跳过了懒狗。今天是2024年11月24日，气温为摄氏25度。《红楼梦》「你好」……",
    "素早い茶色の狐がのろまな犬を飛び越える。ﾊﾝｶｸ カタカナ ひらがな ヴァイオリン々〆〤",
    "다람쥐 헌 쳇바퀴에 타고파. 한국어 문장입니다. ᄒᆞᆫ글 조합 각",
    "السلام عليكم ورحمة الله، كيف حالك اليوم؟ ١٢٣٤٥ مُحَمَّد",
    "नमस्ते दुनिया, यह हिन्दी में एक वाक्य है। क़ख़ग़ १२३",
    "สวัสดีชาวโลก ภาษาไทยไม่มีช่องว่างระหว่างคำ ๑๒๓",
    "Việt Nam: Cửa Việt, tiếng Việt có dấu. Tie\u0302\u0301ng Vie\u0323\u0302t; e\u0301\u0323 \u212b \u1e9b\u0323",
    "Ελληνικά: Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ΑΒΓ ΐ",
    "שלום עולם, זהו משפט בעברית. בְּרֵאשִׁית",
    "ქართული ენა, հայերեն լեզու, አማርኛ ቋንቋ, ខ្មែរ, မြန်မာ, ລາວ, සිංහල, தமிழ், తెలుగు",
    "😀😃😄 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 👍🏽 ❤️‍🔥 ☃ ♞ ∑∫√∞≠≤ ½⅓Ⅷ²₃ ㊙ ﷺ ﬁﬂ",
    "def f(x):\n    if x > 0:\n\t\treturn {'a': [1, 22, 333, 4444, 55555], \"b\": x**2}  # comment\n\n\n    pass\n",
    "int main(int argc, char** argv) {\r\n  std::vector<int> v{1,2,3};\r\n  return v[0]->x != nullptr ? 0xFF : ~1;\r\n}",
    "<html><body class=\"a-b_c\">&nbsp;&#x27;</body></html>\n\n\n\n    \t  \n   <!-- x -->   ",
    "SELECT * FROM users WHERE id=12345 AND name LIKE '%O''Brien%' -- ;\n{\"k\":[null,true,1e-9]}",
    "   leading and trailing   \n\n \t\u00a0\u3000\u2003x\u200b\u200dy\u2028z\u0085w\u180ev\ufeffu\u1680t  ",
    "CamelCaseWordsAndHTTPServerNames snake_case_words kebab-case-words XMLHttpRequest iPhone McDonald's ǅungla",
    "'ſ 'S 'tis 'twas can't CAN'T y'all 'Re 'LL ''ll 're'd ŀ'd don’t “quotes” ‘single’ — – …",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\x00\x01\x02\x1b[31m\x7f \ue000\uf8ff \U000e0001 \U0001d400\U00020000\U0002a6d6 \U00031350\U000323af \ufffd",
    "<|begin_of_text|><|eot_id|> <|im_start|>user\n<|im_end|><start_of_turn>model\n<end_of_turn><bos><｜User｜><think>",
    "<unused5>[multimodal]<mask> \n\n\n<table></td><｜fim▁hole｜><|EOT|><tool_call> </tool_call><|fim_prefix|>▁▁ ▁",
]
BROKEN = [b"\xff\xfe", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80"]


def random_char(rng):
    code = rng.choice((rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0x10000), rng.randrange(0x110000)))
    return "?" if 0xD800 <= code < 0xE000 else chr(code)


def mixed_text(rng, n_bytes):
    """A text of about n_bytes: sentences and code, whole and in pieces, random characters, broken UTF-8."""
    parts, size = [], 0
    while size < n_bytes:
        sample = rng.choice(SAMPLES)
        kind = rng.randrange(8)
        if kind < 3:
            part = sample.encode()
        elif kind < 5:
            begin = rng.randrange(len(sample))
            part = sample[begin:begin + rng.randrange(1, 12)].encode()
        elif kind == 5:
            part = rng.choice((" ", "  ", "\n", "\n\n", "\t", "\r\n", " \n ", "'", "▁", "1234")).encode()
        elif kind == 6:
            part = "".join(random_char(rng) for _ in range(rng.randrange(1, 6))).encode()
        else:
            part = rng.choice(BROKEN)
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def texts_of(rng, n_bytes):
    """Samples, then texts of all lengths, then one large one: two megabytes in all."""
    texts = [b"", *(s.encode() for s in SAMPLES), *BROKEN]
    size = 0
    while size < n_bytes // 2:
        texts.append(mixed_text(rng, rng.choice((1, 5, 20, 100, 1000, 10000))))
        size += len(texts[-1])
    texts.append(mixed_text(rng, n_bytes - size))
    return texts


NORMALIZERS = {
    "nfc": lambda: normalizers.NFC(),
    "nfd_strip": lambda: normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Strip()]),
    "nfkc_lower": lambda: normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
    "nfkd": lambda: normalizers.NFKD(),
    "nmt": lambda: normalizers.Nmt(),
    "bert": lambda: normalizers.BertNormalizer(),
    "bert_cased": lambda: normalizers.BertNormalizer(lowercase=False, strip_accents=False),
    "replace": lambda: normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Replace("a", "[A]"), normalizers.Prepend("^")]),
    "strip_left": lambda: normalizers.Strip(left=True, right=False),
    "byte_level": lambda: normalizers.ByteLevel(),
}
SPLITS = {
    "byte_level": lambda: pre_tokenizers.ByteLevel(add_prefix_space=True),
    "byte_level_digits": lambda: pre_tokenizers.Sequence(  # as Falcon: steps after the byte-level alphabet
        [pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
         pre_tokenizers.Digits(), pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")]),
    "metaspace": lambda: pre_tokenizers.Metaspace(),
    "metaspace_first": lambda: pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
    "metaspace_never": lambda: pre_tokenizers.Metaspace(replacement="_", prepend_scheme="never"),
    "whitespace": lambda: pre_tokenizers.Whitespace(),
    "whitespace_split": lambda: pre_tokenizers.WhitespaceSplit(),
    "digits": lambda: pre_tokenizers.Digits(individual_digits=True),
    "bert": lambda: pre_tokenizers.BertPreTokenizer(),
    "delimiter": lambda: pre_tokenizers.CharDelimiterSplit("e"),
    "fixed": lambda: pre_tokenizers.FixedLength(length=3),
    **{f"punctuation_{b}": lambda b=b: pre_tokenizers.Punctuation(b)
       for b in ("removed", "isolated", "contiguous", "merged_with_previous", "merged_with_next")},
    **{f"split_{b}_{i}": lambda b=b, i=i: pre_tokenizers.Split(Regex(r"[aeiou]|\s+"), b, invert=i)
       for b in ("removed", "isolated", "contiguous", "merged_with_previous", "merged_with_next")
       for i in (False, True)},
    "split_text": lambda: pre_tokenizers.Split("o", "merged_with_next"),
    "split_empty": lambda: pre_tokenizers.Split(Regex(r"(?=[aeiou])"), "isolated"),
    **{f"pattern_{k}": lambda p=p: pre_tokenizers.Split(Regex(p), "isolated") for k, p in {
        "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                 r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                 r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
                  r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
                  r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen35": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
                  r"\s*[\r\n]+|\s+(?!\S)|\s+",
        "kimi": r"[\p{Han}]+|"
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "letters": r"\s?\p{L}+", "signs": r"\s?\p{P}+", "end": r"\s+$", "numbers": r"\p{N}+",
        "cjk": "[一-龥ࠀ-一가-퟿]+", "newline": "[\r\n]", "other": r"\d{2}|[[:punct:]]+|\p{Han}",
    }.items()},
}
DECODERS = {
    "byte_level": lambda: decoders.ByteLevel(),
    "metaspace": lambda: decoders.Metaspace(),
    "wordpiece": lambda: decoders.WordPiece(),
    "bpe": lambda: decoders.BPEDecoder(),
    "ctc": lambda: decoders.CTC(pad_token="a", word_delimiter_token="e"),
    "sequence": lambda: decoders.Sequence([decoders.Replace("e", "E"), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip("t", 1, 0)]),
    "strip": lambda: decoders.Strip("e", 2, 0),
    "regex": lambda: decoders.Replace(Regex("[aeiou]+"), "*"),
}


def trained(model, trainer, split=None, normalizer=None, decoder=None):
    oracle = tokenizers.Tokenizer(model)
    if normalizer is not None:
        oracle.normalizer = normalizer
    if split is not None:
        oracle.pre_tokenizer = split
    if decoder is not None:
        oracle.decoder = decoder
    oracle.train_from_iterator(SAMPLES, trainer)
    return oracle


def with_exact_scores(oracle):
    """A unigram model whose scores are multiples of 2^-10, so that sums of them are exact. With the trainer's scores two
    ways of equal tokens in another order differ by rounding alone, and which one wins depends on where the sum began: we
    cut long texts where no token reaches over. Such ties are not compared."""
    model = json.loads(oracle.to_str())
    for entry in model["model"]["vocab"]:
        entry[1] = round(entry[1] * 1024) / 1024
    return tokenizers.Tokenizer.from_str(json.dumps(model))


def bpe(size=600, alphabet=(), **options):
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False,
                                  initial_alphabet=list(alphabet),
                                  **({"continuing_subword_prefix": "@@"} if options.get("continuing_subword_prefix") else {}),
                                  **({"end_of_word_suffix": "</w>"} if options.get("end_of_word_suffix") else {}))
    return models.BPE(**options), trainer


def made_tokenizers():
    """(name, tokenizer): every part of the format at least once."""
    bytes_alphabet = pre_tokenizers.ByteLevel.alphabet()
    for name, make in NORMALIZERS.items():
        split = None if name in ("replace", "nmt") else pre_tokenizers.WhitespaceSplit()
        yield f"normalizer {name}", trained(*bpe(unk_token="<unk>", fuse_unk=name == "bert"), split, make())
    for name, make in SPLITS.items():
        alphabet = bytes_alphabet if name.startswith("byte_level") else ()
        yield f"pre-tokenizer {name}", trained(*bpe(alphabet=alphabet, unk_token="<unk>"), make())
    for name, make in DECODERS.items():
        split = pre_tokenizers.ByteLevel() if name == "byte_level" else pre_tokenizers.Metaspace()
        yield f"decoder {name}", trained(*bpe(), split, decoder=make())
    words = pre_tokenizers.Whitespace
    yield "bpe dropped", trained(*bpe(300), words())
    yield "bpe fused", trained(*bpe(300, unk_token="<unk>", fuse_unk=True))
    yield "bpe prefix", trained(*bpe(unk_token="<unk>", continuing_subword_prefix="@@"), words())
    yield "bpe suffix", trained(*bpe(unk_token="<unk>", end_of_word_suffix="</w>"), words(), decoder=decoders.BPEDecoder())
    yield "bpe whole words", trained(*bpe(ignore_merges=True), words())
    fallback = trained(*bpe(300, unk_token="<unk>", byte_fallback=True))
    fallback.add_tokens([f"<0x{byte:02X}>" for byte in range(256)])
    yield "bpe fallback, bytes only added", fallback
    unigram = dict(vocab_size=500, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False)
    yield "unigram", with_exact_scores(trained(models.Unigram(), trainers.UnigramTrainer(**unigram),
                                               pre_tokenizers.Metaspace(), decoder=decoders.Metaspace()))
    yield "unigram whole", with_exact_scores(trained(models.Unigram(), trainers.UnigramTrainer(**unigram)))
    pieces = [("<unk>", 0.0), *((f"<0x{byte:02X}>", 0.0) for byte in range(256)), ("the", -1.0), (" ", -2.0),
              ("th", -1.5), ("e", -1.6), ("q", -3.0), ("ui", -2.5)]
    yield "unigram bytes", tokenizers.Tokenizer(models.Unigram(pieces, 0, True))
    pieces = [("<unk>", 0.0), ("a", -1.0), ("▁", -2.0), ("fox", -2.0)]
    yield "unigram tiny", tokenizers.Tokenizer(models.Unigram(pieces, 0, False))
    special = ["[UNK]", "[CLS]", "[SEP]"]
    wordpiece = trained(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20),
                        trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False),
                        pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer(), decoders.WordPiece())
    wordpiece.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    yield "wordpiece", wordpiece
    level = trained(models.WordLevel(unk_token="[UNK]"),
                    trainers.WordLevelTrainer(special_tokens=special, show_progress=False), words())
    level.post_processor = processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 1))
    yield "wordlevel", level
    added = trained(*bpe(), words(), normalizers.Lowercase())
    added.add_tokens([AddedToken("fox", single_word=True), AddedToken("lazy", lstrip=True, normalized=False),
                      AddedToken("Dog", rstrip=True), AddedToken("de", single_word=True, normalized=False),
                      AddedToken("\n", normalized=False), AddedToken(" x", lstrip=True), AddedToken("ov")])
    added.add_special_tokens([AddedToken("<|eot_id|>", lstrip=True, rstrip=True), "<|im_start|>", "<|im_"])
    added.post_processor = processors.Sequence(
        [processors.ByteLevel(), processors.TemplateProcessing(single="<s> $A </s> </s>", special_tokens=[("<s>", 1), ("</s>", 2)])])
    yield "added tokens", added


class Answers:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, item_bytes):
        (count,) = struct.unpack_from("<I", self.data, self.at)
        begin = self.at + 4
        self.at = begin + count * item_bytes
        return self.data[begin:self.at]

    def ids(self):
        raw = self.take(4)
        return list(struct.unpack(f"<{len(raw) // 4}i", raw))


def show(name, what, text, expected, found):
    at = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
    print(f"{name}: {what} differ at {at} of {text[:60]!r}... ({len(text)} bytes): "
          f"expected {expected[max(0, at - 2):at + 6]}, found {found[max(0, at - 2):at + 6]}")


def compare(name, path, probe, texts):
    oracle = tokenizers.Tokenizer.from_file(str(path))
    oracle.no_truncation()
    oracle.no_padding()
    stdin = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    run = subprocess.run([probe, str(path)], input=stdin, capture_output=True, check=False)
    if run.returncode != 0:
        print(f"{name}: the probe failed: {run.stderr.decode()}")
        return 1
    answers, n_wrong = Answers(run.stdout), 0
    for text in texts:
        string = text.decode("utf-8", errors="replace")
        for special in (True, False):
            expected = oracle.encode(string, add_special_tokens=special).ids
            found = answers.ids()
            shown, hidden = (answers.take(1).decode("utf-8", errors="replace") for _ in range(2))
            wrong = [("ids", expected, found)] if expected != found else []
            for what, skip, got in (("decoded", False, shown), ("decoded without special", True, hidden)):
                want = oracle.decode(found, skip_special_tokens=skip)
                wrong += [(what, want, got)] if want != got else []
            for what, want, got in wrong[:max(0, 5 - n_wrong)]:
                show(name, what, text, want, got)
            n_wrong += len(wrong)
    print(f"{name}: {len(texts)} texts, {sum(map(len, texts))} bytes, {n_wrong} differences")
    return n_wrong


def main():
    probe, corpus, names = sys.argv[1], pathlib.Path(sys.argv[2]) / "tokenizers", sys.argv[3:]
    n_wrong = 0
    texts = texts_of(random.Random(1), 40_000)
    for name, oracle in made_tokenizers():
        if not names or any(name.startswith(n) for n in names):
            with tempfile.NamedTemporaryFile(suffix=".json") as file:
                oracle.save(file.name)
                n_wrong += compare(name, pathlib.Path(file.name), probe, texts)
    texts = texts_of(random.Random(2), 2_000_000)
    for folder in sorted(corpus.iterdir()) if corpus.is_dir() else ():
        if names and folder.name not in names:
            continue
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(lzma.open(folder / "tokenizer.json.xz").read())
            file.flush()
            n_wrong += compare(folder.name, pathlib.Path(file.name), probe, texts)
    sys.exit(1 if n_wrong else 0)


if __name__ == "__main__":
    main()
