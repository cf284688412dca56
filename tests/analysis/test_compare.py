"""Other models, other names, other weights, and what cannot be compared."""

import copy
import math

import pytest
import torch
from switchable_gpt import CFG, CONTEXT, IDS, D, H, L, Student, V, reference_model, student_like
from torch import nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from gptlab.analysis import Comparison, compare
from gptlab.analysis.names import book_names
from gptlab.model import GPTModel
from gptlab.weights import load_weights


@pytest.fixture(autouse=True)
def one_thread(two_threads):
    """Thousands of tiny products: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def reference():
    return reference_model()


def test_the_right_model_is_the_same(reference):
    result = compare(student_like(reference), reference, IDS)
    assert result.same and result.module is None and result.cause is None and not result.notes
    assert result.difference < 1e-5
    assert [name for name, _ in result.table][:4] == [
        "tok_emb",
        "pos_emb",
        "trf_blocks.0.norm1",
        "trf_blocks.0.att.W_query",
    ]
    assert str(result).startswith("The same")


def huggingface(head=True, **changes):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=V, n_positions=CONTEXT, n_embd=D, n_layer=L, n_head=H, **changes)
    model = (GPT2LMHeadModel if head else GPT2Model)(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("head", [True, False])
def test_transformers_is_the_same_either_way(head):
    """Float32: within 1e-5 at every submodule, ten times closer than the default asks."""
    theirs = huggingface(head)
    ours = GPTModel(CFG | {"tie_weights": True}).eval()
    load_weights(ours, theirs)
    for pair in ((ours, theirs), (theirs, ours)):
        result = compare(*pair, IDS, tolerance=1e-5)
        assert result.same and len(result.table) == 12 * L + 3 + 2 * head
        assert ("Only" in str(result)) != head


def test_a_variant_of_transformers_is_named():
    theirs = huggingface(activation_function="relu")
    ours = GPTModel(CFG | {"tie_weights": True}).eval()
    load_weights(ours, theirs)
    result = compare(theirs, ours, IDS)
    assert (result.module, result.cause) == ("trf_blocks.0.ff.layers.1", "ReLU in place of GELU")
    assert "The student calls trf_blocks.0.ff.layers.1 transformer.h.0.mlp.act." in result.notes
    assert "in the reference, not in the student" not in result.cause


def test_a_faulty_reference_is_named_too(reference):
    faulty = student_like(reference, "mask with 0")
    assert "in the reference, not in the student: masked scores" in compare(reference, faulty, IDS).cause
    odd = compare(student_like(reference, "no mask"), student_like(reference, "odd attention"), IDS)
    assert odd.cause is None and "The reference does not compute what GPT-2 does" in str(odd)


def test_weights_that_were_never_copied(reference):
    """The commonest case: told in plain words, apart from what the code does."""
    torch.manual_seed(1)
    result = compare(Student().eval(), reference, IDS)
    assert result.module == "tok_emb"
    assert "never copied, 15 of 15 matrices" in result.cause and "both compute the same" in result.cause
    assert result.with_reference_weights.same
    result = compare(Student("no scale").eval(), reference, IDS)
    assert "never copied" in result.cause and "trf_blocks.0.att still differs: the attention scale" in result.cause
    assert result.with_reference_weights.module == "trf_blocks.0.att"
    result = compare(huggingface(), reference_model(tie_weights=True), IDS)
    assert "never copied" in result.cause and result.with_reference_weights.same


def turn(model):
    model.trf_blocks[1].att.W_key.weight.data = model.trf_blocks[1].att.W_key.weight.data.T.clone()


def swap(model):
    att = model.trf_blocks[0].att
    att.W_query, att.W_key = att.W_key, att.W_query


def clear(model):
    model.trf_blocks[1].ff.layers[2].weight.data.zero_()


def redraw(model):
    model.trf_blocks[0].norm2.shift.data += 1


WEIGHTS = {
    turn: "trf_blocks.1.att.W_key.weight is the reference's transposed",
    swap: "trf_blocks.0.att.W_query.weight is the reference's trf_blocks.0.att.W_key.weight",
    clear: "trf_blocks.1.ff.layers.2.weight is all 0",
    redraw: "trf_blocks.0.norm2.shift holds other numbers",
}


@pytest.mark.parametrize("spoil", WEIGHTS, ids=lambda spoil: spoil.__name__)
def test_single_weights_that_differ(reference, spoil):
    student = student_like(reference)
    spoil(student)
    before = copy.deepcopy(student.state_dict())
    result = compare(student, reference, IDS)
    assert WEIGHTS[spoil] in result.cause and result.with_reference_weights.same
    assert all(before[name].equal(weight) for name, weight in student.state_dict().items())


def test_an_untied_head_and_an_extra_bias():
    tied = reference_model(tie_weights=True)
    student = student_like(tied)
    nn.init.normal_(student.out_head.weight)
    assert "the head is not tied" in compare(student, tied, IDS).cause
    plain = reference_model(qkv_bias=False)
    extra = student_like(reference_model(), "")
    extra.load_state_dict(plain.state_dict(), strict=False)
    result = compare(extra, plain, IDS)
    assert "W_query.bias is a bias that the reference does not have" in result.cause
    assert result.with_reference_weights.same


def test_weights_without_effect_are_noted(reference):
    student = student_like(reference)
    student.tok_emb.weight.data[V - 1] += 1
    result = compare(student, reference, IDS.clamp(max=V - 2))
    assert result.same and "Without effect on these ids, tok_emb.weight holds other numbers" in str(result)


class Fused(nn.Module):
    """Attention with one layer for all three, in any order, that returns a tuple."""

    def __init__(self, att, masked, order):
        super().__init__()
        self.masked, self.order, self.qkv, self.proj = masked, order, nn.Linear(D, 3 * D), att.out_proj
        rows = [{"q": att.W_query, "k": att.W_key, "v": att.W_value}[role] for role in order]
        self.qkv.weight.data = torch.cat([linear.weight for linear in rows]).detach()
        self.qkv.bias.data = torch.cat([linear.bias for linear in rows]).detach()

    def forward(self, x):
        parts = (part.unflatten(2, (H, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        role = dict(zip(self.order, parts))
        gathered = F.scaled_dot_product_attention(role["q"], role["k"], role["v"], is_causal=self.masked)
        return self.proj(gathered.transpose(1, 2).flatten(2)), None


class Bare(nn.Module):
    """Attention with bare parameters, x @ W, as in the first draft of chapter 3."""

    def __init__(self, att):
        super().__init__()
        for name in ("W_query", "W_key", "W_value"):
            setattr(self, name, nn.Parameter(getattr(att, name).weight.detach().T.clone()))
        self.out_proj = att.out_proj

    def forward(self, x):
        q, k, v = ((x @ w).unflatten(2, (H, -1)).transpose(1, 2) for w in (self.W_query, self.W_key, self.W_value))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class OtherNames(nn.Module):
    """The right model in other words, with a fused layer that returns a tuple."""

    def __init__(self, model, masked=True, order="qkv"):
        super().__init__()
        self.token_embedding_table, self.position_embedding_table = model.tok_emb, model.pos_emb
        self.blocks = nn.ModuleList()
        for block in model.trf_blocks:
            attention = Fused(block.att, masked, order)
            ffwd = nn.Sequential(*block.ff.layers)
            self.blocks.append(nn.ModuleDict({"sa": attention, "ffwd": ffwd, "ln1": block.norm1, "ln2": block.norm2}))
        self.ln_f, self.lm_head = model.final_norm, model.out_head

    def forward(self, ids):
        x = self.token_embedding_table(ids) + self.position_embedding_table.weight[: ids.shape[1]]
        for block in self.blocks:
            x = x + block["sa"](block["ln1"](x))[0]
            x = x + block["ffwd"](block["ln2"](x))
        return {"logits": self.lm_head(self.ln_f(x))}


def test_other_names_and_another_order_inside_a_fused_layer(reference):
    for order in ("qkv", "kvq"):
        assert compare(OtherNames(student_like(reference), order=order), reference, IDS).same
    result = compare(OtherNames(student_like(reference), masked=False), reference, IDS)
    assert result.module == "trf_blocks.0.att" and "causal mask is missing" in result.cause
    assert "The student calls trf_blocks.0.att blocks.0.sa." in result.notes
    result = compare(OtherNames(student_like(reference), masked=False, order="kqv"), reference, IDS)
    assert "W_query.weight is the reference's trf_blocks.0.att.W_key.weight" in result.cause


def test_bare_parameters_are_found(reference):
    plain = reference_model(qkv_bias=False)
    student = student_like(plain, "qkv bias")
    for block in student.trf_blocks:
        block.att = Bare(block.att)
    assert compare(student, plain, IDS).same
    student.trf_blocks[1].att.W_key.data.zero_()
    assert "trf_blocks.1.att.W_key.weight is all 0" in compare(student, plain, IDS).cause


class HeadsSideBySide(nn.Module):
    """The book's wrapper: a small attention for each head. Its weights have no names in a GPTModel."""

    def __init__(self, att):
        super().__init__()
        self.heads = nn.ModuleList(nn.ModuleDict({n: nn.Linear(D, D // H) for n in "qkv"}) for _ in range(H))
        for number, head in enumerate(self.heads):
            for name, whole in (("q", att.W_query), ("k", att.W_key), ("v", att.W_value)):
                rows = slice(number * D // H, (number + 1) * D // H)
                head[name].weight.data, head[name].bias.data = whole.weight.data[rows], whole.bias.data[rows]
        self.out_proj, self.scale = att.out_proj, math.sqrt(D // H)

    def forward(self, x):
        after = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        parts = []
        for head in self.heads:
            scores = head["q"](x) @ head["k"](x).mT / self.scale
            parts.append(scores.masked_fill(after, -math.inf).softmax(-1) @ head["v"](x))
        return self.out_proj(torch.cat(parts, dim=-1))


def test_weights_without_a_name(reference):
    student = student_like(reference)
    for block in student.trf_blocks:
        block.att = HeadsSideBySide(block.att)
    assert compare(student, reference, IDS).same
    student.trf_blocks[1].att.scale = 1.0
    result = compare(student, reference, IDS)
    assert result.module == "trf_blocks.1.att" and "scale is missing" in result.cause
    assert "could not be compared: trf_blocks.0.att.heads.0.q.weight" in str(result)


class Renamed(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.lookup, self.place, self.tower = model.tok_emb, model.pos_emb, model.trf_blocks
        self.last, self.vote = model.final_norm, model.out_head

    def forward(self, ids):
        return self.vote(self.last(self.tower(self.lookup(ids) + self.place(torch.arange(ids.shape[1])))))


def test_names_of_any_kind_can_be_translated(reference):
    names = {"lookup": "tok_emb", "place": "pos_emb", r"tower\.(\d+)": r"trf_blocks.\1", "last": "final_norm"}
    names["vote"] = "out_head"
    right = compare(Renamed(student_like(reference)), reference, IDS, names=names)
    assert right.same and len(right.table) == 12 * L + 5
    wrong = compare(Renamed(student_like(reference, "relu")), reference, IDS, names=names)
    assert (wrong.module, wrong.cause) == ("trf_blocks.0.ff.layers.1", "ReLU in place of GELU")
    with pytest.raises(ValueError, match="the student's are .'lookup', 'place', 'tower'"):
        compare(Renamed(student_like(reference)), reference, IDS)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("transformer.wte", ("tok_emb",)),
        ("transformer.h.11.mlp.c_proj", ("trf_blocks.11.ff.layers.2",)),
        ("trf_blocks.0.ff.layers.0", ("trf_blocks.0.ff.layers.0",)),
        ("transformer_blocks.1.attn.to_q", ("trf_blocks.1.att.W_query",)),
        ("trf_blocks.2", ("trf_blocks.2",)),
        ("trf_blocks.0.drop_resid", ()),
        ("blocks.0.head", ()),
        ("tower.0.ff.layers.0", ()),
    ],
)
def test_names(name, ours):
    assert book_names(name) == ours


def test_models_are_left_as_they_were(reference):
    student = GPTModel(CFG | {"drop_rate": 0.5})
    student.load_state_dict(reference.state_dict())
    student.trf_blocks[0].eval()
    modes = [module.training for module in student.modules()]
    state = torch.get_rng_state()
    result = compare(student, reference, IDS)
    assert result.same and "training mode with dropout 0.5" in str(result)
    assert modes == [module.training for module in student.modules()]
    assert torch.get_rng_state().equal(state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.modules())


def test_a_failure_says_where(reference):
    student = student_like(reference)
    student.trf_blocks[1].att.W_value = nn.Linear(D + 1, D)
    with pytest.raises(RuntimeError) as failure:
        compare(student, reference, IDS)
    assert "in the student, in its submodule 'trf_blocks.1.att.W_value'" in failure.value.__notes__[0]
    assert f"(2, 9, {D})" in failure.value.__notes__[0]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.modules())


def test_one_token_and_nan(reference):
    assert compare(student_like(reference, "no mask"), reference, IDS[:, :1]).same
    student = student_like(reference)
    student.trf_blocks[1].norm1.register_forward_hook(lambda module, args, output: output * math.nan)
    result = compare(student, reference, IDS)
    assert result.module == "trf_blocks.1.norm1" and result.difference == math.inf


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (IDS[0], r"torch.int64 \(9,\)"),
        (IDS.float(), "torch.float32"),
        ([[1, 2]], "list"),
        (IDS[:, :0], r"\(2, 0\)"),
        (IDS + V, f"must be in .0, {V}., got {V}"),
        (torch.zeros(1, CONTEXT + 1, dtype=torch.int64), f"holds {CONTEXT} tokens, got {CONTEXT + 1}"),
    ],
)
def test_wrong_ids(reference, ids, message):
    with pytest.raises(ValueError, match=message):
        compare(student_like(reference), reference, ids)


@pytest.mark.parametrize(
    ("key", "size", "message"),
    [
        ("vocab_size", 7, f"vocabulary is 7, the reference's {V}"),
        ("emb_dim", 30, f"width is 30, the reference's {D}"),
        ("n_layers", 1, f"number of blocks is 1, the reference's {L}"),
    ],
)
def test_models_of_other_sizes(reference, key, size, message):
    with pytest.raises(ValueError, match=message):
        compare(GPTModel(CFG | {key: size}), reference, IDS)


def test_what_is_no_model(reference):
    with pytest.raises(ValueError, match="student must be a torch.nn.Module, got dict"):
        compare(dict(reference.state_dict()), reference, IDS)


def test_the_result_cannot_be_changed(reference):
    result = compare(reference, reference, IDS)
    assert isinstance(result, Comparison)
    with pytest.raises(AttributeError):
        result.same = False
