#!/usr/bin/env python3
"""Writes quant_vectors.inl: what ggml's quantisers make of the input that quant_test.cpp generates.

    pip install xllamacpp numpy
    src/quant/quant_vectors.py > src/quant/quant_vectors.inl

Calls ggml_quantize_chunk and the dequantisers of the library inside the xllamacpp package (made with 2026.10.11549).
"""

import ctypes as c
import pathlib

import numpy as np
import xllamacpp

N_ROWS, N_COLS = 16, 1024
TYPES = [("q4_0", 2, 18, 32), ("q4_1", 3, 20, 32), ("q5_0", 6, 22, 32), ("q5_1", 7, 24, 32), ("q8_0", 8, 34, 32),
         ("q2_k", 10, 84, 256), ("q3_k", 11, 110, 256), ("q4_k", 12, 144, 256), ("q5_k", 13, 176, 256),
         ("q6_k", 14, 210, 256), ("iq4_nl", 20, 18, 32), ("iq4_xs", 23, 136, 256), ("mxfp4", 39, 17, 32)]


def numbers(n, seed):
    """n 16-bit numbers of the generator in quant_test.cpp."""
    state, out = np.uint64(seed), np.empty(n, np.int64)
    with np.errstate(over="ignore"):
        for i in range(n):
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
            out[i] = int(state >> np.uint64(48))
    return out


def inputs():
    x = numbers(4 * N_ROWS * N_COLS, 1).reshape(-1, 4).sum(axis=1).astype(np.float32) - np.float32(131070)
    x = x.reshape(N_ROWS, N_COLS) * np.float32(2.0**-15)
    for row in range(N_ROWS):
        x[row] *= np.float32(2.0**(row % 7 - 3))
    x[1, :256] = 0
    x[2, :256] = 0.75
    x[3, 17] = 100
    x[3, 256:512] *= np.float32(2.0**-40)
    x[4] = np.abs(x[4])
    importance = (numbers(N_COLS, 2) + 1).astype(np.float32) * np.float32(2.0**-12)
    importance[640:704] = 0
    return x, importance


def fnv1a(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001b3) & 0xffffffffffffffff
    return value


def main():
    (path,) = pathlib.Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")
    lib = c.CDLL(str(path))
    lib.ggml_quantize_chunk.restype = c.c_size_t
    lib.ggml_quantize_chunk.argtypes = [c.c_int, c.c_void_p, c.c_void_p, c.c_int64, c.c_int64, c.c_int64, c.c_void_p]
    x, importance = inputs()
    print("// Made by quant_vectors.py: hashes (FNV-1a) of the blocks, and of what they decode to.")
    print("// {dtype, hash of the blocks, hash of the blocks made with importance, hash of the first ones decoded}")
    for name, ggml_type, block_bytes, block_elems in TYPES:
        blocks = np.zeros(N_ROWS * N_COLS // block_elems * block_bytes, np.uint8)
        hashes = []
        for weights in (None, importance.ctypes.data):
            lib.ggml_quantize_chunk(ggml_type, x.ctypes.data, blocks.ctypes.data, 0, N_ROWS, N_COLS, weights)
            hashes.append(fnv1a(blocks.tobytes()))
            if weights is None:
                decoded = np.zeros(x.size, np.float32)
                dequantize = getattr(lib, "dequantize_row_" + name.replace("_k", "_K"))
                dequantize.argtypes = [c.c_void_p, c.c_void_p, c.c_int64]
                dequantize(blocks.ctypes.data, decoded.ctypes.data, x.size)
                hashes.append(fnv1a(decoded.tobytes()))
        print(f"{{Dtype::{name}, 0x{hashes[0]:016x}, 0x{hashes[2]:016x}, 0x{hashes[1]:016x}}},")


main()
