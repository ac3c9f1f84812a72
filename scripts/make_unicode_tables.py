#!/usr/bin/env python3
"""Writes src/text/unicode_tables.cpp.

Unicode 16.0, because that is what the regular expressions of Hugging Face `tokenizers` 0.23 know (Oniguruma
6.9.10; every general category was compared, code point by code point). Needs from PyPI:
unicodedata2==16.0.0 (categories, cases, normalisation) and fonttools==4.55.3 (scripts).
"""
import pathlib

import unicodedata2 as ucd
from fontTools import unicodedata as scripts

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn".split()
WHITE_SPACE = {*range(0x9, 0xE), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F,
               0x205F, 0x3000}
BLOCK_BITS = 7  # the smallest tables
COUNT = 0x110000


def nfc_unsafe():
    """Code points that NFC may change, reorder or join to the one before them."""
    seconds = {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}  # Hangul vowels and finals
    for code in range(COUNT):
        parts = ucd.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<") and ucd.normalize("NFC", chr(code)) == chr(code):
            seconds.add(int(parts[1], 16))
    return {c for c in range(COUNT)
            if c in seconds or ucd.combining(chr(c)) or ucd.normalize("NFC", chr(c)) != chr(c)}


def properties():
    unsafe = nfc_unsafe()
    for code in range(COUNT):
        value = CATEGORIES.index(ucd.category(chr(code)))
        value |= 0x20 if code in WHITE_SPACE else 0
        value |= 0x40 if scripts.script(chr(code)) == "Hani" else 0
        value |= 0x80 if code in unsafe else 0
        yield value


def lower_runs():
    """(first, last, step, delta): code points first, first+step, ..., last become themselves + delta."""
    runs = []
    for code in range(COUNT):
        lower = chr(code).lower() if code < 0x80 else ucd_lower(code)
        if len(lower) != 1 or lower == chr(code):
            continue
        delta = ord(lower) - code
        if runs and runs[-1][3] == delta:
            first, last, step, _ = runs[-1]
            if code - last == step or (first == last and code - last <= 2):
                runs[-1] = (first, code, code - last, delta)
                continue
        runs.append((code, code, 1, delta))
    return runs


def ucd_lower(code):
    # Python's own lower() knows an older Unicode; the pairs that are newer are given here.
    newer = {0x1C89: 0x1C8A, 0xA7CB: 0x264, 0xA7CC: 0xA7CD, 0xA7DA: 0xA7DB, 0xA7DC: 0x19B,
             0xA7C0: 0xA7C1, 0xA7D0: 0xA7D1, 0xA7D6: 0xA7D7, 0xA7D8: 0xA7D9, 0x2C2F: 0x2C5F}
    newer |= {code: code + 0x20 for code in range(0x10D50, 0x10D66)}
    newer |= {c: c + 39 for c in [*range(0x10570, 0x1057B), *range(0x1057C, 0x1058B), *range(0x1058C, 0x10593),
                                  0x10594, 0x10595]}
    return chr(newer[code]) if code in newer else chr(code).lower()


def rows(values):
    lines, line = [], "   "
    for value in values:
        text = f" {value},"
        if len(line) + len(text) > 110:
            lines.append(line)
            line = "   "
        line += text
    return "\n".join(lines + [line])


def main():
    values = list(properties())
    size = 1 << BLOCK_BITS
    blocks, index = {}, []
    for start in range(0, COUNT, size):
        index.append(blocks.setdefault(tuple(values[start:start + size]), len(blocks)))
    flat = [value for block in blocks for value in block]
    runs = lower_runs()
    out = pathlib.Path(__file__).parent.parent / "src/text/unicode_tables.cpp"
    out.write_text(f"""// Written by scripts/make_unicode_tables.py from Unicode {ucd.unidata_version}. Do not edit.
// clang-format off
#include "text/unicode_tables.h"

namespace millrace {{

const uint16_t kUnicodeBlocks[{len(index)}] = {{
{rows(index)}
}};

const uint8_t kUnicodeProperties[{len(flat)}] = {{
{rows(flat)}
}};

const LowerRun kLowerRuns[] = {{
{rows("{%d, %d, %d, %d}" % run for run in runs)}
}};
const int kNLowerRuns = {len(runs)};

}}  // namespace millrace
""")


main()
