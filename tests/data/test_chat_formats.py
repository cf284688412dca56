"""Formats against other implementations: MOSS's loop, Hugging Face's chat templates, ChatGLM's prompt, the book's."""

import json

import pytest
from conversations import MOSS_TOKENS, TALK, WITH_TOOLS, with_specials
from transformers import PreTrainedTokenizerFast

from gptlab.data import (
    FORMATS,
    LOSS_RULES,
    Conversation,
    ConversationDataset,
    Template,
    Turn,
    encode,
    find_format,
    load_template,
    no_loss_spans,
    render,
    template_or_format,
    to_moss,
)
from gptlab.data.chat_formats import ChatGLM
from gptlab.tokenizer import END_OF_TEXT, gpt2_tokenizer, tokenizer_files


@pytest.fixture(scope="module")
def gpt2():
    return gpt2_tokenizer()


def as_moss_does(record, tokenizer, limit):
    """The ids and spans without loss as finetune_moss.py computes them, or None for a sample that it leaves out."""

    def ids_of(text):
        return tokenizer.encode(text, allowed_special=set(MOSS_TOKENS))

    ids = ids_of(record["meta_instruction"])
    start, spans = len(ids), [(0, len(ids))]
    for number in range(int(record["num_turns"])):
        turn_ids, turn_spans = [], []
        for key, value in record["chat"][f"turn_{number + 1}"].items():
            part = ids_of(value)
            if key == "Tool Responses":
                before = len(ids) + len(turn_ids)
                turn_spans.append((before + 5, before + len(part) - 2))
            turn_ids += part
        if len(ids) + len(turn_ids) > limit:
            break
        ids, spans = ids + turn_ids, spans + turn_spans
    return (ids, spans) if len(ids) > start else None


@pytest.mark.parametrize("talk", [TALK, WITH_TOOLS], ids=["plain", "tools"])
@pytest.mark.parametrize("limit", [2048, 150, 90, 60])
def test_moss_ids_and_spans_are_those_of_its_own_code(gpt2, talk, limit):
    tokenizer = with_specials(gpt2, MOSS_TOKENS)
    expected = as_moss_does(to_moss(talk), tokenizer, limit)
    if expected is None:
        with pytest.raises(ValueError, match=f"1 dropped and 0 turns left out for the length of {limit}"):
            ConversationDataset([to_moss(talk)], tokenizer, max_length=limit)
    else:
        [example] = ConversationDataset([to_moss(talk)], tokenizer, max_length=limit).examples
        assert example.ids == expected[0]
        assert no_loss_spans(example.trained) == [span for span in expected[1] if span[0] < span[1]]


def test_moss_names_its_results_in_five_tokens(gpt2):
    assert len(gpt2.encode_ordinary("<|Results|>:")) == 5  # the 5 of MOSS's code


# Written from the description of ChatML and of Phi-3's model card; {% generation %} marks what carries loss.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
)
PHI3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}{% else %}"
    "{{ message['content'] + '<|end|>' }}{% endif %}{{ '\n' }}{% endfor %}{{ eos_token }}"
)


@pytest.mark.parametrize(("name", "jinja"), [("chatml", CHATML), ("phi3", PHI3)])
def test_ids_and_masks_are_those_of_a_chat_template_of_transformers(gpt2, tmp_path, name, jinja):
    from tokenizers import ByteLevelBPETokenizer

    form = find_format(name)
    ours = with_specials(gpt2, form.markers)
    for file, text in tokenizer_files(gpt2).items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    bpe = ByteLevelBPETokenizer.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    theirs = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=END_OF_TEXT)
    theirs.add_special_tokens({"additional_special_tokens": form.markers})
    options = {"chat_template": jinja, "tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    found = theirs.apply_chat_template(TALK.messages(), **options)
    example = encode(render(TALK, form), ours)
    assert example.ids == found["input_ids"]
    assert example.trained == [bool(learned) for learned in found["assistant_masks"]]


@pytest.mark.parametrize("first_round", [0, 1])
def test_chatglm_joins_history_and_question_as_its_own_code(tokenizer, first_round):
    form = ChatGLM(first_round=first_round, ends_in_history=False)
    for count in range(len(TALK.turns)):
        history, asked = TALK.turns[:count], TALK.turns[count]
        prompt = "".join(
            f"[Round {number + first_round}]\n问：{turn.user}\n答：{turn.assistant}\n"
            for number, turn in enumerate(history)
        )
        prompt += f"[Round {count + first_round}]\n问：{asked.user}\n答："
        segments = form.prompt_segments(Conversation(TALK.turns[: count + 1]))
        assert "".join(segment.text for segment in segments) == prompt
        assert not any(segment.control for segment in segments)


def test_one_turn_of_a_stretched_template_is_the_template(gpt2):
    entry = {"instruction": "Where is Fenn?", "input": "", "output": "By the river."}
    for name in ("alpaca", "alpaca_short", "book", "bayling", "plain", "dialogue"):
        template = load_template(name)
        assert encode(render(entry, name), gpt2) == encode(template.segments(entry), gpt2)


def test_bayling_says_its_opening_once():
    text = "".join(segment.text for segment in render(Conversation(TALK.turns), "bayling"))
    assert text.startswith("I am an intelligent language assistant")
    assert text.count("Below is a dialog") == 1
    assert text.count("### Instruction:\n") == text.count("\n### Response:\n") == 3
    own = "".join(segment.text for segment in render(TALK, "bayling"))
    assert own.startswith("You are a guide.\n\n\n### Instruction:\n")


def test_the_books_form_of_phi3(tokenizer):
    turn = Conversation([Turn("Where is Fenn?", "By the river.")])
    example = encode(render(turn, "phi3_book"), tokenizer)
    text = "<|user|>\nWhere is Fenn?\n<|assistant|>:\nBy the river."
    assert tokenizer.decode(example.ids) == f"{text}{END_OF_TEXT}\n"
    assert find_format("phi3_book").markers == []


def everything():
    return [*FORMATS, "alpaca", ChatGLM(1, False)]


@pytest.mark.parametrize("form", everything(), ids=str)
def test_an_asked_question_is_the_beginning_of_its_answer(form):
    """What a chat shows the model before an answer is what stood before the answer in tuning."""
    for count in range(1, 4):
        whole = render(Conversation(TALK.turns[:count], TALK.system), form)
        asked = find_format(form).prompt_segments(Conversation(TALK.turns[:count], TALK.system))
        assert [segment.text for segment in asked] == [segment.text for segment in whole[: len(asked)]]
        assert whole[len(asked)].text.strip() == TALK.turns[count - 1].assistant
        assert whole[len(asked) + 1].text == find_format(form).end_of_answer.text
        assert whole[len(asked) + 1].trained


@pytest.mark.parametrize("form", everything(), ids=str)
def test_the_answers_and_their_ends_carry_loss(form):
    segments = [segment for segment in render(TALK, form, loss_on="assistant") if segment.trained]
    answers, ends = segments[::2], segments[1::2]
    if form == ChatGLM(1, False):
        assert [s.text for s in segments] == [*(turn.assistant for turn in TALK.turns), END_OF_TEXT]
        return
    assert [answer.text.strip() for answer in answers] == [turn.assistant for turn in TALK.turns]
    assert {end.text for end in ends} == {find_format(form).end_of_answer.text}


def test_loss_rules_name_what_is_learned(tokenizer):
    texts = {rule: [s.text for s in render(WITH_TOOLS, loss_on=rule) if s.trained] for rule in LOSS_RULES}
    assert texts["last"] == [" I do not know.", "<eom>"]
    assert texts["assistant"][-2:] == texts["last"]
    untrained = [s.text for s in render(WITH_TOOLS) if not s.trained]
    assert untrained == [WITH_TOOLS.system, " None", "\nSearch =>\n<|1|>: 12 km\n", "\n\n"]
    assert all(s.trained for s in render(WITH_TOOLS, loss_on="all"))


@pytest.mark.parametrize("form", everything(), ids=str)
def test_what_users_type_is_never_a_control_token(gpt2, form):
    tokenizer = with_specials(gpt2, find_format(form).markers)
    typed = "".join([*find_format(form).markers, END_OF_TEXT])
    plain = Conversation([Turn("Hello", "Hi")])
    nasty = Conversation([Turn(f"Hello{typed}", f"Hi{typed}")], typed)
    special = set(tokenizer._special_tokens.values())

    def controls(talk):
        return sum(token in special for token in encode(render(talk, form), tokenizer).ids)

    opening = len([s for s in render(nasty, form) if s.control]) - len([s for s in render(plain, form) if s.control])
    assert controls(nasty) == controls(plain) + opening


@pytest.mark.parametrize("form", everything(), ids=str)
def test_a_format_survives_json(form):
    form = find_format(form)
    assert template_or_format(json.loads(json.dumps(form.to_dict()))) == form


def test_doors(tmp_path):
    with pytest.raises(ValueError, match=r"no template is called 'mosss'; .*formats of conversations are \['moss'"):
        render(TALK, "mosss")
    with pytest.raises(
        ValueError, match=r"loss_on must be one of \['assistant', 'last', 'moss', 'all'\], got 'answers'"
    ):
        render(TALK, loss_on="answers")
    for form in everything()[1:]:
        with pytest.raises(ValueError, match="has no place for thoughts"):
            render(WITH_TOOLS, form)
        assert render(WITH_TOOLS.without_tools(), form)
    with pytest.raises(ValueError, match="first_round must be 0 or 1, got 2"):
        ChatGLM(first_round=2)
    with pytest.raises(ValueError, match=r"format must be one of \['moss'.*got 'llama'"):
        template_or_format({"format": "llama"})
    with pytest.raises(ValueError, match="format 'chatglm'.*'rounds'"):
        template_or_format({"format": "chatglm", "rounds": 1})
    with pytest.raises(ValueError, match=r"'prompt_no_input' must hold \{instruction\}"):
        template_or_format(
            {
                "format": "template",
                "template": {
                    "name": "x",
                    "prompt_input": "{instruction}{input}",
                    "prompt_no_input": "a",
                    "response_split": "",
                },
            }
        )
    path = tmp_path / "own.json"
    own = {"prompt_input": "{instruction} {input}", "prompt_no_input": "{instruction} {context}", "response_split": ""}
    path.write_text(json.dumps(own), encoding="utf-8")
    with pytest.raises(ValueError, match=r"'prompt_no_input' has \{context\}; allowed are \{instruction\}"):
        render(TALK, path)


def test_braces_in_the_data_stay():
    template = Template("t", "{instruction} {input}:", "Q {instruction} {1}\n", "")
    talk = Conversation([Turn("{instruction} {x} {", "{input}")])
    assert (
        "".join(s.text for s in render(talk, template)) == f"Q {{instruction}} {{x}} {{ {{1}}\n{{input}}{END_OF_TEXT}"
    )


LITERALLY = {
    "moss": "Kind.\n<|Human|>: Hi<eoh>\n<|Inner Thoughts|>: None<eot>\n<|Commands|>: None<eoc>\n"
    "<|Results|>: None<eor>\n<|MOSS|>: Yes<eom>\n",
    "chatglm": f"Kind.\n[Round 0]\n问：Hi\n答：Yes{END_OF_TEXT}\n",
    "chatml": "<|im_start|>system\nKind.\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nYes<|im_end|>\n",
    "phi3": f"<|system|>\nKind.\n<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nYes<|end|>\n{END_OF_TEXT}",
    "phi3_book": f"Kind.\n\n<|user|>\nHi\n<|assistant|>:\nYes{END_OF_TEXT}\n",
    "alpaca": f"Kind.\n\n\n### Instruction:\nHi\n\n### Response:\nYes{END_OF_TEXT}",
    "dialogue": f"Kind.\n\n\nHi\nYes{END_OF_TEXT}",
}


@pytest.mark.parametrize("form", LITERALLY)
def test_every_format_to_the_letter(form):
    talk = Conversation([Turn("Hi", "Yes")], "Kind.\n")
    assert "".join(segment.text for segment in render(talk, form)) == LITERALLY[form]


def test_a_placeholder_may_come_twice_and_must_come_once():
    twice = Template("t", "{instruction}{input}", "Q {instruction} again {instruction}:", "")
    [prompt] = render([{"role": "user", "content": "{instruction}?"}], twice)
    assert prompt.text == "Q {instruction}? again {instruction}?:"
    with pytest.raises(ValueError, match=r"template 'none': 'prompt_no_input' must hold \{instruction\}"):
        render(TALK, Template("none", "{instruction}{input}", "Q:", ""))


def test_an_answer_is_not_looked_at_when_it_is_asked_for():
    for entry in ({"instruction": "a", "output": ""}, {"instruction": "a", "output": None}, {"instruction": "a"}):
        assert find_format("dialogue").prompt_segments(entry)[0].text == "a\n"
    dolly = {"instruction": "a", "context": "b", "response": ""}
    assert find_format("dialogue").prompt_segments(dolly)[0].text == "a\nb\n"


@pytest.mark.parametrize(
    ("damaged", "error"),
    [
        ("alpaca", "a template must be an object, got 'alpaca'"),
        ({"format": ["a"]}, r"format must be one of .*got \['a'\]"),
        ({"format": "template", "template": "x"}, "a template must be an object, got 'x'"),
        ({"format": "moss", "tuned_length": "many"}, "tuned_length must be a number, got 'many'"),
    ],
)
def test_damaged_formats_are_said(damaged, error):
    with pytest.raises(ValueError, match=error):
        template_or_format(damaged)
