import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from gptlab.data import find_format
from gptlab.decoding import ChatSession, Response, respond
from gptlab.peft import LoRA, apply, save_adapter
from gptlab.servers import LocalModel, ServerError
from gptlab.weights import load_checkpoint, save_checkpoint


def user(text):
    return [{"role": "user", "content": text}]


@pytest.fixture
def local(checkpoint_dir):
    return LocalModel(checkpoint_dir, max_new_tokens=8, device="cpu")


def test_a_question_is_answered_as_an_instruction(local, checkpoint_dir):
    model, tokenizer, template = load_checkpoint(checkpoint_dir)
    for text in ("Where is the home of Lumika?", "卢米卡的家在哪里？"):
        [expected] = respond(model, tokenizer, [{"instruction": text}], template, max_new_tokens=8)
        reply = local(user(text))
        assert reply == expected.text
        assert reply.reason == "length"


def test_what_was_said_before_is_read_as_in_a_chat(local, checkpoint_dir):
    model, tokenizer, template = load_checkpoint(checkpoint_dir)
    session = ChatSession(model, tokenizer, template, system="Be strict.", max_new_tokens=8)
    first, second = (text for question in ("One?", "Two?") for text in ["".join(session.ask(question)).strip()])
    messages = [{"role": "system", "content": "Be strict."}, *user("One?")]
    assert local(messages) == first
    messages += [{"role": "assistant", "content": session.turns[0].assistant}, *user("Two?")]
    assert local(messages) == second
    assert local(user("Two?")) != second


def test_a_model_that_was_tuned_on_conversations_answers_in_their_form(tiny, tokenizer, tmp_path):
    save_checkpoint(tmp_path / "chat", tiny, tokenizer, find_format("chatglm"))
    local = LocalModel(tmp_path / "chat", max_new_tokens=8, device="cpu")
    [expected] = respond(tiny, tokenizer, [{"instruction": "你好"}], "chatglm", max_new_tokens=8)
    assert local(user("你好")) == expected.text
    assert local.identity["template"]["format"] == "chatglm"


def test_an_adapter_answers_on_its_base(tiny, tokenizer, checkpoint_dir, tmp_path):
    plain = LocalModel(checkpoint_dir, max_new_tokens=8, device="cpu")
    apply(tiny, LoRA(rank=2))
    with torch.no_grad():
        for name, parameter in tiny.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    save_adapter(tiny, tmp_path / "adapter", notes={"base_model": str(checkpoint_dir)})
    tuned = LocalModel(tmp_path / "adapter", max_new_tokens=8, device="cpu")
    assert tuned.name == "adapter"
    assert tuned(user("Where?")) != plain(user("Where?"))
    assert tuned.identity["digest"] != plain.identity["digest"]


def test_the_identity_is_of_the_weights_and_not_of_the_place(local, checkpoint_dir, tiny, tokenizer, tmp_path):
    (tmp_path / "there").mkdir()
    moved = checkpoint_dir.rename(tmp_path / "there" / "tiny")
    assert LocalModel(moved, max_new_tokens=8, device="cpu").identity == local.identity
    with torch.no_grad():
        tiny.final_norm.shift += 1
    save_checkpoint(moved, tiny, tokenizer, "alpaca_short")
    assert LocalModel(moved, max_new_tokens=8, device="cpu").identity != local.identity


def test_threads_wait_for_one_another(local, monkeypatch):
    answering = []

    def slow(model, tokenizer, entries, *_, **__):
        answering.append(entries[0]["instruction"])
        time.sleep(0.01)
        said = " ".join(answering)
        answering.pop()
        return [Response(said, "stop")]

    monkeypatch.setattr("gptlab.decoding.respond", slow)
    texts = [f"Question {number}?" for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda text: local(user(text)), texts)) == texts


def test_a_question_longer_than_the_context_is_a_failure_of_its_own(local):
    with pytest.raises(ServerError, match="longer than the context of tiny, 160 tokens") as caught:
        local(user("Lumika " * 200))
    assert not caught.value.fatal


def test_an_empty_reply_is_a_failure(local, monkeypatch):
    monkeypatch.setattr("gptlab.decoding.respond", lambda *_, **__: [Response(" ", "stop")])
    with pytest.raises(ServerError, match="tiny sent an empty reply"):
        local(user("Where?"))


def test_where_there_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        LocalModel(tmp_path / "nowhere")


def test_no_tokens_at_all(checkpoint_dir):
    with pytest.raises(ValueError, match="max_new_tokens must be .* got 0"):
        LocalModel(checkpoint_dir, max_new_tokens=0)
