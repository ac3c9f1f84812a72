"""Writes a GGUF file with a tiny Llama of random weights and a byte-level vocabulary. Standard library only."""

import random
import struct

U32, F32, STRING, ARRAY = 4, 6, 8, 9
HIDDEN, HEADS, FFN, CONTEXT = 32, 2, 48, 64


def string(text):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(text)) + text


def value(kind, held):
    return string(held) if kind == STRING else struct.pack({U32: "<I", F32: "<f"}[kind], held)


def entry(key, kind, held):
    return string(key) + struct.pack("<I", kind) + value(kind, held)


def array(key, kind, held):
    return string(key) + struct.pack("<IIQ", ARRAY, kind, len(held)) + b"".join(value(kind, each) for each in held)


def byte_letters():
    """GPT-2's letters for the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(rest)}
    return [letters[byte] for byte in range(256)]


TOKENS = byte_letters() + ["he", "ll", "hell", "hello", "<|end|>"]
MERGES = ["h e", "l l", "he ll", "hell o"]
END = len(TOKENS) - 1


def metadata(template, name, has_tokenizer, n_vocab, context, pooling, control):
    entries = [
        entry("general.architecture", STRING, "llama"),
        entry("general.name", STRING, name),
        entry("general.license", STRING, "apache-2.0"),
        entry("llama.context_length", U32, context),
        entry("llama.embedding_length", U32, HIDDEN),
        entry("llama.block_count", U32, 1),
        entry("llama.feed_forward_length", U32, FFN),
        entry("llama.attention.head_count", U32, HEADS),
        entry("llama.attention.head_count_kv", U32, HEADS),
        entry("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        entry("llama.vocab_size", U32, n_vocab),
    ]
    if pooling is not None:
        entries.append(entry("llama.pooling_type", U32, pooling))
    if has_tokenizer:
        entries += [
            entry("tokenizer.ggml.model", STRING, "gpt2"),
            entry("tokenizer.ggml.pre", STRING, "gpt-2"),
            array("tokenizer.ggml.tokens", STRING, [*TOKENS, *control]),
            array("tokenizer.ggml.token_type", U32, [1] * END + [3] * (1 + len(control))),
            array("tokenizer.ggml.merges", STRING, MERGES),
            entry("tokenizer.ggml.eos_token_id", U32, END),
        ]
    if control:  # templates that need control tokens need the beginning, too
        entries.append(entry("tokenizer.ggml.bos_token_id", U32, END))
    if template:
        entries.append(entry("tokenizer.chat_template", STRING, template))
    return entries


def tensors(n_vocab):
    """(name, dimensions innermost first)"""
    norms = [("output_norm.weight", [HIDDEN]), ("blk.0.attn_norm.weight", [HIDDEN]), ("blk.0.ffn_norm.weight", [HIDDEN])]
    attention = [(f"blk.0.attn_{part}.weight", [HIDDEN, HIDDEN]) for part in ("q", "k", "v", "output")]
    ffn = [(f"blk.0.ffn_{part}.weight", [HIDDEN, FFN]) for part in ("gate", "up")]
    ends = [("blk.0.ffn_down.weight", [FFN, HIDDEN]), ("token_embd.weight", [HIDDEN, n_vocab])]
    return norms + attention + ffn + ends


TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tiny_gguf(template=TEMPLATE, name="tiny", has_tokenizer=True, n_vocab=len(TOKENS), n_drawn=1 << 30, context=CONTEXT,
              pooling=None, control=()):
    """The bytes of the file, up to the first tensor of more than `n_drawn` elements. `control`: more tokens of the
    vocabulary, control tokens."""
    rng = random.Random(1)
    n_vocab += len(control)
    entries = metadata(template, name, has_tokenizer, n_vocab, context, pooling, control)
    infos, data, offset = b"", b"", 0
    for tensor, dims in tensors(n_vocab):
        infos += string(tensor) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        infos += struct.pack("<IQ", 0, offset)
        n = dims[0] * (dims[1] if len(dims) > 1 else 1)
        offset += (4 * n + 31) // 32 * 32
        if n <= n_drawn:
            data += struct.pack(f"<{n}f", *(rng.gauss(0, 0.3) for _ in range(n)))
            data += b"\0" * (offset - len(data))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors(n_vocab)), len(entries)) + b"".join(entries) + infos
    return head + b"\0" * (-len(head) % 32) + data
