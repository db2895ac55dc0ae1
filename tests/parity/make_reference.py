#!/usr/bin/env python3
"""Writes the Llama 4 reference cases: tiny checkpoints and what the published implementation computes on them.

    pip install torch transformers safetensors numpy     # CPU is enough
    python make_reference.py OUT_DIR [CASE ...]

Each case is a folder: config.json and model.safetensors in the Hugging Face layout (bfloat16 weights; the outputs are computed in float32 from those same values), and expected.safetensors:
  input_ids        [B, S] int64      prompt
  logits           [B, S, V] f32     one forward over the prompt, no cache
  hidden.<i>       [B, S, H] f32     the residual stream that enters layer i (hidden.<L> is after the final norm)
  router.<i>       [B*S, E] f32      router logits of the i-th layer that is MoE
  decode_ids       [B, N] int64      greedy continuation
  decode_logits    [B, N, V] f32     logits that chose each of them, computed with the KV cache
Multimodal cases add pixel_values [T, 3, P, P] and image_features [T, tokens, H] (after the projector).
Every attention and router is eager, so that nothing is fused away; weights are random, scaled so that logits differ clearly.
"""
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import Llama4TextConfig, Llama4VisionConfig, Llama4Config, Llama4ForCausalLM, Llama4ForConditionalGeneration

TEXT = dict(vocab_size=320, hidden_size=32, intermediate_size=32, intermediate_size_mlp=64, num_hidden_layers=8,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5, max_position_embeddings=256,
            attention_chunk_size=16, attn_temperature_tuning=True, floor_scale=8, attn_scale=0.1, use_qk_norm=True,
            num_local_experts=4, num_experts_per_tok=1, interleave_moe_layer_step=1, no_rope_layer_interval=4,
            tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
CASES = {
    # every layer MoE, norms on q and k, a NoPE layer in four: the shape of Scout
    "scout-tiny": dict(text={}, seed=11, shape=(2, 50), steps=20),
    # MoE and dense layers alternate, no norms on q and k: the shape of Maverick
    "maverick-tiny": dict(text=dict(use_qk_norm=False, num_local_experts=8, interleave_moe_layer_step=2), seed=12, shape=(2, 45), steps=20),
    # no MoE, no NoPE, tied embeddings: a Llama that is a Llama 4 with one kind of layer
    "dense-tiny": dict(text=dict(use_qk_norm=False, moe_layers=[], no_rope_layers=[1] * 8, attention_chunk_size=256,
                                 tie_word_embeddings=True), seed=13, shape=(1, 40), steps=16),
    # two experts a token
    "top2-tiny": dict(text=dict(num_experts_per_tok=2, num_hidden_layers=4), seed=14, shape=(1, 33), steps=8),
    # long-context rope scaling as in the published checkpoints
    "llama3rope-tiny": dict(text=dict(num_hidden_layers=4, rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0,
                            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}), seed=15, shape=(1, 60), steps=8),
    # heads that no kernel takes as they are, several sequences, a chunk that divides nothing
    "heads10-tiny": dict(text=dict(head_dim=10, use_qk_norm=False, attention_chunk_size=5, num_hidden_layers=3), seed=133, shape=(3, 23), steps=6),
    # no chunks at all, biases in the attention, experts in two layers by name
    "nochunk-tiny": dict(text=dict(num_hidden_layers=4, attention_chunk_size=None, attention_bias=True, moe_layers=[1, 2]), seed=120, shape=(1, 30), steps=8),
    # text and vision
    "vision-tiny": dict(text=dict(num_hidden_layers=4), vision=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                        num_channels=3, intermediate_size=128, vision_output_dim=48, image_size=56, patch_size=14, norm_eps=1e-5,
                        pixel_shuffle_ratio=0.5, projector_input_dim=48, projector_output_dim=48,
                        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}), seed=16, shape=(1, 40), steps=8, tiles=3),
}


def randomise(model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1 and "norm" in name and name.endswith("weight"):
                p.copy_(1 + 0.1 * torch.randn(p.shape, generator=g))
            elif p.dim() == 1:
                p.copy_(0.1 * torch.randn(p.shape, generator=g))
            else:
                fan_in = p.shape[-2] if name.endswith(("gate_up_proj", "down_proj")) and p.dim() == 3 else p.shape[-1]
                gain = 1.0 if "embed" in name else 1.4
                p.copy_(gain * torch.randn(p.shape, generator=g) / (1.0 if "embed_tokens" in name else fan_in ** 0.5))
            p.copy_(p.bfloat16().float())


def run(name, case, out):
    torch.manual_seed(case["seed"])
    text = Llama4TextConfig(**{**TEXT, **case["text"]})
    B, S = case["shape"]
    g = torch.Generator().manual_seed(case["seed"] + 1000)
    if "vision" in case:
        config = Llama4Config(text_config=text, vision_config=Llama4VisionConfig(**case["vision"]), boi_token_index=301, eoi_token_index=302, image_token_index=300)
        config._attn_implementation = "eager"
        model = Llama4ForConditionalGeneration(config).eval()
        config.architectures = ["Llama4ForConditionalGeneration"]
    else:
        config = text
        config._attn_implementation = "eager"
        model = Llama4ForCausalLM(config).eval()
        config.architectures = ["Llama4ForCausalLM"]
    randomise(model, case["seed"])
    if text.tie_word_embeddings:
        model.tie_weights()
    ids = torch.randint(3, 300, (B, S), generator=g)
    expected = {}
    start = lambda tokens: {"input_ids": tokens}
    if "vision" in case:
        side = case["vision"]["image_size"]
        pixels = torch.randn((case["tiles"], 3, side, side), generator=g)
        per_tile = int((side // case["vision"]["patch_size"]) ** 2 * case["vision"]["pixel_shuffle_ratio"] ** 2)
        ids[0, 5:5 + case["tiles"] * per_tile] = 300
        with torch.no_grad():
            features = model.multi_modal_projector(model.vision_model(pixels).last_hidden_state)
        expected.update(pixel_values=pixels, image_features=features)

        def start(tokens):  # image tokens are replaced by the projected patches, in order
            embeds = model.language_model.get_input_embeddings()(tokens)
            return {"inputs_embeds": embeds.masked_scatter((tokens == 300).unsqueeze(-1), features)}
    inner = model.language_model if "vision" in case else model
    with torch.no_grad():
        res = inner(**start(ids), use_cache=False, output_hidden_states=True, output_router_logits=True)
        expected.update(input_ids=ids, logits=res.logits)
        for i, h in enumerate(res.hidden_states):
            expected[f"hidden.{i}"] = h
        for i, r in enumerate(res.router_logits or ()):
            expected[f"router.{i}"] = r
        # greedy decode with the cache, one token at a time
        step, cache, picks, rows = start(ids), None, [], []
        for _ in range(case["steps"]):
            r = inner(**step, cache=cache, use_cache=True)
            cache = r.cache
            rows.append(r.logits[:, -1])
            picks.append(rows[-1].argmax(-1, keepdim=True))
            step = {"input_ids": picks[-1]}
        expected["decode_ids"] = torch.cat(picks, 1)
        expected["decode_logits"] = torch.stack(rows, 1)
    # the cache must not change the answer: recompute over prompt + continuation
    with torch.no_grad():
        whole = torch.cat([ids, expected["decode_ids"]], 1)
        again = inner(**start(whole), use_cache=False).logits[:, S - 1:-1]
    drift = (again - expected["decode_logits"]).abs().max().item()
    top = expected["decode_logits"].topk(2, -1).values
    margin = (top[..., 0] - top[..., 1]).min().item()
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=1, sort_keys=True, default=str) + "\n")
    state = {k: v.bfloat16().contiguous().clone() for k, v in model.state_dict().items() if not (text.tie_word_embeddings and k == "lm_head.weight")}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    save_file({k: v.contiguous().clone() for k, v in expected.items()}, folder / "expected.safetensors")
    size = sum(f.stat().st_size for f in folder.iterdir()) / 1e6
    print(f"{name}: cache drift {drift:.2e}, smallest greedy margin {margin:.3f}, logits std {res.logits.std():.2f}, {size:.2f} MB")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    for name in sys.argv[2:] or CASES:
        run(name, CASES[name], out)
