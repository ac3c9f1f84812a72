#!/usr/bin/env python3
"""Compares tokenizers with the `tokenizers` package from PyPI: ids with and without special tokens, and decoding.

tokenizers_oracle.py PROBE CORPUS [NAME...]: the probe program, the folder with tokenizers/NAME/tokenizer.json.xz.
Exit status 77 (skipped) where the package or the corpus is missing.
"""
import lzma
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

try:
    import tokenizers
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
    if not corpus.is_dir():
        print(f"skipped: needs the published tokenizers in {corpus}")
        sys.exit(77)
    texts = texts_of(random.Random(2), 2_000_000)
    n_wrong = 0
    for folder in sorted(corpus.iterdir()):
        if names and folder.name not in names:
            continue
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(lzma.open(folder / "tokenizer.json.xz").read())
            file.flush()
            n_wrong += compare(folder.name, pathlib.Path(file.name), probe, texts)
    sys.exit(1 if n_wrong else 0)


if __name__ == "__main__":
    main()
