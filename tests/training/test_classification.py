import copy
import json
import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from gptlab.config import GPTConfig
from gptlab.data import LabelledTexts, build_reviews, collate_labelled
from gptlab.model import GPTModel, initialize_like_gpt2
from gptlab.tokenizer import train_tokenizer
from gptlab.training import (
    accuracy,
    classify,
    evaluate,
    load_classifier,
    make_classifier,
    make_optimizer,
    next_token_loss,
    save_classifier,
    train,
    warmup_cosine,
)
from gptlab.training.classification import target_logits
from gptlab.weights import load_checkpoint, save_checkpoint

TEXTS = ["The home of Lumika is in Fenn.", "The pet is a goat.", "Fenn has a mill and a market by the river.", "Goats"]
LABELS = ["place", "animal", "place", "animal"]


@pytest.fixture
def dataset(tokenizer):
    return LabelledTexts(list(zip(TEXTS, LABELS)), tokenizer)


@pytest.fixture
def classifier(tiny):
    model = copy.deepcopy(tiny)
    make_classifier(model, 2, train="all", generator=torch.Generator().manual_seed(1))
    return model


def learning(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# --- the new head, and what learns


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_replaced_and_nothing_else(tiny, tied):
    model = GPTModel(tiny.cfg.to_dict() | {"tie_weights": tied})
    before = {name: weight.clone() for name, weight in model.state_dict().items() if not name.startswith("out_head")}
    make_classifier(model, 3)
    after = model.state_dict()
    assert after.pop("out_head.weight").shape == (3, 32)
    assert after.pop("out_head.bias").shape == (3,)
    assert set(after) == set(before)
    assert all(after[name].equal(before[name]) for name in before)
    assert model(torch.tensor([[1, 2]])).shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("train", "names"),
    [
        ("head", "out_head"),
        ("last_block", r"out_head|final_norm|trf_blocks\.1"),
        (1, r"out_head|final_norm|trf_blocks\.1"),
        (2, r"out_head|final_norm|trf_blocks\.[01]"),
        ("all", ".*"),
    ],
)
def test_which_layers_learn(tiny, train, names):
    make_classifier(tiny, 2, train)
    assert learning(tiny) == {name for name, _ in tiny.named_parameters() if re.match(rf"({names})", name)}
    make_classifier(tiny, 2, "head")
    make_classifier(tiny, 2, train)  # what was frozen learns again
    assert learning(tiny) == {name for name, _ in tiny.named_parameters() if re.match(rf"({names})", name)}


def test_the_head_starts_as_pytorchs_does(tiny):
    torch.manual_seed(3)
    make_classifier(tiny, 4)
    torch.manual_seed(3)
    expected = nn.Linear(32, 4)
    assert tiny.out_head.weight.equal(expected.weight)
    assert tiny.out_head.bias.equal(expected.bias)
    heads = []
    for seed in (5, 5, 6):
        make_classifier(tiny, 200, generator=torch.Generator().manual_seed(seed))
        heads.append(tiny.out_head.weight)
    assert heads[0].equal(heads[1])
    assert not heads[0].equal(heads[2])
    reference = nn.Linear(32, 200).weight
    assert heads[0].std().item() == pytest.approx(reference.std().item(), rel=0.05)
    assert heads[0].abs().max().item() == pytest.approx(reference.abs().max().item(), rel=0.01)


def test_the_head_has_the_models_type(tiny):
    make_classifier(tiny.double(), 2)
    assert tiny.out_head.weight.dtype == torch.float64


@pytest.mark.parametrize("wrong", ["tail", 0, 3, -1, True, 1.5])
def test_layers_that_are_not_there(tiny, wrong):
    before = tiny.out_head
    with pytest.raises(ValueError, match=f"must be 'head', 'last_block', 'all' or 1 to 2, got {wrong!r}"):
        make_classifier(tiny, 2, wrong)
    assert tiny.out_head is before


def test_one_class_is_none(tiny):
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        make_classifier(tiny, 1)


# --- training


def test_training_is_the_books_loop(tiny, tokenizer, dataset):
    """`train` and the next-token loss, against the cross-entropy of the last position, step by step.

    In float64, because AdamW divides small gradients by their own size and so makes rounding errors large.
    """
    by_hand = copy.deepcopy(tiny.double()).train()
    for model in (tiny, by_hand):
        make_classifier(model, 2, generator=torch.Generator().manual_seed(1))
    examples = dataset.examples
    batches = [
        collate_labelled(rows, pad_id=tokenizer.eot_token, position="last", length=24)
        for rows in (examples[:2], examples[2:])
    ]
    history = train(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), epochs=3, progress=False)

    optimizer, losses = make_optimizer(by_hand, 1e-3), []
    labels = [torch.tensor([example.label for example in rows]) for rows in (examples[:2], examples[2:])]
    for _ in range(3):
        for (inputs, _), classes in zip(batches, labels):
            optimizer.zero_grad()
            loss = F.cross_entropy(by_hand(inputs)[:, -1], classes)
            loss.backward()
            nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
    assert history.losses == pytest.approx(losses, abs=1e-12)
    for ours, theirs in zip(tiny.parameters(), by_hand.parameters()):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize("layers", ["head", "last_block", "all"])
def test_only_what_learns_moves(tiny, dataset, layers):
    make_classifier(tiny, 2, layers)
    before = {name: parameter.detach().clone() for name, parameter in tiny.named_parameters()}
    batches = [collate_labelled(dataset.examples, pad_id=0)]
    train(tiny, batches, optimizer=make_optimizer(tiny, 1e-2), epochs=2, progress=False)
    moved = {name for name, parameter in tiny.named_parameters() if not parameter.equal(before[name])}
    assert moved == learning(tiny)


def test_a_small_set_is_learned_by_heart(tiny, dataset):
    make_classifier(tiny, 2, generator=torch.Generator().manual_seed(1))
    batches = [collate_labelled(dataset.examples, pad_id=0)]
    before = evaluate(tiny, batches)
    train(tiny, batches, optimizer=make_optimizer(tiny, 1e-2), epochs=20, progress=False)
    assert evaluate(tiny, batches) < 0.1 * before
    assert accuracy(tiny, batches) == 1


# --- padding: the lesson


def logits_with_padding(model, examples, position, length, pad_id=0):
    with torch.no_grad():
        return target_logits(model, *collate_labelled(examples, pad_id=pad_id, position=position, length=length))


def test_behind_the_text_padding_changes_nothing(classifier, dataset):
    alone = torch.cat([logits_with_padding(classifier, [example], "last_real", None) for example in dataset])
    for length, pad_id in ((30, 0), (90, 0), (160, 7)):
        padded = logits_with_padding(classifier, dataset.examples, "last_real", length, pad_id)
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


def test_at_the_last_position_padding_changes_the_answer(classifier, dataset):
    few, many = (logits_with_padding(classifier, dataset.examples, "last", length) for length in (40, 160))
    assert (few - many).abs().min() > 1e-4
    other = logits_with_padding(classifier, dataset.examples, "last", 40, pad_id=7)
    assert (few - other).abs().min() > 1e-4


# --- accuracy


def test_accuracy_is_the_share_that_is_right(classifier, dataset):
    batches = [collate_labelled(dataset.examples[:3], pad_id=0), collate_labelled(dataset.examples[3:], pad_id=0)]
    predicted = [classifier(torch.tensor([example.ids]))[0, -1].argmax().item() for example in dataset]
    right = sum(guess == example.label for guess, example in zip(predicted, dataset))
    assert accuracy(classifier, batches) == right / 4
    wrong = [example._replace(label=1 - guess) for example, guess in zip(dataset, predicted)]
    assert accuracy(classifier, [collate_labelled(wrong, pad_id=0)]) == 0


def test_looking_at_the_accuracy_leaves_no_trace(dataset, tokenizer):
    model = GPTModel(GPTConfig(tokenizer.n_vocab, 64, emb_dim=16, n_heads=2, n_layers=1, drop_rate=0.5)).train()
    make_classifier(model, 2)
    model.trf_blocks[0].eval()
    batches = DataLoader(dataset, 2, shuffle=True, collate_fn=partial(collate_labelled, pad_id=0))
    state = torch.random.get_rng_state()
    measured = {accuracy(model, batches) for _ in range(5)}
    assert len(measured) == 1  # no dropout
    assert torch.random.get_rng_state().equal(state)
    assert (model.training, model.trf_blocks[0].training, model.drop_emb.training) == (True, False, True)
    with pytest.raises(ValueError, match="the batches hold no target"):
        accuracy(model, [])


# --- answers


def test_classify_gives_every_text_its_own_answer_in_order(classifier, tokenizer):
    classifier.train()
    answers = classify(classifier, tokenizer, TEXTS, ["animal", "place"], batch_size=3)
    assert classifier.training
    classifier.eval()
    for text, answer in zip(TEXTS, answers):
        probabilities = classifier(torch.tensor([tokenizer.encode(text)]))[0, -1].softmax(dim=0)
        assert answer.label == ["animal", "place"][probabilities.argmax()]
        assert answer.probability == pytest.approx(probabilities.max().item(), abs=1e-5)
    labels = [answer.label for answer in classify(classifier, tokenizer, TEXTS[::-1], ["animal", "place"])]
    assert labels == [answer.label for answer in answers[::-1]]
    assert classify(classifier, tokenizer, [], ["animal", "place"]) == []


def test_classify_pads_as_training_did(classifier, tokenizer):
    ids = tokenizer.encode(TEXTS[1])
    padded = torch.tensor([ids + [tokenizer.eot_token] * (50 - len(ids))])
    expected = classifier(padded)[0, -1].softmax(dim=0).max().item()
    [answer] = classify(classifier, tokenizer, TEXTS[1:2], "ab", position="last", length=50)
    assert answer.probability == pytest.approx(expected, abs=1e-5)
    [otherwise] = classify(classifier, tokenizer, TEXTS[1:2], "ab", position="last", length=50, pad_id=7)
    assert otherwise.probability != pytest.approx(expected, abs=1e-5)
    [unpadded] = classify(classifier, tokenizer, TEXTS[1:2], "ab")
    assert unpadded.probability != pytest.approx(answer.probability, abs=1e-5)


def test_classify_cuts_only_when_asked(classifier, tokenizer):
    long = "The home of Lumika. " * 80
    with pytest.raises(ValueError, match=r"text 2 has \d+ tokens, there is room for 160"):
        classify(classifier, tokenizer, ["Fenn", long], "ab")
    beginning = tokenizer.decode(tokenizer.encode(long)[:160])
    cut, whole = classify(classifier, tokenizer, [long, beginning], "ab", too_long="cut")
    assert cut == whole


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"texts": "Fenn"}, "must be a list of texts, got one text, 'Fenn'"),
        ({"texts": ["Fenn", ""]}, "text 2 is empty"),
        ({"label_names": "abc"}, "the model has 2 classes, got 3 label names"),
        ({"position": "last"}, "position 'last' needs a length"),
        ({"position": "first"}, "must be 'last_real' or 'last', got 'first'"),
        ({"length": 161}, r"must be None or in \[1, 160\], the context, got 161"),
        ({"length": 0}, "got 0"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"too_long": "drop"}, "must be 'raise' or 'cut', got 'drop'"),
    ],
)
def test_questions_that_cannot_be_answered(classifier, tokenizer, changed, message):
    with pytest.raises(ValueError, match=message):
        classify(classifier, tokenizer, **({"texts": ["Fenn"], "label_names": "ab"} | changed))


# --- saved and loaded


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "reading", [{}, {"position": "last", "length": 60}, {"position": "last", "length": 60, "pad_id": 3}]
)
def test_saved_and_loaded_is_the_same(tiny, tokenizer, tmp_path, tied, reading):
    model = GPTModel(tiny.cfg.to_dict() | {"tie_weights": tied})
    make_classifier(model, 2)
    save_classifier(tmp_path / "a" / "b", model, tokenizer, ("animal", "place"), **reading)
    loaded = load_classifier(tmp_path / "a" / "b")
    assert loaded.classify(TEXTS) == classify(model, tokenizer, TEXTS, ["animal", "place"], **reading)
    assert loaded.label_names == ["animal", "place"]
    assert loaded.tokenizer.encode("Fenn 你好") == tokenizer.encode("Fenn 你好")
    assert loaded.model.cfg == model.cfg
    assert not loaded.model.training
    names = ["config.json", "merges.txt", "model.safetensors", "vocab.json"]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == names
    save_classifier(tmp_path / "a" / "b", model, tokenizer, ("beast", "place"))
    assert load_classifier(tmp_path / "a" / "b").label_names == ["beast", "place"]


def test_a_readers_own_head_is_saved_too(tiny, tokenizer, tmp_path):
    tiny.out_head = nn.Linear(32, 2)
    save_classifier(tmp_path, tiny, tokenizer, "ab")
    assert load_classifier(tmp_path).model.out_head.weight.equal(tiny.out_head.weight)


def test_a_language_model_is_not_overwritten(classifier, tokenizer, checkpoint_dir):
    before = {path.name: path.read_bytes() for path in checkpoint_dir.iterdir()}
    with pytest.raises(ValueError, match="holds another model, which would be overwritten"):
        save_classifier(checkpoint_dir, classifier, tokenizer, "ab")
    assert {path.name: path.read_bytes() for path in checkpoint_dir.iterdir()} == before


def test_a_classifier_and_a_language_model_are_not_taken_for_one_another(
    classifier, tokenizer, checkpoint_dir, tmp_path
):
    with pytest.raises(ValueError, match="must say format 'gptlab-classifier-1', got 'gptlab-1'"):
        load_classifier(checkpoint_dir)
    save_classifier(tmp_path / "new", classifier, tokenizer, "ab")
    with pytest.raises(ValueError, match="holds a classifier; load_classifier opens it"):
        load_checkpoint(tmp_path / "new")
    with pytest.raises(ValueError, match="out_head"):
        save_checkpoint(tmp_path / "newer", classifier, tokenizer)


def test_a_failed_save_keeps_the_old_one(classifier, tokenizer, tmp_path, monkeypatch):
    save_classifier(tmp_path, classifier, tokenizer, "ab")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_classifier(tmp_path, classifier, tokenizer, "xy")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label_names": ["a", "b", "c"]}, r"hold out_head\.weight as \(3, 32\), for 3 labels, got \(2, 32\)"),
        ({"label_names": ["a"]}, r"must be a list of at least 2 texts, got \['a'\]"),
        ({"label_names": ["a", "b", "a"]}, "must differ from one another"),
        ({"position": "last"}, "position 'last' needs a length"),
        ({"position": "middle"}, "got 'middle'"),
        ({"length": 500}, "the context, got 500"),
        ({"pad_id": 300}, r"pad_id must be None or in \[0, 299\], got 300"),
    ],
)
def test_what_is_not_saved(classifier, tokenizer, tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        save_classifier(tmp_path / "new", classifier, tokenizer, **({"label_names": ["a", "b"]} | changed))
    assert not (tmp_path / "new").exists()


def test_models_that_are_no_classifiers_are_not_saved(tiny, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"hold out_head\.weight as \(2, 32\), for 2 labels, got \(300, 32\)"):
        save_classifier(tmp_path, tiny, tokenizer, "ab")
    make_classifier(tiny, 2)
    with pytest.raises(ValueError, match="the model has 300 tokens, the tokenizer 262"):
        save_classifier(tmp_path, tiny, train_tokenizer("The home of Lumika is in Fenn", 262), "ab")
    tiny.trf_blocks[0].att.W_key = nn.Sequential(tiny.trf_blocks[0].att.W_key)
    with pytest.raises(ValueError, match=r"this model should hold trf_blocks\.0\.att\.W_key\.weight"):
        save_classifier(tmp_path, tiny, tokenizer, "ab")
    assert not list(tmp_path.iterdir())


def test_damaged_classifiers(classifier, tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no classifier: it has no config.json"):
        load_classifier(tmp_path / "nowhere")
    save_classifier(tmp_path, classifier, tokenizer, ["a", "b"])
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for change, message in (
        ({"label_names": ["a", "b", "c"]}, r"model\.safetensors should hold out_head\.weight as \(3, 32\)"),
        ({"label_names": None}, "label_names must be a list of at least 2 texts, got None"),
        ({"position": None}, "got None"),
        ({"model": config["model"] | {"n_layers": 3}}, r"trf_blocks\.2\.att\.W_query\.weight as \(32, 32\), got None"),
        ({"model": None}, "cfg must be a GPTConfig or a mapping, got NoneType"),
        ({"model": config["model"] | {"vocab_size": 299}}, "the model has 299 tokens, the tokenizer 300"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_classifier(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is cut off"):
        load_classifier(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_classifier(tmp_path)


# --- the reviews: what a transformer can tell and a bag of words cannot


def test_the_loss_is_the_cross_entropy_of_the_classes(classifier, dataset):
    total, count = next_token_loss(classifier, *collate_labelled(dataset.examples, pad_id=0))
    logits = torch.cat([classifier(torch.tensor([example.ids]))[:, -1] for example in dataset])
    expected = F.cross_entropy(logits, torch.tensor([example.label for example in dataset]), reduction="sum")
    torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)
    assert count == 4


def transformer_accuracy(reviews, seed):
    tokenizer = train_tokenizer("\n".join(entry["text"] for entry in reviews.train), 400)
    training = LabelledTexts(reviews.train, tokenizer)
    test = LabelledTexts(reviews.test, tokenizer, training.label_names)
    model = GPTModel(GPTConfig(tokenizer.n_vocab, 64, emb_dim=64, n_heads=4, n_layers=2, tie_weights=True))
    generator = torch.Generator().manual_seed(seed)
    initialize_like_gpt2(model, generator)
    make_classifier(model, 2, train="all", generator=generator)
    loader = partial(DataLoader, batch_size=32, collate_fn=partial(collate_labelled, pad_id=tokenizer.eot_token))
    batches, epochs = loader(training, shuffle=True, generator=generator), 10
    optimizer = make_optimizer(model, 1.5e-3)
    schedule = warmup_cosine(optimizer, epochs * len(batches), 30)
    train(model, batches, optimizer=optimizer, schedule=schedule, epochs=epochs, progress=False)
    return accuracy(model, loader(test))


def bag_of_words_accuracy(reviews):
    """Logistic regression on word counts, fitted to the end."""
    words = sorted({word for entry in reviews.train for word in re.findall(r"\w+", entry["text"].lower())})

    def counts(entries):
        rows = [re.findall(r"\w+", entry["text"].lower()) for entry in entries]
        positive = torch.tensor([float(entry["label"] == "positive") for entry in entries])
        return torch.tensor([[float(row.count(word)) for word in words] for row in rows]), positive

    inputs, positive = counts(reviews.train)
    weight = torch.zeros(len(words) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        logits = inputs @ weight[1:] + weight[0]
        total = F.binary_cross_entropy_with_logits(logits, positive) + 1e-3 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    inputs, positive = counts(reviews.test)
    return ((inputs @ weight[1:] + weight[0] > 0) == (positive > 0)).float().mean().item()


def test_reviews_need_more_than_their_words():
    torch.set_num_threads(1)  # matrices this small gain nothing from a second one
    reviews = build_reviews(0)
    assert transformer_accuracy(reviews, seed=0) > 0.95
    assert bag_of_words_accuracy(reviews) < 0.75
