#!/usr/bin/env python3
"""Models as Mistral AI ships them (params.json, consolidated.safetensors): the goldens rewritten into that spelling give the same bits."""

import json
import os
import pathlib
import re
import struct
import sys
import tempfile
import unittest

from convert_test import millrace
from folder_test import tekken

GOLDENS = pathlib.Path(os.environ.get("MILLRACE_DATA_DIR", "/nowhere")) / "goldens"
TOKENS = ",".join(str((7 * i) % 80) for i in range(70))  # past the windows and the lengths that yarn starts from
KEYS = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads",
        "head_dim": "head_dim", "hidden_dim": "intermediate_size", "norm_eps": "rms_norm_eps", "vocab_size": "vocab_size",
        "max_position_embeddings": "max_position_embeddings", "sliding_window": "sliding_window", "tied_embeddings": "tie_word_embeddings",
        "q_lora_rank": "q_lora_rank", "kv_lora_rank": "kv_lora_rank", "qk_nope_head_dim": "qk_nope_head_dim",
        "qk_rope_head_dim": "qk_rope_head_dim", "v_head_dim": "v_head_dim"}
EXPERT_KEYS = {"num_experts": "n_routed_experts", "num_experts_per_tok": "num_experts_per_tok", "expert_hidden_dim": "moe_intermediate_size",
               "num_shared_experts": "n_shared_experts", "first_k_dense_replace": "first_k_dense_replace", "num_expert_groups": "n_group",
               "num_expert_groups_per_tok": "topk_group", "routed_scale": "routed_scaling_factor"}
NAMES = [(r"^language_model\.", ""), (r"^model\.", ""), (r"^vision_tower\.", "vision_encoder."),
         (r"^multi_modal_projector\.patch_merger", "patch_merger"), (r"^multi_modal_projector\.norm", "pre_mm_projector_norm"),
         (r"^multi_modal_projector\.linear_1", "vision_language_adapter.w_in"),
         (r"^multi_modal_projector\.linear_2", "vision_language_adapter.w_out"),
         (r"^model\.", ""), (r"^lm_head", "output"), (r"^embed_tokens", "tok_embeddings"), (r"input_layernorm", "attention_norm"),
         (r"post_attention_layernorm", "ffn_norm"), (r"self_attn\.kv_a_proj_with_mqa", "attention.wkv_a_with_mqa"),
         (r"self_attn\.(k?[qv])_([ab])_proj", r"attention.w\1_\2"), (r"self_attn\.(k?[qv])_a_layernorm", r"attention.\1_a_norm"),
         (r"self_attn\.([qkvo])_proj", r"attention.w\1"), (r"mlp\.(gate\.weight|experts|shared_experts)", r"\1"),
         (r"mlp", "feed_forward"), (r"block_sparse_moe", "feed_forward"), (r"gate_proj", "w1"), (r"down_proj", "w2"), (r"up_proj", "w3"),
         (r"\.weight_scale$", ".qscale_weight")]


def read_tensors(folder):
    tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        file = path.read_bytes()
        (n,) = struct.unpack("<Q", file[:8])
        for name, entry in json.loads(file[8 : 8 + n]).items():
            begin, end = entry.get("data_offsets", (0, 0))
            if name != "__metadata__":
                tensors[name] = (entry["dtype"], entry["shape"], file[8 + n + begin : 8 + n + end])
    return tensors


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def adjacent_pairs(shape, raw, n_heads):
    """The rows of each head, from halves to pairs."""
    size = len(raw) // shape[0]
    half = shape[0] // n_heads // 2
    rows = [h * 2 * half + s * half + i for h in range(n_heads) for i in range(half) for s in range(2)]
    return b"".join(raw[r * size : (r + 1) * size] for r in rows)


def split_experts(name, shape, raw):
    """Stacked experts as one tensor each; a fused one is gate, then up."""
    size = len(raw) // shape[0]
    for e in range(shape[0]):
        expert = raw[e * size : (e + 1) * size]
        if "gate_up" not in name:
            yield name.replace("experts.", f"experts.{e}.") + ".weight", shape[1:], expert
            continue
        for part, half in (("gate_proj", expert[: size // 2]), ("up_proj", expert[size // 2 :])):
            yield name.replace("experts.gate_up_proj", f"experts.{e}.{part}.weight"), [shape[1] // 2, shape[2]], half


def native_tensors(tensors, text):
    out = {}
    for name, (dtype, shape, raw) in tensors.items():
        parts = split_experts(name, shape, raw) if len(shape) == 3 and "experts" in name else [(name, shape, raw)]
        for part, dims, elements in parts:
            heads = re.search(r"self_attn\.([qk])_proj\.weight$", part)
            if heads and "vision" not in part:
                elements = adjacent_pairs(dims, elements, text["num_attention_heads" if heads[1] == "q" else "num_key_value_heads"])
            for old, new in NAMES:
                part = re.sub(old, new, part)
            out[part] = (dtype, dims, elements)
    return out


def native_config(config):
    text = config.get("text_config", config)
    params = {new: text[old] for new, old in KEYS.items() if text.get(old) is not None}
    rope = text["rope_parameters"]
    params["rope_theta"] = rope["rope_theta"]
    if rope["rope_type"] == "yarn":
        grows = "kv_lora_rank" in text and rope.get("apply_yarn_scaling", True)
        params["yarn"] = {"factor": rope["factor"], "original_max_position_embeddings": rope["original_max_position_embeddings"],
                          "beta": rope["beta_fast"], "alpha": rope["beta_slow"], "apply_scale": grows}
        params["llama_4_scaling"] = {"beta": rope["llama_4_scaling_beta"],
                                     "original_max_position_embeddings": rope["original_max_position_embeddings"]}
    if "n_routed_experts" in text:
        params["moe"] = {new: text[old] for new, old in EXPERT_KEYS.items()} | {"route_every_n": 1}
    elif "num_local_experts" in text:
        params["moe"] = {"num_experts": text["num_local_experts"], "num_experts_per_tok": text["num_experts_per_tok"]}
    if "vision_config" in config:
        params["vision_encoder"] = {"hidden_size": 32, "image_token_id": 95}
    return params


class Params(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = pathlib.Path(scratch.name)
        self.folder = self.path / "native"
        self.folder.mkdir()

    def logits(self, model):
        out = self.path / "logits.npy"
        done = millrace("logits", model, "--tokens", TOKENS, "--output", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        return out.read_bytes()

    def write_params(self, params):
        (self.folder / "params.json").write_text(json.dumps(params))

    def rewrite(self, family):
        config = json.loads((GOLDENS / family / "config.json").read_text())
        tensors = native_tensors(read_tensors(GOLDENS / family), config.get("text_config", config))
        write_tensors(self.folder / "consolidated.safetensors", tensors)
        params = native_config(config)
        self.write_params(params)
        return params, tensors

    def test_both_spellings_give_the_same_bits(self):
        for family in ("mistral", "ministral3", "mistral3", "ministral3_vl", "mixtral", "mistral4"):
            with self.subTest(family):
                self.rewrite(family)
                self.assertEqual(self.logits(self.folder), self.logits(GOLDENS / family))
                self.assertEqual(millrace("inspect", self.folder, "--check").returncode, 0)
        file = self.path / "native.gguf"
        self.assertEqual(millrace("convert", self.folder, file, "--no-tokenizer").returncode, 0)
        self.assertEqual(self.logits(self.folder), self.logits(file))

    def test_scores_grow_only_where_the_file_says_so(self):
        params, _ = self.rewrite("mistral4")
        hub = self.path / "hub"
        hub.mkdir()
        config = json.loads((GOLDENS / "mistral4" / "config.json").read_text())
        (hub / "model.safetensors").write_bytes((GOLDENS / "mistral4" / "model.safetensors").read_bytes())
        for grows in (True, False):
            self.write_params(params | {"yarn": params["yarn"] | {"apply_scale": grows}})
            spelled = {**config, "rope_parameters": config["rope_parameters"] | {"apply_yarn_scaling": grows}}
            (hub / "config.json").write_text(json.dumps(spelled))
            self.assertEqual(self.logits(self.folder), self.logits(hub))
            self.assertEqual(self.logits(self.folder) == self.logits(GOLDENS / "mistral4"), grows)

    def test_shards_and_a_tokenizer(self):
        _, tensors = self.rewrite("ministral3")
        whole = self.logits(self.folder)
        (self.folder / "consolidated.safetensors").unlink()
        names = [f"consolidated-0000{i}-of-00002.safetensors" for i in (1, 2)]
        for i, name in enumerate(names):
            write_tensors(self.folder / name, dict(list(tensors.items())[i::2]))
        index = {"metadata": {}, "weight_map": {tensor: names[i % 2] for i, tensor in enumerate(tensors)}}
        (self.folder / "consolidated.safetensors.index.json").write_text(json.dumps(index))
        self.assertEqual(self.logits(self.folder), whole)
        (self.folder / "tekken.json").write_text(json.dumps(tekken()))
        self.assertEqual(json.loads(millrace("tokenize", self.folder, "A", "--json").stdout)["ids"], [1, 20 + ord("A")])

    def test_windows_of_some_layers(self):
        params, _ = self.rewrite("mistral")
        alike, full = self.logits(self.folder), params | {"sliding_window": [None]}
        self.write_params(params | {"sliding_window": [16]})
        self.assertEqual(self.logits(self.folder), alike)
        self.write_params(params | {"sliding_window": [None, 16]})
        mixed = self.logits(self.folder)
        self.write_params(full)
        self.assertEqual(len({alike, mixed, self.logits(self.folder)}), 3)

    def test_e4m3_under_one_scale(self):
        config = json.loads((GOLDENS / "mistral" / "config.json").read_text()) | {"quantization_config": {"quant_method": "fp8"}}
        tensors = {}
        for name, (dtype, shape, raw) in read_tensors(GOLDENS / "mistral").items():
            if "_proj" not in name:
                tensors[name] = (dtype, shape, raw)
                continue
            codes = bytes(b & 0xBF for b in raw[1::2])  # of these bfloat16, the upper byte is a small E4M3
            tensors |= {name: ("F8_E4M3", shape, codes), name + "_scale": ("F32", [], struct.pack("<f", 0.37)),
                        name.replace("weight", "input_scale"): ("F32", [], struct.pack("<f", 2.0))}
        hub = self.path / "hub"
        hub.mkdir()
        write_tensors(hub / "model.safetensors", tensors)
        (hub / "config.json").write_text(json.dumps(config))
        native = {name.replace("input_scale", "qscale_act"): each for name, each in native_tensors(tensors, config).items()}
        write_tensors(self.folder / "consolidated.safetensors", native)
        self.write_params(native_config(config) | {"quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}})
        self.assertEqual(self.logits(self.folder), self.logits(hub))

    def test_what_is_not_understood_is_refused(self):
        params, _ = self.rewrite("ministral3")
        for key, value in (("novelty", 1), ("model_type", "mamba"), ("activation", "gelu"), ("sliding_window", [8, 16]), ("sliding_window", "8"),
                           ("yarn", params["yarn"] | {"novelty": 2}), ("moe", {"num_experts": 4}), ("quantization", {"qformat_weight": "fp4"}),
                           ("llama_4_scaling", {"beta": 0.1, "original_max_position_embeddings": 7}), ("dim", "64"), ("n_layers", None)):
            with self.subTest(key, value=value):
                self.write_params({**params, key: value})
                done = millrace("inspect", self.folder, "--check")
                self.assertEqual(done.returncode, 3, done.stderr)
                self.assertIn(b"params.json", done.stderr)
        self.write_params([])
        self.assertEqual(millrace("inspect", self.folder).returncode, 3)

    def test_the_other_spelling_goes_first_where_it_is_complete(self):
        self.rewrite("mistral")
        config = self.folder / "config.json"
        config.write_text((GOLDENS / "mistral" / "config.json").read_text())
        self.assertEqual(self.logits(self.folder), self.logits(GOLDENS / "mistral"))
        (self.folder / "model.safetensors").write_bytes((GOLDENS / "mistral" / "model.safetensors").read_bytes())
        (self.folder / "params.json").write_text("{}")
        self.assertEqual(self.logits(self.folder), self.logits(GOLDENS / "mistral"))


if __name__ == "__main__":
    if not GOLDENS.is_dir():
        print(f"there is no folder {GOLDENS}")
        sys.exit(77)
    unittest.main()
