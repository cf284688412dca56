"""Two arrangements of one conversation, and what becomes of long ones."""

import copy

import pytest
import torch
from conversations import MOSS_TOKENS, TALK, WITH_TOOLS, with_specials
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlab.data import (
    FORMATS,
    Conversation,
    ConversationDataset,
    Turn,
    collate,
    collate_packed,
    encode,
    find_format,
    render,
)
from gptlab.data.chat_formats import ChatGLM
from gptlab.model import GPTModel, initialize_like_gpt2
from gptlab.training import next_token_loss

ARRANGEMENTS = ("per_session", "per_turn")


@pytest.fixture
def longer(tiny):
    """The tiny model with room for a conversation in any form."""
    model = GPTModel(tiny.cfg.to_dict() | {"context_length": 640})
    initialize_like_gpt2(model, torch.Generator().manual_seed(0))
    return model


def loss_and_gradients(model, batch):
    model = copy.deepcopy(model).double()
    loss, count = next_token_loss(model, *batch)
    loss.backward()
    return loss.item(), count, [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("loss_on", [None, "assistant", "all"])
@pytest.mark.parametrize("form", [*FORMATS, "alpaca_short"])
def test_a_session_and_its_turns_have_one_summed_loss_and_gradient(longer, tokenizer, form, loss_on):
    batches = [
        collate(ConversationDataset([TALK], tokenizer, format=form, arrangement=a, loss_on=loss_on).examples, pad_id=0)
        for a in ARRANGEMENTS
    ]
    assert [len(inputs) for inputs, _ in batches] == [1, 3]
    (session, count, gradients), (turns, same, others) = (loss_and_gradients(longer, batch) for batch in batches)
    assert count == same
    assert turns == pytest.approx(session, rel=1e-10)
    for ours, theirs in zip(gradients, others):
        torch.testing.assert_close(theirs, ours, rtol=1e-8, atol=1e-10)


def test_the_mean_of_the_samples_means_is_another_loss(longer, tokenizer):
    examples = ConversationDataset([TALK], tokenizer, format="chatml", arrangement="per_turn").examples
    with torch.no_grad():
        parts = [next_token_loss(longer, *collate([example], pad_id=0)) for example in examples]
    of_tokens = sum(loss for loss, _ in parts) / sum(count for _, count in parts)
    of_samples = sum(loss / count for loss, count in parts) / len(parts)
    assert abs(of_tokens - of_samples) > 1e-3


def test_packed_sessions_lose_as_much_as_separate_ones(longer, tokenizer):
    examples = ConversationDataset([TALK, TALK], tokenizer, format="chatglm").examples
    with torch.no_grad():
        one, _ = next_token_loss(longer, *collate(examples, pad_id=0))
        packed, _ = next_token_loss(longer, *collate_packed(examples, pad_id=0, length=640))
    assert packed.item() == pytest.approx(one.item(), rel=1e-5)


def lengths_of(talk, tokenizer, form, arrangement="per_session"):
    return [len(e.ids) for e in ConversationDataset([talk], tokenizer, format=form, arrangement=arrangement).examples]


@pytest.mark.parametrize("form", [*FORMATS, "alpaca_short"])
def test_a_long_session_loses_its_last_turns_whole(tokenizer, form):
    counts = []
    for length in range(2, lengths_of(TALK, tokenizer, form)[0] + 1):
        try:
            dataset = ConversationDataset([TALK], tokenizer, format=form, max_length=length)
        except ValueError as error:
            assert f"1 dropped and 0 turns left out for the length of {length}" in str(error)
            counts.append(0)
            continue
        counts.append(len(TALK.turns) - dataset.dropped_turns)
        kept = Conversation(TALK.turns[: counts[-1]], TALK.system)
        assert dataset.examples == [encode(render(kept, form), tokenizer)]
        assert len(dataset.examples[0].ids) <= length
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}


@pytest.mark.parametrize("form", [*FORMATS, "alpaca_short", ChatGLM(1, False)], ids=str)
def test_the_sample_of_a_turn_loses_its_first_turns_and_never_its_question(tokenizer, form):
    longest = max(lengths_of(TALK, tokenizer, form, "per_turn"))
    for length in range(longest // 4, longest, 3):
        try:
            dataset = ConversationDataset([TALK], tokenizer, format=form, arrangement="per_turn", max_length=length)
        except ValueError:
            continue
        texts = [tokenizer.decode(example.ids) for example in dataset.examples]
        asked = [turn.user for turn in TALK.turns]
        assert len(texts) + len(dataset.dropped) == 3
        newest = [max(n for n, user in enumerate(asked) if user in text) for text in texts]
        assert newest == sorted(set(newest))
        for text, number in zip(texts, newest):
            assert TALK.turns[number].assistant in text
        assert all(len(example.ids) <= length for example in dataset.examples)


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
talks = st.builds(Conversation, st.lists(st.builds(Turn, words, words), min_size=1, max_size=4), words)


@settings(max_examples=60, deadline=None)
@given(talks, st.sampled_from([*FORMATS, "alpaca"]))
def test_whatever_is_said_the_turns_are_the_beginnings_of_the_session(tokenizer, talk, form):
    [session] = ConversationDataset([talk], tokenizer, format=form).examples
    samples = ConversationDataset([talk], tokenizer, format=form, arrangement="per_turn").examples
    trained = [False] * len(session.ids)
    ends = len(encode(render(talk, form), tokenizer).ids)
    closing = len(find_format(form).closing()) and len(tokenizer.encode_ordinary("x"))
    for sample in samples:
        body = len(sample.ids) - closing
        assert sample.ids[:body] == session.ids[:body]
        assert not any(a and b for a, b in zip(trained, sample.trained))
        trained = [a or b for a, b in zip(trained, [*sample.trained, *[False] * ends])]
    assert trained[: len(session.ids)] == session.trained


def test_marks_are_tokens_where_the_tokenizer_has_them(tokenizer):
    plain = ConversationDataset([WITH_TOOLS], tokenizer)
    added = ConversationDataset([WITH_TOOLS], with_specials(tokenizer, MOSS_TOKENS))
    assert plain.plain_marks == list(MOSS_TOKENS)
    assert added.plain_marks == []
    assert len(added.examples[0].ids) < len(plain.examples[0].ids)
    assert tokenizer.decode(plain.examples[0].ids) == added.tokenizer.decode(added.examples[0].ids)


def test_doors(tokenizer):
    with pytest.raises(ValueError, match="arrangement must be 'per_session' or 'per_turn', got 'session'"):
        ConversationDataset([TALK], tokenizer, arrangement="session")
    with pytest.raises(ValueError, match="max_length must be >= 2, got 1"):
        ConversationDataset([TALK], tokenizer, max_length=1)
    with pytest.raises(ValueError, match="loss_on must be one of .*got 'answers'"):
        ConversationDataset([TALK], tokenizer, loss_on="answers")
    with pytest.raises(ValueError, match="with ends_in_history=False .* arrange it per_turn"):
        ConversationDataset([TALK], tokenizer, format=ChatGLM(ends_in_history=False))
    with pytest.raises(ValueError, match="conversation 2: turn 1 has no answer, so it cannot be trained on"):
        ConversationDataset([TALK, Conversation([Turn("a")])], tokenizer)
    with pytest.raises(ValueError, match="conversation 2: the chatml form has no place for thoughts"):
        ConversationDataset([TALK, WITH_TOOLS], tokenizer, format="chatml")
    with pytest.raises(ValueError, match="conversation 1: message 2 is empty"):
        ConversationDataset([[{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]], tokenizer)
    with pytest.raises(ValueError, match="no conversation to train on: 0 given"):
        ConversationDataset([], tokenizer)


def test_the_last_answer_is_the_last_that_is_kept(tokenizer):
    for length in range(30, 400, 10):
        try:
            dataset = ConversationDataset([TALK], tokenizer, format="chatml", max_length=length, loss_on="last")
        except ValueError:
            continue
        kept = Conversation(TALK.turns[: 3 - dataset.dropped_turns], TALK.system)
        assert dataset.examples == [encode(render(kept, "chatml", loss_on="last"), tokenizer)]
        assert any(dataset.examples[0].trained)
    with pytest.raises(ValueError, match="loss_on must not be 'last' with per_turn"):
        ConversationDataset([TALK], tokenizer, format="chatml", arrangement="per_turn", loss_on="last")


def test_samples_of_a_conversation_stay_together(tokenizer):
    dataset = ConversationDataset([TALK, WITH_TOOLS], tokenizer, arrangement="per_turn")
    assert dataset.numbers == [1, 1, 1, 2, 2, 2]
    assert dataset.by_conversation() == [dataset.examples[:3], dataset.examples[3:]]


def test_end_of_text_is_never_written_in_letters(tokenizer):
    class Letters:
        def encode(self, text):
            return [ord(letter) % 300 for letter in text]

        def decode(self, ids):
            return "".join(map(chr, ids))

    with pytest.raises(ValueError, match="'<.endoftext.>' is no special token"):
        ConversationDataset([TALK], Letters(), format="dialogue")
