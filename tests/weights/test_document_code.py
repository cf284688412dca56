"""The weight loader of the course notes that this project began with, as it stands there, runs against GPTModel.

Only its broken lines are joined and the missing comma of BASE_CONFIG is set. The notes import the book's model from
`previous_chapters`; here that name is ours.
"""

import numpy as np
import torch
from transformers import GPT2Config, GPT2Model

from gptlab import GPTModel
from gptlab.weights import load_weights as library_load_weights

BASE_CONFIG = {
    "vocab_size": 50257,  # Vocabulary size
    "context_length": 1024,  # Context length
    "drop_rate": 0.0,  # Dropout rate
    "qkv_bias": True,  # Query-key-value bias
    "emb_dim": 1024,
    "n_layers": 24,
    "n_heads": 16,
}
# The same in small, so that the test does not need 5 GB: the notes' own shapes are 355M parameters.
SMALL = BASE_CONFIG | {"vocab_size": 301, "context_length": 32, "emb_dim": 64, "n_layers": 3, "n_heads": 4}


def assign_check(left, right):
    if left.shape != right.shape:
        raise ValueError(f"Shape mismatch. Left: {left.shape}, Right: {right.shape}")
    return torch.nn.Parameter(right.clone().detach())


def load_weights(gpt, gpt_hf):
    d = gpt_hf.state_dict()

    gpt.pos_emb.weight = assign_check(gpt.pos_emb.weight, d["wpe.weight"])
    gpt.tok_emb.weight = assign_check(gpt.tok_emb.weight, d["wte.weight"])

    for b in range(SMALL["n_layers"]):
        q_w, k_w, v_w = np.split(d[f"h.{b}.attn.c_attn.weight"], 3, axis=-1)
        gpt.trf_blocks[b].att.W_query.weight = assign_check(gpt.trf_blocks[b].att.W_query.weight, q_w.T)
        gpt.trf_blocks[b].att.W_key.weight = assign_check(gpt.trf_blocks[b].att.W_key.weight, k_w.T)
        gpt.trf_blocks[b].att.W_value.weight = assign_check(gpt.trf_blocks[b].att.W_value.weight, v_w.T)

        q_b, k_b, v_b = np.split(d[f"h.{b}.attn.c_attn.bias"], 3, axis=-1)
        gpt.trf_blocks[b].att.W_query.bias = assign_check(gpt.trf_blocks[b].att.W_query.bias, q_b)
        gpt.trf_blocks[b].att.W_key.bias = assign_check(gpt.trf_blocks[b].att.W_key.bias, k_b)
        gpt.trf_blocks[b].att.W_value.bias = assign_check(gpt.trf_blocks[b].att.W_value.bias, v_b)

        gpt.trf_blocks[b].att.out_proj.weight = assign_check(
            gpt.trf_blocks[b].att.out_proj.weight, d[f"h.{b}.attn.c_proj.weight"].T
        )
        gpt.trf_blocks[b].att.out_proj.bias = assign_check(
            gpt.trf_blocks[b].att.out_proj.bias, d[f"h.{b}.attn.c_proj.bias"]
        )

        gpt.trf_blocks[b].ff.layers[0].weight = assign_check(
            gpt.trf_blocks[b].ff.layers[0].weight, d[f"h.{b}.mlp.c_fc.weight"].T
        )
        gpt.trf_blocks[b].ff.layers[0].bias = assign_check(
            gpt.trf_blocks[b].ff.layers[0].bias, d[f"h.{b}.mlp.c_fc.bias"]
        )
        gpt.trf_blocks[b].ff.layers[2].weight = assign_check(
            gpt.trf_blocks[b].ff.layers[2].weight, d[f"h.{b}.mlp.c_proj.weight"].T
        )
        gpt.trf_blocks[b].ff.layers[2].bias = assign_check(
            gpt.trf_blocks[b].ff.layers[2].bias, d[f"h.{b}.mlp.c_proj.bias"]
        )

        gpt.trf_blocks[b].norm1.scale = assign_check(gpt.trf_blocks[b].norm1.scale, d[f"h.{b}.ln_1.weight"])
        gpt.trf_blocks[b].norm1.shift = assign_check(gpt.trf_blocks[b].norm1.shift, d[f"h.{b}.ln_1.bias"])
        gpt.trf_blocks[b].norm2.scale = assign_check(gpt.trf_blocks[b].norm2.scale, d[f"h.{b}.ln_2.weight"])
        gpt.trf_blocks[b].norm2.shift = assign_check(gpt.trf_blocks[b].norm2.shift, d[f"h.{b}.ln_2.bias"])

    gpt.final_norm.scale = assign_check(gpt.final_norm.scale, d["ln_f.weight"])
    gpt.final_norm.shift = assign_check(gpt.final_norm.shift, d["ln_f.bias"])
    gpt.out_head.weight = assign_check(gpt.out_head.weight, d["wte.weight"])


def test_the_documents_loader_and_ours_give_transformers_features():
    torch.manual_seed(0)
    gpt_hf = GPT2Model(GPT2Config(vocab_size=301, n_positions=32, n_embd=64, n_layer=3, n_head=4)).eval()
    for parameter in gpt_hf.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ids = torch.randint(0, 301, (2, 32))
    with torch.no_grad():
        expected = gpt_hf(ids).last_hidden_state @ gpt_hf.wte.weight.T
        for load in (load_weights, library_load_weights):
            model = GPTModel(SMALL).eval()
            load(model, gpt_hf)
            torch.testing.assert_close(model(ids), expected, atol=1e-5, rtol=1e-5)


def test_the_documents_config_builds_gpt2_medium():
    with torch.device("meta"):
        model = GPTModel(BASE_CONFIG)
    assert sum(parameter.numel() for parameter in model.parameters()) == 354_823_168 + 50257 * 1024
