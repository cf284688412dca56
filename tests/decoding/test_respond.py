import pytest

from gptlab.data import InstructionDataset, collate, load_template
from gptlab.decoding import exact_match, respond, stream_response
from gptlab.training import make_optimizer, train

TEMPLATE = load_template("alpaca_short")


@pytest.fixture
def entries(entries):
    return entries[:5]


@pytest.fixture
def tuned(tiny, tokenizer, entries):
    """The tiny model, taught the entries by heart."""
    dataset = InstructionDataset(entries, tokenizer, TEMPLATE).examples
    batches = [collate(dataset, pad_id=0)]
    train(tiny, batches, optimizer=make_optimizer(tiny, 5e-3), epochs=200, progress=False)
    return tiny


def test_answers_come_in_order_and_end_where_training_ended_them(tuned, tokenizer, entries):
    tuned.train()
    responses = respond(tuned, tokenizer, entries, TEMPLATE, batch_size=7)
    assert exact_match([response.text for response in responses], entries) == 1.0
    assert {response.reason for response in responses} == {"stop"}
    assert tuned.training
    assert responses == respond(tuned, tokenizer, entries, TEMPLATE, batch_size=1)


def test_outputs_are_not_looked_at(tuned, tokenizer, entries):
    blind = [{"instruction": entry["instruction"]} for entry in entries]
    assert respond(tuned, tokenizer, blind, TEMPLATE) == respond(tuned, tokenizer, entries, TEMPLATE)


def test_what_cannot_be_answered_keeps_its_place(tuned, tokenizer, entries):
    long = {"instruction": "x" * 200}
    responses = respond(tuned, tokenizer, [entries[0], long, entries[1]], TEMPLATE)
    assert responses[1] == ("", "prompt too long")
    assert [responses[0], responses[2]] == respond(tuned, tokenizer, entries[:2], TEMPLATE)
    assert respond(tuned, tokenizer, entries, TEMPLATE, max_new_tokens=1)[0].reason == "length"


def test_wrong_requests(tiny, tokenizer, entries):
    with pytest.raises(ValueError, match="entry 2 has no 'instruction'"):
        respond(tiny, tokenizer, [{"instruction": "a"}, {"input": "b"}], TEMPLATE)
    with pytest.raises(ValueError, match="batch_size must be >= 1, got -1"):
        respond(tiny, tokenizer, entries, TEMPLATE, batch_size=-1)


def all_of(pieces):
    """Return the pieces of a stream, and its return value."""
    got = []
    while True:
        try:
            got.append(next(pieces))
        except StopIteration as end:
            return got, end.value


def test_a_streamed_response_is_the_one_that_respond_gives(tuned, tokenizer, entries):
    for choices in ({}, {"temperature": 1.5, "top_k": 20, "seed": 4}, {"max_new_tokens": 2}, {"stop": "is"}):
        for entry in entries[:2]:
            pieces, response = all_of(stream_response(tuned, tokenizer, entry, "alpaca_short", **choices))
            assert [response] == respond(tuned, tokenizer, [entry], TEMPLATE, **choices)
            assert "".join(pieces).rstrip() == response.text
    pieces, _ = all_of(stream_response(tuned, tokenizer, entries[0], TEMPLATE))
    assert len(pieces) > 3
    assert not pieces[0][0].isspace()


def test_a_streamed_response_that_cannot_be(tuned, tokenizer):
    pieces, response = all_of(stream_response(tuned, tokenizer, {"instruction": "x" * 200}, TEMPLATE))
    assert (pieces, response) == ([], ("", "prompt too long"))
    with pytest.raises(ValueError, match="the entry has no 'instruction'"):
        next(stream_response(tuned, tokenizer, {"input": "b"}, TEMPLATE))


def test_exact_match_counts_to_the_letter():
    entries = [{"output": "a"}, {"output": "b"}, {"output": "c"}, {"output": "d"}]
    assert exact_match(["a", "B", "c ", "d"], entries) == 0.5
    with pytest.raises(ValueError, match="got 1 for 4"):
        exact_match(["a"], entries)
    with pytest.raises(ValueError, match="got 0 for 0"):
        exact_match([], [])
