#!/usr/bin/env python3
"""Quantised Hugging Face folders, from outside: written here as the packages write them, run without converting.

Each weight is quantised twice over: packed, and as the float32 that its codes and scales stand for. The logits of the two
folders must agree. Layouts: AutoAWQ, GPTQModel, compressed-tensors, ModelOpt, transformers' fp8.
"""

import copy
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy as np
except ImportError:
    print("numpy is not installed: pip install -r tests/requirements.txt")
    sys.exit(77)

PROGRAM = sys.argv.pop(1)
HIDDEN, HEADS, KV_HEADS, FF, LAYERS, VOCAB, EXPERTS = 128, 4, 2, 192, 2, 64, 3
TOKENS = ",".join(str(7 * i % VOCAB) for i in range(20))
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # the output that each nibble of a word holds


def millrace(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def e4m3_values():
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, (codes & 7).astype(np.float64)
    magnitude = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0**(exponent - 7.0))
    return np.where(codes & 127 == 127, np.nan, np.where(codes < 128, magnitude, -magnitude)).astype(np.float32)


E4M3 = e4m3_values()
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def nearest(values, x):
    """Codes of the table whose values are nearest to x."""
    order = np.argsort(np.nan_to_num(values, nan=np.inf), kind="stable")
    order = order[: np.isfinite(values).sum()]
    middles = (values[order][1:].astype(np.float64) + values[order][:-1]) / 2
    return order[np.searchsorted(middles, x)]


def bf16(x):
    """(bits, values) of x rounded to bfloat16."""
    bits = ((np.ascontiguousarray(x, np.float32).view(np.uint32) + np.uint32(0x8000)) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


def pack_stream(codes, n_bits):
    """Unsigned codes (rows, n) as 32-bit words along the rows, lowest bits first."""
    bits = (codes[..., None].astype(np.uint8) >> np.arange(n_bits, dtype=np.uint8) & 1).reshape(len(codes), -1)
    bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 32)))
    return np.packbits(bits, axis=1, bitorder="little").view(np.int32)


# --- schemes: weight (out, in) -> ({ending: (dtype, array)}, the float32 weight that it stands for) -------------------


def fp8_block(weight):
    if weight.ndim == 3:  # experts: a scale for each block of each
        parts = [fp8_block(matrix) for matrix in weight]
        stacked = {ending: (dtype, np.stack([tensors[ending][1] for tensors, _ in parts])) for ending, (dtype, _) in parts[0][0].items()}
        return stacked, np.stack([values for _, values in parts])
    scale = np.zeros([-(-n // 128) for n in weight.shape], np.float32)
    codes, values = np.zeros(weight.shape, np.uint8), np.zeros_like(weight)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            at = np.s_[128 * i : 128 * i + 128, 128 * j : 128 * j + 128]
            scale[i, j] = np.abs(weight[at]).max() / 448
            codes[at] = nearest(E4M3, weight[at] / scale[i, j])
            values[at] = E4M3[codes[at]] * scale[i, j]
    return {".weight": ("F8_E4M3", codes), ".weight_scale_inv": ("F32", scale)}, values


def fp8_scaled(weight, scale, dtype):
    bits, scale = bf16(scale) if dtype == "BF16" else (scale, scale)
    codes = nearest(E4M3, weight / scale).astype(np.uint8)
    return {".weight": ("F8_E4M3", codes), ".weight_scale": (dtype, bits)}, E4M3[codes] * scale


def fp8_channel(weight):
    return fp8_scaled(weight, np.abs(weight).max(axis=1, keepdims=True) * np.float32(1.1 / 448), "BF16")


def fp8_matrix(weight):
    tensors, values = fp8_scaled(weight, np.full(1, np.abs(weight).max() / 448, np.float32), "F32")
    return {**tensors, ".input_scale": ("F32", np.ones(1, np.float32))}, values


def integers(weight, n_bits, group, symmetric, scale_type, groups=None):
    """(codes, zeros, bits of the scales, scales, values); zeros and scales are (out, groups)."""
    n_out, n_in = weight.shape
    groups = np.arange(n_in) // group if groups is None else groups
    n_groups, top = n_in // group, 2**n_bits - 1
    scale, zero = np.zeros((n_out, n_groups), np.float32), np.zeros((n_out, n_groups), np.int64)
    for g in range(n_groups):
        part = weight[:, groups == g]
        low, high = np.minimum(part.min(axis=1), 0), np.maximum(part.max(axis=1), 0)
        if symmetric:
            scale[:, g], zero[:, g] = np.maximum(-low, high) / (top / 2), 2 ** (n_bits - 1)
        else:
            scale[:, g] = (high - low) / top
            zero[:, g] = np.clip(np.round(-low / scale[:, g]), 0, top)
    if scale_type == "BF16":
        bits, scale = bf16(scale)
    else:
        bits = scale.astype({"F16": np.float16, "F32": np.float32}[scale_type])
        scale = bits.astype(np.float32)
    codes = np.clip(np.round(weight / scale[:, groups]) + zero[:, groups], 0, top).astype(np.int64)
    return codes, zero, bits, (codes - zero[:, groups]).astype(np.float32) * scale[:, groups]


def awq(weight):
    codes, zeros, scales, values = integers(weight, 4, 64, False, "F16")

    def pack(matrix):  # (rows, out): eight outputs a word
        words = matrix.reshape(matrix.shape[0], -1, 8)[:, :, AWQ_ORDER].astype(np.uint32)
        return (words << np.arange(0, 32, 4, dtype=np.uint32)).sum(axis=2, dtype=np.uint32).view(np.int32)

    return {".qweight": ("I32", pack(codes.T)), ".qzeros": ("I32", pack(zeros.T)), ".scales": ("F16", scales.T)}, values


def gptq(weight, n_bits=4, version=1, symmetric=False, act_order=False, group=64):
    n_in = weight.shape[1]
    groups = np.arange(n_in) // group
    if act_order:
        groups = np.random.default_rng(n_in).permutation(groups)
    codes, zeros, scales, values = integers(weight, n_bits, group, symmetric, "F16", groups)
    if act_order:
        values = values.astype(np.float16).astype(np.float32)  # as the packages dequantise
    stored = zeros - 1 & 2**n_bits - 1 if version == 1 else zeros
    return {".qweight": ("I32", pack_stream(codes, n_bits).T), ".qzeros": ("I32", pack_stream(stored.T, n_bits)),
            ".scales": ("F16", scales.T), ".g_idx": ("I32", groups.astype(np.int32))}, values


def pack_quantized(weight, n_bits=4, symmetric=True, scale_type="BF16", group=32):
    codes, zeros, scales, values = integers(weight, n_bits, group, symmetric, scale_type)
    tensors = {".weight_packed": ("I32", pack_stream(codes, n_bits)), ".weight_scale": (scale_type, scales),
               ".weight_shape": ("I64", np.array(weight.shape, np.int64))}
    if not symmetric:
        tensors[".weight_zero_point"] = ("I32", pack_stream(zeros.T, n_bits).T)
    return tensors, values


def int8(weight, symmetric=True):
    codes, zeros, scales, values = integers(weight, 8, weight.shape[1], symmetric, "F32")
    tensors = {".weight": ("I8", (codes - 128).astype(np.int8)), ".weight_scale": ("F32", scales)}
    if not symmetric:
        tensors[".weight_zero_point"] = ("I8", (zeros - 128).astype(np.int8))
    return tensors, values


def e2m1(weight, scale):
    codes = nearest(E2M1, weight / scale).astype(np.uint8)
    return codes[:, 0::2] | codes[:, 1::2] << 4, E2M1[codes] * scale


def mxfp4(weight):
    amax = np.abs(weight.reshape(weight.shape[0], -1, 32)).max(axis=2)
    exponent = np.floor(np.log2(amax)) - 2
    packed, values = e2m1(weight, np.repeat(2.0**exponent, 32, axis=1).astype(np.float32))
    return {".weight_packed": ("U8", packed), ".weight_scale": ("U8", (exponent + 127).astype(np.uint8))}, values


def mxfp4_bytes(weight):
    tensors, values = mxfp4(weight)
    return {".weight": ("I8", tensors[".weight_packed"][1]), ".scale": ("F8_E8M0", tensors[".weight_scale"][1])}, values


def fp8_powers(weight):
    """Blocks under powers of two."""
    scale = np.zeros([-(-n // 128) for n in weight.shape], np.uint8)
    whole = np.zeros_like(weight)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            at = np.s_[128 * i : 128 * i + 128, 128 * j : 128 * j + 128]
            exponent = np.ceil(np.log2(np.abs(weight[at]).max() / 448))
            scale[i, j], whole[at] = exponent + 127, np.float32(2.0**exponent)
    codes = nearest(E4M3, weight / whole).astype(np.uint8)
    return {".weight": ("F8_E4M3", codes), ".scale": ("F8_E8M0", scale)}, E4M3[codes] * whole


def nvfp4(weight, packed_name, global_name, divides):
    amax = np.abs(weight.reshape(weight.shape[0], -1, 16)).max(axis=2)
    whole = np.float32(amax.max() / (448 * 6))
    codes = nearest(E4M3, amax / 6 / whole).astype(np.uint8)
    stored = np.full(1, 1 / whole if divides else whole, np.float32)
    factor = np.float32(1) / stored[0] if divides else stored[0]
    packed, values = e2m1(weight, np.repeat(E4M3[codes] * factor, 16, axis=1))
    return {packed_name: ("U8", packed), ".weight_scale": ("F8_E4M3", codes), global_name: ("F32", stored)}, values


def compressed(form, n_bits=4, kind="int"):
    return {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": None,
                                          "weights": {"num_bits": n_bits, "type": kind, "symmetric": True}}}}


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": False, "sym": True, "checkpoint_format": "gptq"}

# name: (scheme, quantization_config, what the matrices become, whether the products are exact on the CPU too)
SCHEMES = {
    "fp8 blocks": (fp8_block, {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                               "weight_block_size": [128, 128]}, "F8_E4M3", True),
    "fp8 channels": (fp8_channel, compressed("float-quantized", 8, "float"), "F8_E4M3", True),
    "fp8 matrices": (fp8_matrix, {"quant_method": "modelopt", "quant_algo": "FP8"}, "F8_E4M3", True),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"}, "Q4_Z", False),
    "gptq": (gptq, GPTQ, "Q4_Z", False),
    "gptq symmetric": (lambda w: gptq(w, symmetric=True), GPTQ, "Q4_0", False),
    "gptq v2": (lambda w: gptq(w, version=2), {**GPTQ, "checkpoint_format": "gptq_v2"}, "Q4_Z", False),
    "gptq 3 bits": (lambda w: gptq(w, n_bits=3), {**GPTQ, "bits": 3}, "Q4_Z", False),
    "gptq 2 bits": (lambda w: gptq(w, n_bits=2, symmetric=True), {**GPTQ, "bits": 2}, "Q4_0", False),
    "gptq 8 bits": (lambda w: gptq(w, n_bits=8), {**GPTQ, "bits": 8}, "Q8_Z", False),
    "gptq 8 bits symmetric": (lambda w: gptq(w, n_bits=8, symmetric=True), {**GPTQ, "bits": 8}, "Q8_0", False),
    "gptq act order": (lambda w: gptq(w, act_order=True), {**GPTQ, "desc_act": True}, "F16", True),
    "int4": (pack_quantized, compressed("pack-quantized"), "Q4_0", False),
    "int4 zero points": (lambda w: pack_quantized(w, symmetric=False), compressed("pack-quantized"), "Q4_Z", False),
    "int4 float32 scales": (lambda w: pack_quantized(w, scale_type="F32"), compressed("pack-quantized"), "Q8_Z", False),
    "int8 packed": (lambda w: pack_quantized(w, n_bits=8), compressed("pack-quantized", 8), "Q8_0", False),
    "int8": (int8, compressed("int-quantized", 8), "Q8_Z", False),
    "int8 zero points": (lambda w: int8(w, symmetric=False), compressed("int-quantized", 8), "Q8_Z", False),
    "mxfp4": (mxfp4, compressed("mxfp4-pack-quantized", 4, "float"), "MXFP4", False),
    "nvfp4": (lambda w: nvfp4(w, ".weight_packed", ".weight_global_scale", True),
              compressed("nvfp4-pack-quantized", 4, "float"), "NVFP4", True),
    "nvfp4 modelopt": (lambda w: nvfp4(w, ".weight", ".weight_scale_2", False),
                       {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, "NVFP4", True),
}


# --- models ----------------------------------------------------------------------------------------------------------


def config_of(model_type):
    config = {"model_type": model_type, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
              "num_key_value_heads": KV_HEADS, "intermediate_size": FF, "vocab_size": VOCAB, "max_position_embeddings": 64,
              "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False}
    if model_type == "mixtral":
        config |= {"num_local_experts": EXPERTS, "num_experts_per_tok": 2, "sliding_window": None}
    return config


def projections(model_type):
    """{stem: shape} of what is quantised."""
    kv = HIDDEN // HEADS * KV_HEADS
    stems = {}
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        stems |= {layer + "self_attn.q_proj": (HIDDEN, HIDDEN), layer + "self_attn.k_proj": (kv, HIDDEN),
                  layer + "self_attn.v_proj": (kv, HIDDEN), layer + "self_attn.o_proj": (HIDDEN, HIDDEN)}
        if model_type == "mixtral":
            for e in range(EXPERTS):
                expert = f"{layer}block_sparse_moe.experts.{e}."
                stems |= {expert + "w1": (FF, HIDDEN), expert + "w3": (FF, HIDDEN), expert + "w2": (HIDDEN, FF)}
        else:
            stems |= {layer + "mlp.gate_proj": (FF, HIDDEN), layer + "mlp.up_proj": (FF, HIDDEN),
                      layer + "mlp.down_proj": (HIDDEN, FF)}
    return stems


def rest(model_type, chance):
    tensors = {}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = ("F32", chance.normal(0, 1, (VOCAB, HIDDEN)).astype(np.float32))
    norms = ["model.norm.weight"]
    for i in range(LAYERS):
        norms += [f"model.layers.{i}.{which}_layernorm.weight" for which in ("input", "post_attention")]
        if model_type == "mixtral":
            gate = chance.normal(0, 1, (EXPERTS, HIDDEN)).astype(np.float32)
            tensors[f"model.layers.{i}.block_sparse_moe.gate.weight"] = ("F32", gate)
    for name in norms:
        tensors[name] = ("F32", chance.normal(1, 0.1, HIDDEN).astype(np.float32))
    return tensors


def write_folder(folder, config, tensors):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)


# Families whose weights are made of several, split, stacked or put in another order on their way.
GOLDENS = pathlib.Path(os.environ.get("MILLRACE_DATA_DIR", "/nowhere")) / "goldens"
FAMILIES = ["llama3", "mixtral", "gemma3", "phi3", "qwen3_moe", "qwen3_vl", "deepseek_v2_lite", "deepseek_v3", "deepseek_v32", "kimi_k25",
            "glm4_moe_lite", "mistral4", "glm_moe_dsa", "qwen2_moe", "glm4_moe", "minimax_m2", "qwen3_vl_moe", "llama4_text", "kimi_linear", "glm5_next"]


def read_safetensors(path):
    """{name: float32 array, or int64 of a table}"""
    file = path.read_bytes()
    (n,) = struct.unpack("<Q", file[:8])
    tensors = {}
    for name, tensor in json.loads(file[8 : 8 + n]).items():
        if name == "__metadata__":
            continue
        raw = file[8 + n + tensor["data_offsets"][0] : 8 + n + tensor["data_offsets"][1]]
        if tensor["dtype"] == "I64":
            values = np.frombuffer(raw, np.int64)
        elif tensor["dtype"] == "BF16":
            values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, {"F32": np.float32, "F16": np.float16}[tensor["dtype"]]).astype(np.float32)
        tensors[name] = values.reshape(tensor["shape"])
    return tensors


class Quantised(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = pathlib.Path(scratch.name)

    def write(self, scheme_of, quantisation, model_type="llama"):
        """The folders `packed` and `plain`. scheme_of(stem) is the scheme of a weight."""
        chance = np.random.default_rng(5)
        common = rest(model_type, chance)
        packed, plain = dict(common), dict(common)
        for stem, shape in projections(model_type).items():
            tensors, values = scheme_of(stem)(chance.standard_t(5, shape).astype(np.float32) * np.float32(0.07))
            packed |= {stem + ending: tensor for ending, tensor in tensors.items()}
            plain[stem + ".weight"] = ("F32", values)
        config = config_of(model_type)
        write_folder(self.path / "packed", {**config, "quantization_config": quantisation}, packed)
        write_folder(self.path / "plain", config, plain)
        self.tensors = packed

    def logits(self, model, backend):
        output = self.path / "logits.npy"
        done = millrace("logits", self.path / model, "--tokens", TOKENS, "--output", output, "--backend", backend)
        self.assertEqual(done.returncode, 0, done.stderr)
        return np.load(output)

    def error(self, model, backend, expected):
        """The difference of the logits, as a share of their size."""
        return np.linalg.norm(self.logits(model, backend) - expected) / np.linalg.norm(expected)

    def refusal(self, quantisation=None, **changes):
        """What is said of the folder `packed` with other tensors or another config."""
        config = json.loads((self.path / "packed" / "config.json").read_text())
        if quantisation is not None:
            config["quantization_config"] = quantisation
        folder = self.path / "changed"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        tensors = {name: tensor for name, tensor in {**self.tensors, **changes.get("tensors", {})}.items() if tensor}
        write_safetensors(folder / "model.safetensors", tensors)
        done = millrace("logits", folder, "--tokens", "1", "--output", self.path / "never.npy")
        self.assertEqual(done.returncode, 3, done.stderr)
        return done.stderr

    def test_schemes(self):
        for name, (scheme, quantisation, becomes, is_exact) in SCHEMES.items():
            with self.subTest(name):
                self.setUp()
                self.write(lambda stem: scheme, quantisation)
                expected = self.logits("plain", "reference")
                self.assertLess(self.error("packed", "reference", expected), 2e-6)
                self.assertLess(self.error("packed", "cpu", expected), 2e-5 if is_exact else 0.05)
                seen = millrace("inspect", self.path / "packed", "--check", "--json")
                self.assertEqual(seen.returncode, 0, seen.stderr)
                self.assertEqual(json.loads(seen.stdout)["formats"][becomes]["n_tensors"], 7 * LAYERS)
                self.assertEqual(f"{7 * LAYERS} matrices were quantised in act order" in seen.stderr, becomes == "F16")

    def test_settings_are_read_or_refused(self):
        """A text that nobody knows, and settings that nobody asks for, wherever they stand."""
        harmless = {"activation_scheme", "quantization_status", "ignore", "targets"}

        def texts(value, path=()):
            for key, inner in value.items() if isinstance(value, dict) else ():
                if isinstance(inner, str) and key not in harmless:
                    yield (*path, key)
                yield from texts(inner, (*path, key))

        for name in ("fp8 blocks", "awq", "gptq", "int4", "nvfp4", "nvfp4 modelopt"):
            scheme, quantisation, _, _ = SCHEMES[name]
            changes = [(path, "other") for path in texts(quantisation)] + [(("something_new",), 1)]
            if "config_groups" in quantisation:
                changes += [(("config_groups", "group_0", "weights", key), value)
                            for key, value in (("something_new", 1), ("strategy", "other"), ("dynamic", True))]
            for path, value in changes:
                with self.subTest(f"{name}: {path}"):
                    self.setUp()
                    changed = copy.deepcopy(quantisation)
                    at = changed
                    for key in path[:-1]:
                        at = at[key]
                    at[path[-1]] = value
                    self.write(lambda stem: scheme, changed)
                    refusal = millrace("inspect", self.path / "packed", "--check")
                    self.assertEqual(refusal.returncode, 3, refusal.stderr)
                    self.assertIn(path[-1], refusal.stderr)

    def test_families(self):
        if not GOLDENS.exists():
            self.skipTest("there are no golden folders")
        for family in FAMILIES:
            with self.subTest(family):
                self.setUp()
                packed, plain = {}, {}
                for shard in sorted((GOLDENS / family).glob("model*.safetensors")):
                    for name, values in read_safetensors(shard).items():
                        is_projection = ".layers." in name and "vision" not in name and "visual" not in name and values.ndim >= 2
                        stem = name.removesuffix(".weight")
                        if not is_projection or "proj" not in stem.rsplit(".", 1)[-1] and not stem.endswith((".w1", ".w2", ".w3")):
                            packed[name] = plain[name] = ("F32", values)
                            continue
                        tensors, plain_values = fp8_block(values)
                        ending = name.removeprefix(stem)
                        packed[name] = tensors[".weight"]
                        packed[stem + (ending + "_scale_inv")] = tensors[".weight_scale_inv"]
                        plain[name] = ("F32", plain_values)
                config = json.loads((GOLDENS / family / "config.json").read_text())
                self.assertGreater(len(packed), len(plain))
                write_folder(self.path / "packed", {**config, "quantization_config": SCHEMES["fp8 blocks"][1]}, packed)
                write_folder(self.path / "plain", config, plain)
                expected = self.logits("plain", "reference")
                self.assertLess(self.error("packed", "reference", expected), 2e-6)
                self.assertLess(self.error("packed", "cpu", expected), 2e-5)

    def test_experts_of_four_bits_beside_eight(self):
        """As DeepSeek-V4 is published."""
        family = GOLDENS / "deepseek_v4"
        if not family.exists():
            self.skipTest("there are no golden folders")
        packed, plain = {}, {}
        for name, values in read_safetensors(family / "model.safetensors").items():
            stem, is_expert = name.removesuffix(".weight"), ".experts." in name
            if "experts." in name:  # twice as wide: rows of whole blocks
                axis = 1 if stem.endswith("w2") else 0
                values = np.concatenate([values, np.flip(values, axis) / 2], axis)
            if not is_expert and not stem.rsplit(".", 1)[-1] in ("wq_a", "wq_b", "wkv", "wo_a", "wo_b"):
                packed[name] = plain[name] = ("F32", values) if "tid2eid" not in name else ("I64", values.astype(np.int64))
                continue
            tensors, plain_values = (mxfp4_bytes if is_expert else fp8_powers)(values)
            packed |= {stem + ending: tensor for ending, tensor in tensors.items()}
            plain[name] = ("F32", plain_values)
        config = json.loads((family / "config.json").read_text())
        config["moe_intermediate_size"] *= 2
        quantisation = {**SCHEMES["fp8 blocks"][1], "scale_fmt": "ue8m0"}
        write_folder(self.path / "packed", {**config, "expert_dtype": "fp4", "quantization_config": quantisation}, packed)
        write_folder(self.path / "plain", config, plain)
        expected = self.logits("plain", "reference")
        self.assertLess(self.error("packed", "reference", expected), 2e-6)
        self.assertLess(self.error("packed", "cpu", expected), 0.1)  # activations of 8 bits move some choices of experts
        formats = json.loads(millrace("inspect", self.path / "packed", "--json").stdout)["formats"]
        self.assertEqual(formats["MXFP4"]["n_tensors"] % 3, 0)

    def test_converted_they_are_what_gguf_can_hold(self):
        for name, said, tolerance in (("gptq symmetric", "", 2e-6), ("gptq 8 bits symmetric", "", 2e-6), ("mxfp4", "", 2e-6),
                                      ("fp8 blocks", "written as BF16", 0.02), ("awq", "written as F16", 0.002)):
            with self.subTest(name):
                self.setUp()
                scheme, quantisation, becomes, is_exact = SCHEMES[name]
                self.write(lambda stem: scheme, quantisation)
                done = millrace("convert", self.path / "packed", self.path / "m.gguf", "--no-tokenizer")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(said, done.stderr)
                self.assertEqual("written as" in done.stderr, said != "")
                self.assertLess(self.error("m.gguf", "reference", self.logits("plain", "reference")), tolerance)

    def test_the_method_may_stand_in_a_file_of_its_own(self):
        for name, file, written in (("gptq", "quantize_config.json", {key: GPTQ[key] for key in GPTQ if key != "quant_method"}),
                                    ("nvfp4 modelopt", "hf_quant_config.json",
                                     {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}})):
            with self.subTest(name):
                self.setUp()
                self.write(lambda stem: SCHEMES[name][0], {})
                config = self.path / "packed" / "config.json"
                config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "quantization_config"}))
                (self.path / "packed" / file).write_text(json.dumps(written))
                self.assertLess(self.error("packed", "reference", self.logits("plain", "reference")), 2e-6)

    def test_experts_are_stacked_whatever_their_format(self):
        self.write(lambda stem: lambda w: gptq(w, symmetric=stem.endswith("experts.0.w1")), GPTQ, "mixtral")
        expected = self.logits("plain", "reference")
        self.assertLess(self.error("packed", "reference", expected), 2e-6)
        formats = json.loads(millrace("inspect", self.path / "packed", "--json").stdout)["formats"]
        self.assertEqual(formats["Q8_Z"]["n_tensors"], LAYERS)
        self.assertEqual(formats["Q4_Z"]["n_tensors"], 6 * LAYERS)

    def test_methods_and_settings_that_are_not_known_are_refused(self):
        self.write(lambda stem: awq, SCHEMES["awq"][1])
        known = SCHEMES["awq"][1]
        self.assertIn("hqq", self.refusal({"quant_method": "hqq"}))
        self.assertIn("gemv", self.refusal({**known, "version": "gemv"}))
        self.assertIn("bits", self.refusal({**known, "bits": 3}))
        self.assertIn("novelty", self.refusal({**known, "novelty": 1}))
        self.assertIn("sparse-24", self.refusal(compressed("sparse-24-bitmask")))
        self.assertIn("W4A8", self.refusal({"quant_method": "modelopt", "quant_algo": "W4A8"}))
        self.assertIn("marlin", self.refusal({**GPTQ, "checkpoint_format": "marlin"}))

    def test_hostile_tensors_are_refused(self):
        stem = "model.layers.0.self_attn.q_proj"
        zeros = np.zeros
        self.write(lambda stem: gptq, GPTQ)
        g_idx = self.tensors[stem + ".g_idx"][1].copy()
        g_idx[5] = -1
        for tensors in ({".g_idx": ("I32", g_idx)}, {".g_idx": ("I32", g_idx[:64])}, {".qzeros": ("I32", zeros((2, 15), np.int32))},
                        {".scales": ("F16", np.full((2, 128), np.nan, np.float16))}, {".scales": ("F16", zeros((3, 128), np.float16))},
                        {".qweight": ("I32", zeros((15, 128), np.int32))}, {".qweight": ("I32", zeros(0, np.int32))},
                        {".scales": None}, {".qzeros": None}):
            with self.subTest(str(list(tensors))):
                self.assertIn(stem, self.refusal(tensors={stem + e: t for e, t in tensors.items()}))
        self.setUp()
        self.write(lambda stem: pack_quantized, compressed("pack-quantized"))
        for shape in ([128, 96], [64, 128], [-1, -1], [128, 2**62]):
            self.assertIn(stem, self.refusal(tensors={stem + ".weight_shape": ("I64", np.array(shape, np.int64))}))
        self.setUp()
        self.write(lambda stem: fp8_block, SCHEMES["fp8 blocks"][1])
        codes = self.tensors[stem + ".weight"][1].copy()
        codes[3, 3] = 0x7f
        self.assertIn("NaN", self.refusal(tensors={stem + ".weight": ("F8_E4M3", codes)}))
        self.assertIn(stem, self.refusal(tensors={stem + ".weight_scale_inv": ("F32", zeros((2, 2), np.float32))}))
        self.assertIn(stem, self.refusal(tensors={stem + ".weight_scale_inv": None}))


if __name__ == "__main__":
    unittest.main()
