import csv
import math
import re
import sys
import types
import zipfile

import pytest
import torch
from matplotlib import pyplot
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from gptlab.book.ch06 import (
    SpamDataset,
    calc_accuracy_loader,
    calc_loss_batch,
    calc_loss_loader,
    classify_review,
    create_balanced_dataset,
    download_and_unzip_spam_data,
    evaluate_model,
    plot_values,
    random_split,
    train_classifier_simple,
)
from gptlab.model import GPTModel

CFG = {"vocab_size": 300, "context_length": 24, "emb_dim": 16, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0}
ROWS = [("The home of Lumika", 0), ("Fenn", 1), ("Fenn has a mill and a market, by the river", 0), ("a goat", 1)]
BATCHES = [
    (torch.randint(0, 300, (3, 8), generator=torch.Generator().manual_seed(number)), torch.tensor([0, 1, number % 2]))
    for number in range(5)
]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request):
    """What readers write: a GPTModel, its layers frozen, a head of their own, the last block set to learn."""
    torch.manual_seed(0)
    model = GPTModel(CFG | {"qkv_bias": False, "tie_weights": request.param})
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.out_head = torch.nn.Linear(in_features=CFG["emb_dim"], out_features=2)
    for parameter in model.trf_blocks[-1].parameters():
        parameter.requires_grad = True
    for parameter in model.final_norm.parameters():
        parameter.requires_grad = True
    return model


@pytest.fixture
def csv_file(tmp_path):
    return write_csv(tmp_path / "train.csv", ROWS)


@pytest.fixture
def no_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("Label", "Text"), *((label, text) for text, label in rows)])
    return path


# --- the data set


@pytest.mark.usefixtures("no_pandas")
def test_rows_are_padded_to_the_longest(csv_file, tokenizer):
    dataset = SpamDataset(csv_file, tokenizer, pad_token_id=7)
    ids = [tokenizer.encode(text) for text, _ in ROWS]
    assert dataset.max_length == len(ids[2]) == max(map(len, ids))
    assert dataset.encoded_texts == [row + [7] * (dataset.max_length - len(row)) for row in ids]
    assert (len(dataset), dataset.cut) == (4, [])
    inputs, labels = next(iter(DataLoader(dataset, batch_size=4)))
    assert inputs.tolist() == dataset.encoded_texts
    assert labels.tolist() == [0, 1, 0, 1]
    assert inputs.dtype == labels.dtype == torch.int64
    assert dataset[3][1].shape == ()


def test_padding_is_gpt2s_end_of_text_unless_told(csv_file, tokenizer):
    assert SpamDataset(csv_file, tokenizer)[1][0][-1] == 50256


def test_longer_texts_are_cut_and_counted(csv_file, tokenizer):
    """As those of a validation set, which takes the training set's length."""
    dataset = SpamDataset(csv_file, tokenizer, max_length=4, pad_token_id=7)
    assert {len(row) for row in dataset.encoded_texts} == {dataset.max_length} == {4}
    ids = [tokenizer.encode(text) for text, _ in ROWS]
    assert dataset.encoded_texts[2] == ids[2][:4]
    assert dataset.cut == [(number, len(row)) for number, row in enumerate(ids, start=1) if len(row) > 4]
    longer = SpamDataset(csv_file, tokenizer, max_length=40, pad_token_id=7)
    assert longer.max_length == len(longer[0][0]) == 40


@pytest.mark.usefixtures("no_pandas")
def test_the_table_without_pandas(csv_file, tokenizer):
    data = SpamDataset(csv_file, tokenizer).data
    assert len(data) == 4
    assert list(data["Text"]) == [text for text, _ in ROWS]
    assert list(data["Label"]) == [0, 1, 0, 1]
    assert (data.iloc[2]["Label"], data.iloc[2]["Text"]) == (0, ROWS[2][0])


def test_the_table_is_a_dataframe_where_pandas_is(csv_file, tokenizer, monkeypatch):
    pandas = types.SimpleNamespace(DataFrame=lambda rows: ("a DataFrame", rows))
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    kind, rows = SpamDataset(csv_file, tokenizer).data
    assert kind == "a DataFrame"
    assert rows[1] == {"Label": 1, "Text": "Fenn"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Label,Text\nham,hello\n", "the label of row 1 must be a whole number, got 'ham'"),
        ("Label,Text\n0.5,hello\n", "got '0.5'"),
        ("0,hello\n", "no column 'Text'"),
        ("Label,Text\n0,hello, you\n", "line 2 has 3 fields for 2 columns"),
        ("", "holds no texts"),
    ],
)
def test_files_that_are_no_such_table(tmp_path, tokenizer, content, message):
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        SpamDataset(tmp_path / "a.csv", tokenizer)


def test_wrong_lengths(csv_file, tokenizer, model):
    with pytest.raises(ValueError, match="max_length must be >= 1 or None, got 0"):
        SpamDataset(csv_file, tokenizer, max_length=0)
    with pytest.raises(ValueError, match="max_length must be >= 1 or None, got -2"):
        classify_review("Fenn", model, tokenizer, "cpu", max_length=-2)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        SpamDataset(csv_file.parent / "nowhere.csv", tokenizer)


# --- balancing and splitting


class Frame:
    """As much of a DataFrame as is asked for, so that the tests need no pandas."""

    def __init__(self, labels, index=None):
        self.labels, self.index = labels, list(range(len(labels))) if index is None else index

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, key):
        return Frame(self.labels[key], self.index[key]) if isinstance(key, slice) else {"Label": self.labels}[key]

    @property
    def iloc(self):
        frame = self

        class ByPosition:
            def __getitem__(self, numbers):
                return Frame([frame.labels[n] for n in numbers], [frame.index[n] for n in numbers])

        return ByPosition()

    def reset_index(self, *, drop):
        assert drop
        return Frame(self.labels)


# What pandas 2.3.3 and 3.1.1 draw: DataFrame.sample(..., random_state=123) of 12 rows, and 3 of 9.
ALL_OF_12 = [5, 0, 4, 9, 8, 7, 10, 3, 1, 6, 11, 2]
THREE_OF_9 = [7, 0, 5]


def test_the_rows_are_those_that_pandas_draws():
    labels = ["spam", *["ham"] * 5, "spam", *["ham"] * 4, "spam"]  # the ham are the rows 1 to 5 and 7 to 10
    ham = [number for number, label in enumerate(labels) if label == "ham"]
    balanced = create_balanced_dataset(Frame(labels))
    assert balanced.index == [ham[number] for number in THREE_OF_9] + [0, 6, 11]
    assert balanced.labels == ["ham"] * 3 + ["spam"] * 3
    rows = [{"Label": label, "Text": str(number)} for number, label in enumerate(labels)]
    assert create_balanced_dataset(rows) == [rows[number] for number in balanced.index]

    letters = list("abcdefghijkl")
    parts = random_split(Frame(letters), 0.5, 0.25)
    assert [part.labels for part in parts] == [
        [letters[number] for number in numbers] for numbers in (ALL_OF_12[:6], ALL_OF_12[6:9], ALL_OF_12[9:])
    ]
    assert [part.index for part in parts] == [[0, 1, 2, 3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert random_split(letters, 0.5, 0.25) == tuple(part.labels for part in parts)


def test_the_test_part_may_be_empty():
    assert [len(part) for part in random_split(list(range(10)), 0.8, 0.2)] == [8, 2, 0]


@pytest.mark.parametrize(("train", "validation"), [(0.9, 0.2), (0.95, 0.04), (0.0, 0.5), (0.7, 0.0), (1.5, -0.6)])
def test_splits_that_are_none(train, validation):
    with pytest.raises(ValueError, match=f"shares of {train} and {validation} split 10 rows"):
        random_split(list(range(10)), train, validation)


@pytest.mark.parametrize(("labels", "found"), [(["ham"] * 3, "0 and 3"), ([0, 1, 1], "0 and 0"), (["spam"], "1 and 0")])
def test_nothing_to_balance(labels, found):
    with pytest.raises(ValueError, match=f"at least as many 'ham', got {found}"):
        create_balanced_dataset(Frame(labels))


# --- the download


def spam_zip(path, name="SMSSpamCollection"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "ham\thello\n")
        archive.writestr("readme", "about")
    return path


def download(url, tmp_path):
    data_file = tmp_path / "sms" / "SMSSpamCollection.tsv"
    download_and_unzip_spam_data(url, tmp_path / "sms.zip", tmp_path / "sms", data_file)
    return data_file.read_text(encoding="utf-8")


def test_the_collection_is_downloaded_unpacked_and_then_left_alone(tmp_path, capsys):
    url = spam_zip(tmp_path / "there.zip").as_uri()
    assert download(url, tmp_path) == "ham\thello\n"
    assert "File downloaded and saved as" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "sms").iterdir()) == ["SMSSpamCollection.tsv", "readme"]
    assert download("file:///nowhere", tmp_path) == "ham\thello\n"
    assert "already exists. Skipping download and extraction." in capsys.readouterr().out


def test_a_zip_file_fetched_by_hand_will_do(tmp_path):
    spam_zip(tmp_path / "sms.zip")
    assert download("file:///nowhere", tmp_path) == "ham\thello\n"


def test_a_failed_download_does_not_go_on(tmp_path, capsys):
    with pytest.raises(ConnectionError, match="could not be downloaded from file:///nowhere"):
        download("file:///nowhere", tmp_path)
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())


def test_what_is_no_spam_collection(tmp_path):
    (tmp_path / "page.html").write_text("Please log in", encoding="utf-8")
    with pytest.raises(ValueError, match=r"sms\.zip, from file:.*page.html, is no zip file"):
        download((tmp_path / "page.html").as_uri(), tmp_path)
    other = spam_zip(tmp_path / "other.zip", name="another")
    with pytest.raises(ValueError, match=r"does not hold SMSSpamCollection, but \['another', 'readme'\]"):
        download(other.as_uri(), tmp_path)


# --- loss and accuracy


def test_the_loss_is_that_of_the_last_position(model):
    inputs, classes = BATCHES[0]
    loss = calc_loss_batch(inputs, classes, model, "cpu")
    expected = torch.stack([-F.log_softmax(model(inputs)[row, -1], dim=0)[classes[row]] for row in range(3)]).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert model.out_head.weight.grad.abs().sum() > 0
    assert model.tok_emb.weight.grad is None
    with pytest.raises(ValueError, match=r"one class a row, \(3,\), got \(3, 8\)"):
        calc_loss_batch(inputs, inputs, model, "cpu")


def test_a_loader_is_the_mean_of_its_batches(model):
    each = [calc_loss_batch(*batch, model, "cpu").item() for batch in BATCHES]
    assert calc_loss_loader(BATCHES, model, "cpu") == pytest.approx(sum(each) / 5)
    assert calc_loss_loader(BATCHES, model, "cpu", num_batches=2) == pytest.approx(sum(each[:2]) / 2)
    assert calc_loss_loader(BATCHES, model, "cpu", num_batches=9) == pytest.approx(sum(each) / 5)
    model.train()
    assert evaluate_model(model, BATCHES[:2], BATCHES[2:], "cpu", eval_iter=1) == pytest.approx((each[0], each[2]))
    assert model.training


def test_accuracy_is_the_share_that_is_right(model):
    model.eval()
    right = [(model(inputs)[:, -1].argmax(dim=-1) == classes).tolist() for inputs, classes in BATCHES]
    model.train()
    assert calc_accuracy_loader(BATCHES, model, "cpu") == sum(map(sum, right)) / 15
    assert calc_accuracy_loader(BATCHES, model, "cpu", num_batches=2) == sum(map(sum, right[:2])) / 6
    assert calc_accuracy_loader(BATCHES, model, "cpu", num_batches=9) == sum(map(sum, right)) / 15
    assert not model.training  # as in the book, so that a loss that is measured next has no dropout in it


def test_nothing_to_measure_is_not_a_number(model):
    for measure in (calc_loss_loader, calc_accuracy_loader):
        assert math.isnan(measure([], model, "cpu"))
        assert math.isnan(measure([], model, "cpu", num_batches=3))
        assert math.isnan(measure(BATCHES, model, "cpu", num_batches=0))
        with pytest.raises(ValueError, match="num_batches must be >= 0, got -1"):
            measure(BATCHES, model, "cpu", num_batches=-1)


# --- training


def test_training_prints_and_returns_what_the_books_does(model, capsys):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {"tok_emb.weight", "trf_blocks.0.att.W_query.weight"} <= frozen
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    results = train_classifier_simple(
        model, BATCHES[:3], BATCHES[3:], optimizer, "cpu", num_epochs=4, eval_freq=5, eval_iter=2
    )
    train_losses, val_losses, train_accs, val_accs, examples_seen = results
    assert (len(train_losses), len(val_losses), len(train_accs), len(val_accs)) == (3, 3, 4, 4)
    assert examples_seen == 4 * 3 * 3
    assert train_losses[-1] < train_losses[0]
    assert train_accs[-1] == calc_accuracy_loader(BATCHES[:3], model, "cpu", num_batches=2)
    assert not model.training
    assert {name for name, weight in model.state_dict().items() if weight.equal(before[name])} == frozen

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + 4
    assert [line[:20] for line in lines if line.startswith("Ep")] == [
        "Ep 1 (Step 000000): ",
        "Ep 2 (Step 000005): ",
        "Ep 4 (Step 000010): ",
    ]
    assert lines[0].endswith(f"Train loss {train_losses[0]:.3f}, Val loss {val_losses[0]:.3f}")
    assert lines[1] == (
        f"Training accuracy: {train_accs[0] * 100:.2f}% | Validation accuracy: {val_accs[0] * 100:.2f}%"
    )


def test_a_step_is_what_pytorch_does_by_hand(model):
    by_hand = GPTModel(model.cfg)
    by_hand.out_head = nn.Linear(16, 2)
    by_hand.load_state_dict(model.state_dict())
    for parameter, like in zip(by_hand.parameters(), model.parameters()):
        parameter.requires_grad = like.requires_grad
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for inputs, classes in BATCHES:
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(by_hand(inputs)[:, -1], classes).backward()
        optimizer.step()
    train_classifier_simple(model, BATCHES, [], torch.optim.SGD(model.parameters(), lr=0.1), "cpu", 1, 100, 1)
    for ours, theirs in zip(model.parameters(), by_hand.parameters()):
        torch.testing.assert_close(ours, theirs)


def test_training_on_nothing(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="eval_freq must be >= 1, got 0"):
        train_classifier_simple(model, BATCHES, BATCHES, optimizer, "cpu", 1, 0, 1)
    with pytest.raises(ValueError, match="train_loader has 0 batches"):
        train_classifier_simple(model, [], BATCHES, optimizer, "cpu", 1, 1, 1)


def test_a_plot_holds_the_values_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figure = plot_values(torch.linspace(0, 2, 3), [10, 20, 30], [0.5, 0.7, 0.9], [0.4, 0.6, 0.8], label="accuracy")
    lower, upper = figure.axes
    assert [line.get_ydata().tolist() for line in lower.lines] == [[0.5, 0.7, 0.9], [0.4, 0.6, 0.8]]
    assert [text.get_text() for text in lower.get_legend().get_texts()] == ["Training accuracy", "Validation accuracy"]
    assert (lower.get_xlabel(), lower.get_ylabel(), upper.get_xlabel()) == ("Epochs", "Accuracy", "Examples seen")
    assert upper.lines[0].get_xdata().tolist() == [10, 20, 30]
    assert list(tmp_path.iterdir()) == []
    assert pyplot.gcf() is figure
    pyplot.close("all")


# --- answers


def class_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]))[0, -1].argmax().item()


def test_a_review_is_padded_and_cut_as_in_training(model, tokenizer):
    texts = ["Fenn", "a goat", "The home of Lumika", "by the river", "The pet of Lumika is a goat. " * 9]
    answers = set()
    for text in texts:
        ids = tokenizer.encode(text)
        for max_length in (6, 20):
            row = ids[:max_length] + [299] * (max_length - len(ids))
            answer = classify_review(text, model, tokenizer, "cpu", max_length=max_length, pad_token_id=299)
            assert (answer == "spam") == (class_of(model, row) == 1)
            answers.add(answer)
    with torch.no_grad():
        model.out_head.bias += torch.tensor([-100.0, 100.0])
    answers.add(classify_review("Fenn", model, tokenizer, "cpu", max_length=6, pad_token_id=299))
    with torch.no_grad():
        model.out_head.bias += torch.tensor([200.0, -200.0])
    answers.add(classify_review("Fenn", model, tokenizer, "cpu", max_length=6, pad_token_id=299))
    assert answers == {"spam", "not spam"}


def seen_by(model, text, tokenizer, **options):
    """The ids that `classify_review` shows the model."""
    seen = []
    handle = model.tok_emb.register_forward_hook(lambda module, inputs, output: seen.extend(inputs[0].tolist()))
    classify_review(text, model, tokenizer, "cpu", pad_token_id=299, **options)
    handle.remove()
    [ids] = seen
    return ids


def test_the_context_not_the_width_is_the_limit(model, tokenizer):
    """Here the context, 24, is longer than the width, 16; with no max_length nothing is padded."""
    long = "The pet of Lumika is a goat. " * 9
    assert seen_by(model, long, tokenizer) == tokenizer.encode(long)[:24]
    assert seen_by(model, long, tokenizer, max_length=20) == tokenizer.encode(long)[:20]
    assert seen_by(model, long, tokenizer, max_length=90) == tokenizer.encode(long)[:24]
    short = tokenizer.encode("a goat")
    assert seen_by(model, "a goat", tokenizer) == short
    assert seen_by(model, "a goat", tokenizer, max_length=90) == short + [299] * (24 - len(short))


def test_a_review_leaves_evaluation_mode(model, tokenizer):
    model.train()
    classify_review("Fenn", model, tokenizer, "cpu")
    assert not model.training


def test_an_empty_review(model, tokenizer):
    assert seen_by(model, "", tokenizer, max_length=3) == [299] * 3
    with pytest.raises(ValueError, match="the text has no tokens, got ''"):
        classify_review("", model, tokenizer, "cpu")


def test_the_whole_chapter_without_pandas(tmp_path, tokenizer, no_pandas):
    """From rows with words for labels to an answer, as a reader writes it."""
    rows = [{"Label": "spam", "Text": f"Fenn has {n} goats"} for n in range(20)]
    rows += [{"Label": "ham", "Text": f"The mill by the river, {n}"} for n in range(30)]
    parts = random_split(create_balanced_dataset(rows), 0.7, 0.1)
    assert [len(part) for part in parts] == [28, 4, 8]
    for name, part in zip(("train", "validation", "test"), parts):
        write_csv(tmp_path / f"{name}.csv", [(row["Text"], {"ham": 0, "spam": 1}[row["Label"]]) for row in part])
    train = SpamDataset(tmp_path / "train.csv", tokenizer, pad_token_id=299)
    loaders = {
        name: DataLoader(SpamDataset(tmp_path / f"{name}.csv", tokenizer, train.max_length, 299), batch_size=8)
        for name in ("train", "validation", "test")
    }
    torch.manual_seed(123)
    gpt = GPTModel(CFG | {"qkv_bias": True})
    gpt.out_head = torch.nn.Linear(in_features=16, out_features=2)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-2)
    train_classifier_simple(gpt, loaders["train"], loaders["validation"], optimizer, "cpu", 5, 50, 5)
    assert calc_accuracy_loader(loaders["test"], gpt, "cpu") == 1
    answers = [
        classify_review(text, gpt, tokenizer, "cpu", max_length=train.max_length, pad_token_id=299)
        for text in ("Fenn has 99 goats", "The mill by the river, 99")
    ]
    assert answers == ["spam", "not spam"]
    assert re.fullmatch(r"(not )?spam", classify_review("Fenn has 99 goats", gpt, tokenizer, "cpu"))
