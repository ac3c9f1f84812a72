"""Shared libraries that were built with glibc 2.38, for the older glibc of this machine.

All they want of 2.38 is strtol() and its relatives under the names of C23 (__isoc23_strtol), which a copy asks for by their old names.
"""

import pathlib
import struct

NEW_NAMES = b"__isoc23_"
WANTED = b"GLIBC_2.38"
WEAK, GLOBAL = 2, 1  # VER_FLG_WEAK, VER_NDX_GLOBAL


def for_older_glibc(library):
    """The bytes of the 64-bit ELF file, with those symbols renamed and the version they came with made optional."""
    elf = bytearray(library)
    (at,), (size, n) = struct.unpack_from("<Q", elf, 0x28), struct.unpack_from("<HH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, at + i * size) for i in range(n)]
    found = {kind: (offset, length) for _, kind, _, _, offset, length, *_ in sections}
    symbols, versions, needs = (found[kind] for kind in (11, 0x6FFFFFFF, 0x6FFFFFFE))  # dynsym, versym, verneed
    names = sections[next(each[6] for each in sections if each[1] == 11)][4]  # dynstr

    def name(offset):
        return bytes(elf[names + offset : elf.index(0, names + offset)])

    for i in range(symbols[1] // 24):
        offset = struct.unpack_from("<I", elf, symbols[0] + 24 * i)[0]
        if name(offset).startswith(NEW_NAMES):
            struct.pack_into("<I", elf, symbols[0] + 24 * i, offset + len(NEW_NAMES))
            struct.pack_into("<H", elf, versions[0] + 2 * i, GLOBAL)
    need, step = needs[0], 1
    while step:
        _, n_aux, _, first, step = struct.unpack_from("<HHIII", elf, need)
        aux = need + first
        for _ in range(n_aux):
            _, flags, _, version, more = struct.unpack_from("<IHHII", elf, aux)
            if name(version) == WANTED:
                struct.pack_into("<H", elf, aux + 4, flags | WEAK)
            aux += more
        need += step
    return bytes(elf)
