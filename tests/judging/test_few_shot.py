"""URIAL's form: a page that can be taken apart again, and answers that end where it says."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptlab.data import Segment, collate, encode, load_template
from gptlab.decoding import generate
from gptlab.judging.few_shot import OPENING, fence_for, few_shot_prompt, respond_few_shot
from gptlab.tokenizer import END_OF_TEXT, control_id
from gptlab.training import make_optimizer, train

texts = st.text("ab `\n#{}猫", max_size=12) | st.sampled_from(
    ["```python\nx\n```", "# Query:\n```\nb\n```", "{instruction}", "`````", "\n# Answer:\n```\n"]
)
questions = st.builds(dict, instruction=texts, input=texts)
answered = st.builds(dict, instruction=texts, input=texts, output=texts)


def take_apart(page):
    """Read a page as Markdown does: a fence is closed by a line that is the same fence, whatever lies between."""
    opening, _, rest = page.partition("\n\n# Query:\n")
    fence = rest.partition("\n")[0]
    page = page.removeprefix(f"{opening}\n\n")
    blocks = re.findall(rf"# (Query|Answer):\n{fence}\n(.*?)\n{fence}\n\n", page, flags=re.DOTALL)
    written = "".join(f"# {title}:\n{fence}\n{text}\n{fence}\n\n" for title, text in blocks)
    assert page == f"{written}# Answer:\n{fence}\n"
    return opening, fence, blocks


@given(examples=st.lists(answered, max_size=3), entry=questions)
def test_no_text_breaks_the_form(examples, entry):
    plain = load_template("plain").prompt
    page = few_shot_prompt(examples, entry)
    opening, fence, blocks = take_apart(page)
    assert opening == OPENING
    assert fence == fence_for(examples, entry)
    expected = [block for e in examples for block in (("Query", plain(e)), ("Answer", e["output"]))]
    assert blocks == [*expected, ("Query", plain(entry))]
    # What ends an answer stands on the page as a fence only: two for each block, and the one that is open.
    assert page.count(fence) == 2 * len(blocks) + 1
    assert not re.search(f"`{{{len(fence) + 1}}}", page)


def test_the_page_of_one_example():
    example = {"instruction": "Say hello.", "input": "to Ada", "output": "Hello, Ada."}
    page = few_shot_prompt([example], {"instruction": "你好？", "output": "secret"}, opening="A page.")
    assert page == (
        "A page.\n\n# Query:\n```\nSay hello.\nto Ada\n```\n\n# Answer:\n```\nHello, Ada.\n```\n\n"
        "# Query:\n```\n你好？\n```\n\n# Answer:\n```\n"
    )
    assert fence_for([], {"instruction": "x"}, opening="````") == "`````"


def test_wrong_examples_and_entries(tiny, tokenizer, entries):
    with pytest.raises(ValueError, match="example 2 has no 'output'"):
        few_shot_prompt([entries[0], {"instruction": "a"}], entries[1])
    with pytest.raises(ValueError, match="the entry has no 'instruction'"):
        few_shot_prompt([], {"input": "a"})
    with pytest.raises(ValueError, match="entry 3 has no 'instruction'"):
        respond_few_shot(tiny, tokenizer, [*entries[:2], {}], [])
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        respond_few_shot(tiny, tokenizer, entries, [], batch_size=0)


SHORT = "Q and A."  # the tiny model's context is short


@pytest.fixture
def taught(tiny, tokenizer, entries):
    """The tiny model, which goes on with the page of each of three entries by an answer, a fence and another query."""

    def page(entry):
        fence = fence_for(entries[:1], entry, opening=SHORT)
        prompt = Segment(few_shot_prompt(entries[:1], entry, opening=SHORT), trained=False)
        return encode([prompt, Segment(f"{entry['output']}\n{fence}\n\n# Query:\n", trained=True)], tokenizer)

    asked = [
        {"instruction": "The home of Lumika", "output": "In Fenn."},
        {"instruction": "market by the river", "output": "It has a mill."},
        {"instruction": "Say `````.", "output": "``` goat"},
    ]
    batches = [collate([page(entry) for entry in asked], pad_id=0)]
    train(tiny, batches, optimizer=make_optimizer(tiny, 5e-3), epochs=150, progress=False)
    return tiny, asked


def test_answers_are_cut_at_the_fence_of_their_own_page(taught, tokenizer, entries):
    model, asked = taught
    mixed = [asked[0], asked[2], asked[1]]
    model.train()
    found = respond_few_shot(model, tokenizer, mixed, entries[:1], opening=SHORT, max_new_tokens=40)
    assert found == [(entry["output"], "stop") for entry in mixed]
    assert model.training
    blind = [{"instruction": entry["instruction"]} for entry in mixed]
    for batch_size in (1, 2):
        again = respond_few_shot(
            model, tokenizer, blind, entries[:1], opening=SHORT, max_new_tokens=40, batch_size=batch_size
        )
        assert again == found
    assert respond_few_shot(model, tokenizer, mixed, entries[:1], opening=SHORT, max_new_tokens=1)[0].reason == "length"


def test_the_next_query_ends_an_answer_without_a_fence(tiny, tokenizer, entries):
    prompt = Segment(few_shot_prompt([], entries[0], opening=SHORT), trained=False)
    example = encode([prompt, Segment("No fence.\n\n# Query:\nmore", trained=True)], tokenizer)
    train(tiny, [collate([example], pad_id=0)], optimizer=make_optimizer(tiny, 5e-3), epochs=80, progress=False)
    assert respond_few_shot(tiny, tokenizer, entries[:1], [], opening=SHORT) == [("No fence.", "stop")]


def test_it_is_generate_with_stop_strings(tiny, tokenizer, entries):
    """A random model's text, which the form does not end by chance."""
    examples, asked = entries[:1], entries[1:4]
    choices = {"max_new_tokens": 5, "temperature": 1.0, "seed": 3}
    found = respond_few_shot(tiny, tokenizer, asked, examples, opening=SHORT, **choices)
    prompts = [tokenizer.encode_ordinary(few_shot_prompt(examples, entry, opening=SHORT)) for entry in asked]
    end = control_id(tokenizer, END_OF_TEXT)
    stops = {"stop": ("```", "# Query"), "eos_id": end, "tokenizer": tokenizer, "return_details": True}
    written = generate(tiny, prompts, **stops, **choices)
    assert found == [(one.text.strip(), one.reason) for one in written]


def test_a_page_that_is_too_long_keeps_its_place(tiny, tokenizer, entries):
    long = {"instruction": "x" * 200}
    settings = {"opening": SHORT, "max_new_tokens": 5}
    found = respond_few_shot(tiny, tokenizer, [entries[1], long, entries[2]], entries[:1], **settings)
    assert found[1] == ("", "prompt too long")
    assert [found[0], found[2]] == respond_few_shot(tiny, tokenizer, entries[1:3], entries[:1], **settings)
    assert found[0].text
    assert respond_few_shot(tiny, tokenizer, [], entries[:1]) == []
