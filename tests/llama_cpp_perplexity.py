#!/usr/bin/env python3
"""Perplexity of a GGUF file on a text as llama.cpp computes it: where the expected values of real_models.py come from.

    pip install xllamacpp numpy
    tests/llama_cpp_perplexity.py MODEL.gguf TEXT [N_CTX=256]

Windows of N_CTX tokens, the first one replaced by BOS where the model wants one; the second half of each window counts.
Uses the C interface of the library inside the xllamacpp package. Not run by the tests.
"""

import ctypes as c
import pathlib
import sys

import numpy as np
import xllamacpp


class Params(c.Structure):
    """Room for any version of the parameter structs; n_ctx, n_batch and n_ubatch come first in the context's."""
    _fields_ = [("words", c.c_uint32 * 128)]


class Batch(c.Structure):
    _fields_ = [("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p),
                ("pos", c.POINTER(c.c_int32)), ("n_seq_id", c.POINTER(c.c_int32)),
                ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8))]


def library():
    (path,) = pathlib.Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")
    lib = c.CDLL(str(path))
    signatures = {
        "llama_model_default_params": (Params, []),
        "llama_context_default_params": (Params, []),
        "llama_model_load_from_file": (c.c_void_p, [c.c_char_p, Params]),
        "llama_init_from_model": (c.c_void_p, [c.c_void_p, Params]),
        "llama_model_get_vocab": (c.c_void_p, [c.c_void_p]),
        "llama_vocab_n_tokens": (c.c_int32, [c.c_void_p]),
        "llama_vocab_get_add_bos": (c.c_bool, [c.c_void_p]),
        "llama_vocab_bos": (c.c_int32, [c.c_void_p]),
        "llama_tokenize": (c.c_int32, [c.c_void_p, c.c_char_p, c.c_int32, c.POINTER(c.c_int32), c.c_int32, c.c_bool, c.c_bool]),
        "llama_batch_init": (Batch, [c.c_int32] * 3),
        "llama_decode": (c.c_int32, [c.c_void_p, Batch]),
        "llama_get_logits": (c.POINTER(c.c_float), [c.c_void_p]),
        "llama_get_memory": (c.c_void_p, [c.c_void_p]),
        "llama_memory_clear": (None, [c.c_void_p, c.c_bool]),
    }
    for name, (result, arguments) in signatures.items():
        getattr(lib, name).restype, getattr(lib, name).argtypes = result, arguments
    lib.llama_backend_init()
    return lib


def window_logits(lib, context, tokens, n_vocab):
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    if lib.llama_decode(context, batch) != 0:
        sys.exit("llama_decode failed")
    return np.ctypeslib.as_array(lib.llama_get_logits(context), (len(tokens), n_vocab)).astype(np.float64)


def main():
    path, text, n_ctx = sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes(), int((sys.argv + ["256"])[3])
    lib = library()
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.words[0] = params.words[1] = params.words[2] = n_ctx
    context = lib.llama_init_from_model(model, params)
    vocab = lib.llama_model_get_vocab(model)
    buffer = (c.c_int32 * (len(text) + 8))()
    ids = list(buffer[:lib.llama_tokenize(vocab, text, len(text), buffer, len(buffer), True, False)])
    nll = []
    for begin in range(0, len(ids) - n_ctx + 1, n_ctx):
        tokens = ids[begin:begin + n_ctx]
        if lib.llama_vocab_get_add_bos(vocab):
            tokens[0] = lib.llama_vocab_bos(vocab)
        logits = window_logits(lib, context, tokens, lib.llama_vocab_n_tokens(vocab))
        for i in range(n_ctx // 2, n_ctx - 1):
            shifted = logits[i] - logits[i].max()
            nll.append(np.log(np.exp(shifted).sum()) - shifted[tokens[i + 1]])
    print(f"perplexity {np.exp(np.mean(nll)):.4f} over {len(nll)} tokens")


main()
