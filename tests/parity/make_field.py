#!/usr/bin/env python3
"""Adds GGUF files of the architecture `llama` in cases/field to its expected.json: the five likeliest tokens after a prompt, by transformers in float32.

    pip install torch transformers gguf     # CPU is enough
    python make_field.py FILE...            # of a split file, its first part

Only tensors in F16 and F32 are read. q and k rows, which a GGUF has in interleaved order, go back to the order of the published implementation.
"""
import json, re, sys
from pathlib import Path
import gguf, torch, transformers

IDS = [5, 70, 9, 200, 33, 12, 260, 100, 7]
NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def top5(path):
    parts = sorted(path.parent.glob(re.sub(r"\d{5}-of", "*-of", path.name)))
    readers = [gguf.GGUFReader(part) for part in parts]
    value = lambda key: readers[0].fields["llama." + key].contents()
    heads, kv_heads = value("attention.head_count"), value("attention.head_count_kv")
    state = {}
    for tensor in (t for reader in readers for t in reader.tensors):
        weight = torch.tensor(tensor.data.astype("float32").reshape([int(n) for n in reversed(tensor.shape)]))
        name, kind = tensor.name.rsplit(".", 1)
        if name.endswith(("attn_q", "attn_k")):
            weight = weight.reshape(heads if name.endswith("q") else kv_heads, -1, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
        layer = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
        state[(f"model.layers.{layer[1]}.{NAMES[layer[2]]}" if layer else OUTER[name]) + "." + kind] = weight
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
    bias = any(key.endswith("q_proj.bias") for key in state)
    config = transformers.LlamaConfig(
        vocab_size=len(state["lm_head.weight"]), hidden_size=value("embedding_length"), intermediate_size=value("feed_forward_length"), num_hidden_layers=value("block_count"), num_attention_heads=heads,
        num_key_value_heads=kv_heads, rms_norm_eps=value("attention.layer_norm_rms_epsilon"), rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base")}, attention_bias=bias)
    model = transformers.LlamaForCausalLM(config).eval()
    # with attention_bias the output has one too; the file has none
    state |= {f"model.layers.{i}.self_attn.o_proj.bias": torch.zeros(config.hidden_size) for i in range(config.num_hidden_layers) if bias}
    model.load_state_dict(state)
    with torch.no_grad():
        values, ids = model(torch.tensor([IDS])).logits[0, -1].softmax(-1).topk(5)
    return [[int(i), round(float(p), 5)] for p, i in zip(values, ids)]


for file in map(Path, sys.argv[1:]):
    path = file.parent / "expected.json"
    expected = json.loads(path.read_text()) if path.exists() else {}
    expected[file.name] = {"ids": IDS, "next_top5": top5(file)}
    path.write_text(json.dumps(expected) + "\n")
    print(file.name, expected[file.name]["next_top5"])
