"""A chat that remembers: the same tokens as in tuning, the same answers as without a cache, nothing read twice."""

import json

import pytest
import torch
from conversations import MOSS_TOKENS, TALK, WITH_TOOLS

from gptlab.data import FORMATS, Conversation, ConversationDataset, Turn, collate, find_format, to_moss
from gptlab.decoding import ChatSession, respond
from gptlab.decoding.respond import prompt_ids
from gptlab.model import GPTModel, initialize_like_gpt2
from gptlab.peft import (
    Adapter,
    LoRA,
    PrefixTuning,
    apply,
    disable,
    merge,
    remove,
    trainable_parameters,
    use,
)
from gptlab.training import make_optimizer, train
from gptlab.weights import add_special_tokens, load_checkpoint, save_checkpoint

QUESTIONS = ["Where is Fenn?", "And the mill?", "Who says so?"]


@pytest.fixture
def longer(tiny):
    """The tiny model with room for a conversation in any form."""
    model = GPTModel(tiny.cfg.to_dict() | {"context_length": 640})
    initialize_like_gpt2(model, torch.Generator().manual_seed(0))
    return model.eval()


def say(session, text):
    """Return the pieces of an answer and the response."""
    pieces, answer = [], session.ask(text)
    while True:
        try:
            pieces.append(next(answer))
        except StopIteration as end:
            return pieces, end.value


def counted(model):
    """Return a list that gets the number of tokens that the model reads each time."""
    reads = []
    model.tok_emb.register_forward_pre_hook(lambda _, args: reads.append(args[0].shape[1]))
    return reads


@pytest.mark.parametrize("form", [*FORMATS, "alpaca_short", "dialogue"])
@pytest.mark.parametrize("added", [False, True])
def test_the_ids_are_those_of_tuning_and_the_answers_those_without_a_cache(longer, tokenizer, form, added):
    if added:
        tokenizer = add_special_tokens(longer, tokenizer, find_format(form).markers)
    choices = {"max_new_tokens": 9, "temperature": 1.0, "top_k": 40, "repetition_penalty": 1.02, "seed": 3}
    session = ChatSession(longer, tokenizer, form, system="You are a guide.\n", **choices)
    for text in QUESTIONS:
        asked = Conversation([*session.turns, Turn(text)], session.system)
        pieces, response = say(session, text)
        assert "".join(pieces) == response.text
        [alone] = respond(longer, tokenizer, [asked], find_format(form), **choices)
        assert response.text.strip() == alone.text
        assert response.reason == alone.reason
    [example] = ConversationDataset([session.conversation], tokenizer, format=form).examples
    assert session.ids() == example.ids
    assert [turn.user for turn in session.turns] == QUESTIONS


def test_what_was_read_is_not_read_again(longer, tokenizer):
    """After tuning on one conversation the model writes it; then the cache holds all but what is new."""
    tokenizer = add_special_tokens(longer, tokenizer, MOSS_TOKENS)
    longer.train()
    dataset = ConversationDataset([TALK], tokenizer)
    train(
        longer, [collate(dataset.examples, pad_id=0)], optimizer=make_optimizer(longer, 1e-2), epochs=60, progress=False
    )
    longer.eval()
    session = ChatSession(longer, tokenizer, "moss", system=TALK.system, max_new_tokens=80)
    reads, known = counted(longer), 0
    for turn in TALK.turns:
        reads.clear()
        _, response = say(session, turn.user)
        assert (response.text, response.reason) == (turn.assistant, "stop")
        ids = session.ids()
        answer = tokenizer.encode_ordinary(" " + turn.assistant)
        # the new turn without its last token, "\n"; of the answer, the mark that ends it was chosen and is not read
        assert sum(reads) == len(ids) - known - 2
        assert reads[1:] == [1] * len(answer)
        known = len(ids) - 2  # what the cache holds
    assert session.ids() == dataset.examples[0].ids


def moved(model, seed=1):
    """The model with what learns moved away from where it began."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model):
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def train_a_step(model):
    ids = torch.tensor([[5, 9, 2]])
    train(model, [(ids[:, :-1], ids[:, 1:])], optimizer=make_optimizer(model, 0.1), progress=False)


def put_in_its_place(model):
    """Another one of the same name and kind, whose modules may come to lie where those of the first one did."""
    remove(model, "b")
    moved(apply(model, LORA, name="b"), seed=9)


LORA = LoRA(rank=4, targets="all-linear")
BRANCHES, PREFIXES = {"a": Adapter(), "b": LORA}, {"p": PrefixTuning(3), "q": PrefixTuning(3)}  # the last is active
CHANGES = {
    "another branch": (BRANCHES, lambda model: use(model, "a")),
    "no branch": (BRANCHES, lambda model: use(model, None)),
    "a branch is put on": (BRANCHES, lambda model: moved(apply(model, Adapter(), name="c"))),
    "a branch in its place": (BRANCHES, put_in_its_place),
    "all branches taken off": (BRANCHES, remove),
    "a branch merged": (BRANCHES, merge),
    "a branch trained": (BRANCHES, train_a_step),
    "another prefix": (PREFIXES, lambda model: use(model, "p")),
    "no prefix": (PREFIXES, lambda model: use(model, None)),
    "a prefix trained": (PREFIXES, train_a_step),
    "the first prefix": ({}, lambda model: moved(apply(model, PrefixTuning(3)))),
    "a prefix before a branch": (BRANCHES, lambda model: moved(apply(model, PrefixTuning(3), name="c"))),
}


@pytest.mark.parametrize(("adapters", "change"), CHANGES.values(), ids=CHANGES)
def test_a_model_that_has_changed_reads_everything_anew(longer, tokenizer, adapters, change):
    """What is in the cache was computed by the one that it was."""
    longer.final_norm.scale.data *= 20  # so that answers differ
    for name, method in adapters.items():
        moved(apply(longer, method, name=name))
    session = ChatSession(longer, tokenizer, "dialogue", max_new_tokens=9)
    say(session, QUESTIONS[0])
    change(longer)
    longer.eval()
    fresh = ChatSession(longer, tokenizer, "dialogue", max_new_tokens=9)
    fresh.turns = list(session.turns)
    for text in QUESTIONS[1:]:
        assert say(session, text) == say(fresh, text)
    more = torch.zeros(1, 4, 1, 8)  # (B, H, T, head_dim)
    for ours, theirs in zip(session._cache.layers, fresh._cache.layers, strict=True):
        torch.testing.assert_close(ours.append(more, more), theirs.append(more, more), atol=1e-4, rtol=1e-4)


def test_what_changes_no_key_costs_no_reading(longer, tokenizer):
    moved(apply(longer, LoRA(rank=4)))
    session = ChatSession(longer, tokenizer, "dialogue", max_new_tokens=6)
    say(session, QUESTIONS[0])
    reads = counted(longer)
    with disable(longer):
        pass
    longer.train().eval()
    asked = Conversation([*session.turns, Turn(QUESTIONS[1])])
    say(session, QUESTIONS[1])
    assert reads[0] < len(prompt_ids(session.format, asked, tokenizer))


def test_old_turns_are_forgotten_whole_when_the_context_fills(tiny, tokenizer):
    session = ChatSession(tiny, tokenizer, "chatml", system="Kind.", max_new_tokens=5)
    seen = []
    for number in range(12):
        _, response = say(session, f"Number {number}?")
        assert response.reason != "prompt too long"
        seen.append(session.forgotten)
        ids = find_format("chatml").prompt_segments(Conversation(session.turns[session.forgotten :], session.system))
        assert ids[0].text == "<|im_start|>"
        assert "Kind." in ids[1].text
    assert seen == sorted(seen)
    assert seen[0] == 0 < seen[-1] < 12
    assert len(session.turns) == 12


def test_a_stopped_answer_and_a_long_question_leave_everything_as_it_was(longer, tokenizer):
    session = ChatSession(longer, tokenizer, "dialogue", max_new_tokens=6)
    say(session, QUESTIONS[0])
    turns = list(session.turns)
    answer = session.ask("And then?")
    next(answer)
    answer.close()
    assert session.turns == turns
    assert say(session, "x" * 900)[1] == ("", "prompt too long")
    assert session.turns == turns
    fresh = ChatSession(longer, tokenizer, "dialogue", max_new_tokens=6)
    fresh.turns = list(turns)
    assert say(session, QUESTIONS[1]) == say(fresh, QUESTIONS[1])


def test_a_turn_ends_at_the_text_of_a_mark_that_is_no_token(longer, tokenizer, monkeypatch):
    written = tokenizer.encode_ordinary("In Fenn.<|im_end|> and more")

    def chosen(logits, tokens, streams, settings):
        return torch.tensor([written[min(len(tokens[0]) - start, len(written) - 1)]])

    session = ChatSession(longer, tokenizer, "chatml", max_new_tokens=40)
    start = len(prompt_ids(session.format, Conversation([Turn("Where?")]), tokenizer))
    monkeypatch.setattr("gptlab.decoding.steps._choose", chosen)
    pieces, response = say(session, "Where?")
    assert (response.text, response.reason) == ("In Fenn.", "stop")
    assert "".join(pieces) == "In Fenn."


def test_the_template_is_saved_beside_the_weights(longer, tokenizer, tmp_path):
    tokenizer = add_special_tokens(longer, tokenizer, MOSS_TOKENS)
    save_checkpoint(tmp_path / "talking", longer, tokenizer, find_format("moss"))
    found = load_checkpoint(tmp_path / "talking")
    assert found.template == find_format("moss")
    sessions = [ChatSession(*parts, max_new_tokens=5) for parts in (found, (longer, tokenizer, "moss"))]
    assert say(sessions[0], "Where?") == say(sessions[1], "Where?")
    assert sessions[0].ids() == sessions[1].ids()


def test_save_load_clear(longer, tokenizer, tmp_path):
    session = ChatSession(longer, tokenizer, "dialogue", system="Kind.", max_new_tokens=6)
    say(session, "Where is Fenn?")
    session.save(tmp_path / "said.json")
    messages = json.loads((tmp_path / "said.json").read_text(encoding="utf-8"))["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    other = ChatSession(longer, tokenizer, "dialogue", max_new_tokens=6)
    other.load(tmp_path / "said.json")
    assert (other.turns, other.system) == (session.turns, "Kind.")
    assert say(other, "And?") == say(session, "And?")
    session.clear()
    assert session.conversation is None
    assert session.ids() == []
    with pytest.raises(ValueError, match="there is nothing to save"):
        session.save(tmp_path / "nothing.json")
    assert not (tmp_path / "nothing.json").exists()


def test_settings_and_doors(longer, tokenizer, tmp_path):
    session = ChatSession(longer, tokenizer, "moss", max_new_tokens=6)
    session.set(temperature=0.7, top_k=40, max_new_tokens=3)
    assert session.settings() == {"max_new_tokens": 3, "temperature": 0.7, "top_k": 40}
    for changes, error in [
        ({"top_p": 2.0}, "top_p must be in"),
        ({"heat": 1}, "no setting is called 'heat'; there are max_new_tokens, temperature"),
        ({"max_new_tokens": -1}, "max_new_tokens must be a whole number >= 0, got -1"),
    ]:
        with pytest.raises(ValueError, match=error):
            session.set(**changes)
    assert session.settings() == {"max_new_tokens": 3, "temperature": 0.7, "top_k": 40}
    with pytest.raises(ValueError, match="turn 1, the user's message is empty"):
        say(session, " ")
    with pytest.raises(ValueError, match="character 0 is"):
        say(session, "\udcff")
    (tmp_path / "asked.json").write_text(json.dumps([{"role": "user", "content": "a"}]), encoding="utf-8")
    with pytest.raises(ValueError, match="asked.json: the last turn has no answer"):
        session.load(tmp_path / "asked.json")
    with pytest.raises(ValueError, match="no template is called 'mos'"):
        ChatSession(longer, tokenizer, "mos")
    session.turns = list(WITH_TOOLS.turns)
    session.save(tmp_path / "tools.json")
    assert "chat" in json.loads((tmp_path / "tools.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", [0, 1])
def test_a_reading_that_is_interrupted_spoils_nothing(longer, tokenizer, block):
    """Ctrl-C may come when some layers have taken the new tokens into their caches and others have not."""
    session = ChatSession(longer, tokenizer, "dialogue", max_new_tokens=6)
    say(session, QUESTIONS[0])

    def interrupt(*_):
        raise KeyboardInterrupt

    hook = longer.trf_blocks[block].ff.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        say(session, "A question that is not read to its end, and is much longer than the next one " * 3)
    hook.remove()
    fresh = ChatSession(longer, tokenizer, "dialogue", max_new_tokens=6)
    fresh.turns = list(session.turns)
    for text in QUESTIONS[1:]:
        assert say(session, text) == say(fresh, text)


def test_max_context_bounds_what_the_model_is_shown(longer, tokenizer):
    session, shown = ChatSession(longer, tokenizer, "dialogue", max_new_tokens=3, max_context=60), []
    for number in range(8):
        say(session, f"Number {number}?")
        shown.append(max(len(session._read) - 3, 0))
    assert session.forgotten > 0
    assert 40 < max(shown) <= 60
    with pytest.raises(ValueError, match=r"max_context must be in \[2, 640\], the model's context, got 641"):
        ChatSession(longer, tokenizer, "dialogue", max_context=641)


def test_wrong_settings_are_found_at_once(longer, tokenizer):
    for choices, error in [
        ({"heat": 3}, "no setting is called 'heat'"),
        ({"top_p": 7.0}, "top_p must be in"),
        ({"seed": 1.5}, "seed must be a whole number >= 0, got 1.5"),
        ({"system": "\udcff"}, "the system message: character 0"),
    ]:
        with pytest.raises(ValueError, match=error):
            ChatSession(longer, tokenizer, "dialogue", **choices)
    session = ChatSession(longer, tokenizer, "dialogue", temperature=0.5, top_k=None)
    session.set(temperature=None)
    assert session.settings() == {"max_new_tokens": 128}


def test_loading_takes_only_what_the_format_can_write(longer, tokenizer, tmp_path):
    tools, plain = tmp_path / "tools.json", tmp_path / "plain.json"
    tools.write_text(json.dumps(to_moss(WITH_TOOLS)), encoding="utf-8")
    plain.write_text(json.dumps({"messages": TALK.without_tools().with_turns(TALK.turns).messages()[1:]}))
    session = ChatSession(longer, tokenizer, "chatml", system="Kind.", max_new_tokens=3)
    say(session, QUESTIONS[0])
    turns = list(session.turns)
    with pytest.raises(ValueError, match="the chatml form has no place for thoughts"):
        session.load(tools)
    assert session.turns == turns
    session.load(plain)
    assert session.system == "Kind."
    assert session.turns == list(TALK.turns)
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="mine.txt is not JSON"):
        session.save(tmp_path / "mine.txt")
    session.save(plain)  # a conversation may be replaced
