"""llama.cpp's library as an oracle: out of the package llama-cpp-py-sync, through the bindings that come with it.

Run as a program it answers lines of JSON, because llama.cpp may abort: {"file": GGUF, "out": NPZ, "tokens": {name: ids},
"gives": "logits" or "rows" (the last hidden states), "yarn_beta_fast": number or null}. It writes an array for each name, and
says "done" or why not.
"""

import json
import pathlib
import sys
import tempfile

import llama_cpp_py_sync
import numpy as np
from llama_cpp_py_sync._cffi_bindings import ffi, get_lib

from older_glibc import for_older_glibc

F32, COUNT = 0, 1 << 30
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12,
              "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "Q2_K_S": 21, "IQ4_NL": 25,
              "IQ4_XS": 30, "BF16": 32, "MXFP4_MOE": 38}


class Refused(Exception):
    """llama.cpp cannot do that; why, in its words."""


def _load():
    try:
        return get_lib()
    except RuntimeError as error:
        if "GLIBC" not in str(error):
            raise
    with tempfile.TemporaryDirectory() as scratch:  # what is mapped stays
        for path in pathlib.Path(llama_cpp_py_sync.__file__).parent.glob("*.so*"):
            (pathlib.Path(scratch) / path.name).write_bytes(for_older_glibc(path.read_bytes()))
        return ffi.dlopen(str(pathlib.Path(scratch) / "libllama.so"))


_lib = _load()
_said = []


@ffi.callback("void(enum ggml_log_level, const char *, void *)")
def _log(level, text, _):
    if level in (3, 4):  # warnings and errors
        _said.append(ffi.string(text).decode(errors="replace").strip())


_lib.llama_log_set(_log, ffi.NULL)
_lib.llama_backend_init()


def _refuse():
    sentence = next((line for line in _said if "error" in line or "failed" in line or "unknown" in line), " ".join(_said))
    raise Refused(sentence)


def quantize(source, destination, file_type, n_threads=0, importance=None, pure=False):
    """`importance`: {weight: float32 values}."""
    _said.clear()
    params = _lib.llama_model_quantize_default_params()
    params.nthread, params.ftype, params.pure, params.allow_requantize = n_threads, FILE_TYPES[file_type], pure, True
    kept = []
    if importance:
        entries = ffi.new("struct llama_model_imatrix_data[]", len(importance) + 1)
        for i, (name, values) in enumerate(importance.items()):
            values = np.ascontiguousarray(values, np.float32).ravel()
            kept += [ffi.new("char[]", name.encode()), values]
            entries[i].name, entries[i].size = kept[-2], values.size
            entries[i].data = ffi.cast("const float *", values.ctypes.data)
        params.imatrix = entries
    if _lib.llama_model_quantize(str(source).encode(), str(destination).encode(), ffi.addressof(params)) != 0:
        _refuse()


def output(path, tokens, gives="logits", n_threads=2, yarn_beta_fast=None):
    """float32 (n_tokens, width), with keys and values in float32. Most architectures ignore the file's yarn_beta_fast."""
    _said.clear()
    model = _lib.llama_model_load_from_file(str(path).encode(), _lib.llama_model_default_params())
    if model == ffi.NULL:
        _refuse()
    params = _lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max(64, len(tokens))
    params.n_threads = params.n_threads_batch = n_threads
    params.type_k = params.type_v = F32
    params.flash_attn_type = 0
    params.n_outputs_max = 0
    params.embeddings, params.pooling_type = gives == "rows", 0
    if yarn_beta_fast is not None:
        params.yarn_beta_fast = yarn_beta_fast
    context = _lib.llama_init_from_model(model, params)
    if context == ffi.NULL:
        _lib.llama_model_free(model)
        _refuse()
    if gives == "rows":
        width, get = _lib.llama_model_n_embd(model), _lib.llama_get_embeddings
    else:
        width, get = _lib.llama_vocab_n_tokens(_lib.llama_model_get_vocab(model)), _lib.llama_get_logits
    batch = _lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    status = _lib.llama_decode(context, batch)
    found = None
    if status == 0:
        found = np.frombuffer(ffi.buffer(get(context), 4 * len(tokens) * width), np.float32).copy()
    _lib.llama_batch_free(batch)
    _lib.llama_free(context)
    _lib.llama_model_free(model)
    if found is None:
        _refuse()
    return found.reshape(len(tokens), width)


def answer(asked):
    try:
        np.savez(asked["out"], **{name: output(asked["file"], tokens, asked["gives"], yarn_beta_fast=asked["yarn_beta_fast"])
                                  for name, tokens in asked["tokens"].items()})
    except Refused as refusal:
        return f"refuses: {refusal}"
    return "done"


if __name__ == "__main__":
    for line in sys.stdin:
        print(answer(json.loads(line)), flush=True)
