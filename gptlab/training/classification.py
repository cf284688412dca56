"""From a language model to a classifier: another head, the layers that learn, how often it is right, and its answers.

The training itself is `train`: with targets as `collate_labelled` makes them, the next-token loss is the cross-entropy
of the classes.

Source: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from gptlab.config import GPTConfig
from gptlab.data.batching import IGNORE_INDEX
from gptlab.data.classification import LabelledExample, Position, TooLongText, collate_labelled, encode_texts
from gptlab.files import read_json, to_json, write_together
from gptlab.model import GPTModel, evaluation_mode
from gptlab.tokenizer import (
    END_OF_TEXT,
    VOCABULARY_FILES,
    Tokenizer,
    as_tokenizer,
    control_id,
    load_tokenizer,
    tokenizer_files,
)
from gptlab.training.loss import Batch
from gptlab.training.random_states import own_random_numbers
from gptlab.weights.checkpoint import check_replaceable
from gptlab.weights.gpt2 import check_own_weights, open_weights
from gptlab.weights.huggingface import check_vocabulary

CLASSIFIER_FORMAT = "gptlab-classifier-1"  # what config.json of a classifier says
WEIGHTS = "model.safetensors"


def make_classifier(
    model: GPTModel,
    num_classes: int,
    train: Literal["head", "last_block", "all"] | int = "last_block",
    generator: torch.Generator | None = None,
) -> None:
    """Give `model` a new head with one score for each class, in place, and choose which of its layers learn.

    A tied head is let go of: the embeddings keep their weight, and stay frozen or not with the rest.

    Args:
        model: stays on its device.
        num_classes: at least 2.
        train: "head" alone; "last_block", which is the head, the final norm and the last transformer block, as in the
            book; "all"; or a number, of the last transformer blocks that learn with the final norm and the head.
        generator: draws the head's weights; None takes the global random state.

    Raises:
        ValueError: there are fewer than 2 classes, or `train` is something else.
    """
    blocks = list(model.trf_blocks)
    counts = {"head": 0, "last_block": 1, "all": len(blocks), **{count: count for count in range(1, len(blocks) + 1)}}
    if train not in counts or isinstance(train, bool):
        raise ValueError(f"train must be 'head', 'last_block', 'all' or 1 to {len(blocks)}, got {train!r}")
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"a classifier needs at least 2 classes, got {num_classes!r}")
    head = nn.Linear(model.cfg.emb_dim, num_classes)
    if generator is not None:
        bound = 1 / math.sqrt(model.cfg.emb_dim)  # of nn.Linear
        nn.init.uniform_(head.weight, -bound, bound, generator=generator)
        nn.init.uniform_(head.bias, -bound, bound, generator=generator)
    model.out_head = head.to(model.tok_emb.weight)
    model.requires_grad_(train == "all")
    model.out_head.requires_grad_(True)
    for module in [model.final_norm, *blocks[-counts[train] :]] if counts[train] else []:
        module.requires_grad_(True)


def target_logits(model: GPTModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the logits at the positions that have a target, row after row, (targets, classes)."""
    features = model.forward_embeddings(model.embed(inputs))  # (B, T, D)
    return model.out_head(features[targets != IGNORE_INDEX])


@torch.no_grad()
def accuracy(model: GPTModel, batches: Iterable[Batch], device: torch.device | str | None = None) -> float:
    """Return the share of targets that get the highest logit, in [0, 1].

    Training goes on afterwards as if nobody had looked, as after `evaluate`.

    Raises:
        ValueError: there is no target at all.
    """
    device = next(model.parameters()).device if device is None else torch.device(device)
    right, count = 0, 0
    with evaluation_mode(model), own_random_numbers(device):
        for inputs, targets in batches:
            inputs, targets = inputs.to(device), targets.to(device)
            wanted = targets[targets != IGNORE_INDEX]
            right += int((target_logits(model, inputs, targets).argmax(dim=-1) == wanted).sum())
            count += len(wanted)
    if not count:
        raise ValueError("nothing to evaluate: the batches hold no target")
    return right / count


class Classified(NamedTuple):
    """What a text was taken for, and the probability that the model gives to that, in (0, 1]."""

    label: str
    probability: float


@torch.no_grad()
def classify(
    model: GPTModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    label_names: Sequence[str],
    *,
    position: Position = "last_real",
    length: int | None = None,
    pad_id: int | None = None,
    too_long: TooLongText = "raise",
    batch_size: int = 32,
) -> list[Classified]:
    """Return the label of each text, in the texts' order. Read a text as training did, or the answer is worth little.

    Args:
        model: a classifier; left in the mode that it was in.
        tokenizer: the model's.
        texts: none of them empty.
        label_names: of the classes, in the order of their numbers.
        position: where the answer is read; see `collate_labelled`.
        length: how long the rows are, at most the context; None is as long as needed. With "last" it must be given,
            or else a label would depend on the texts that happen to be in the batch.
        pad_id: what fills the rows up, which only matters with "last"; None is end-of-text.
        too_long: what becomes of a text that does not fit: "raise", or "cut", which keeps its beginning.
        batch_size: texts classified together; they are taken in order of length.

    Raises:
        ValueError: a setting is out of range, a text is empty or too long, or the model has another number of classes.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    context = model.cfg.context_length
    _check_reading(position, length, context)
    if pad_id is None:
        pad_id = control_id(as_tokenizer(tokenizer), END_OF_TEXT) if position == "last" else 0
    encoded, _ = encode_texts(texts, tokenizer, context_length=length or context, too_long=too_long)
    order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
    answers: dict[int, Classified] = {}
    with evaluation_mode(model):
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            batch = [LabelledExample(encoded[number], 0) for number in numbers]  # the 0 only marks the position
            inputs, targets = collate_labelled(batch, pad_id=pad_id, position=position, length=length)
            device = next(model.parameters()).device
            logits = target_logits(model, inputs.to(device), targets.to(device))  # (B, classes)
            if logits.shape[1] != len(label_names):
                raise ValueError(f"the model has {logits.shape[1]} classes, got {len(label_names)} label names")
            probabilities, classes = logits.softmax(dim=-1).max(dim=-1)
            for number, probability, label in zip(numbers, probabilities.tolist(), classes.tolist()):
                answers[number] = Classified(label_names[label], probability)
    return [answers[number] for number in range(len(encoded))]


class Classifier(NamedTuple):
    """What a classifier's directory holds: the model, its tokenizer and its labels, and where it gives its answer."""

    model: GPTModel
    tokenizer: Tokenizer
    label_names: list[str]
    position: Position
    length: int | None
    pad_id: int | None

    def classify(self, texts: Sequence[str], *, too_long: TooLongText = "raise") -> list[Classified]:
        """Return the label of each text; see `classify`."""
        reading = {"position": self.position, "length": self.length, "pad_id": self.pad_id}
        return classify(self.model, self.tokenizer, texts, self.label_names, **reading, too_long=too_long)


def save_classifier(
    directory: str | Path,
    model: GPTModel,
    tokenizer: Tokenizer,
    label_names: Sequence[str],
    *,
    position: Position = "last_real",
    length: int | None = None,
    pad_id: int | None = None,
) -> None:
    """Write a classifier as a directory of plain files; one that is there is replaced when all files are complete.

    Args:
        directory: made when it is missing.
        model: with a head that `make_classifier` gave it, or another nn.Linear with a bias.
        tokenizer: the model's.
        label_names: of the classes, in the order of their numbers.
        position: where the answer is read; see `collate_labelled`.
        length: how long the rows were in training; needed for the position "last".
        pad_id: what filled them up; None is end-of-text.

    Raises:
        ValueError: the labels or the vocabulary are not the model's, the model holds other weights than a GPTModel
            with a head for these labels, or the directory holds another model.
        OSError: the directory cannot be written.
    """
    tokenizer = as_tokenizer(tokenizer)
    check_replaceable(directory, CLASSIFIER_FORMAT)
    config = {"format": CLASSIFIER_FORMAT, "model": model.cfg.to_dict(), "label_names": list(label_names)}
    config |= {"position": position, "length": length, "pad_id": pad_id}
    cfg = _check_config(config, "the classifier")
    check_vocabulary(cfg, tokenizer)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    weights = _check_weights(cfg, weights, len(label_names), "this model")
    vocabulary = tokenizer_files(tokenizer)
    files = {WEIGHTS: save(weights, metadata={"format": "pt"}), **vocabulary, "config.json": to_json(config)}
    write_together(directory, files, stale=VOCABULARY_FILES - set(vocabulary))


def load_classifier(directory: str | Path, device: torch.device | str = "cpu") -> Classifier:
    """Read what `save_classifier` wrote; the model comes in evaluation mode, with all its layers set to learn.

    Raises:
        FileNotFoundError: the directory, or one of its files, is missing.
        ValueError: a file is damaged or of another format, or the parts do not fit together.
    """
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory} is no classifier: it has no config.json")
    config = read_json(directory / "config.json")
    cfg = _check_config(config, directory / "config.json")
    tokenizer = load_tokenizer(directory)
    check_vocabulary(cfg, tokenizer)
    labels = config["label_names"]
    weights = _check_weights(cfg, open_weights(directory / WEIGHTS), len(labels), f"{directory / WEIGHTS}")
    model = GPTModel(cfg)
    make_classifier(model, len(labels), train="all")
    model.load_state_dict(weights)
    reading = (config.get(key) for key in ("position", "length", "pad_id"))
    return Classifier(model.to(device).eval(), tokenizer, labels, *reading)


def _check_config(config: object, where: str | Path) -> GPTConfig:
    """Return the model's config, or raise ValueError for the first part of a classifier's config that is wrong."""
    if not isinstance(config, dict) or config.get("format") != CLASSIFIER_FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{where} must say format {CLASSIFIER_FORMAT!r}, got {found!r}")
    cfg = GPTConfig.of(config.get("model"))
    names = config.get("label_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < 2:
        raise ValueError(f"{where}: label_names must be a list of at least 2 texts, got {names!r:.80}")
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: label_names must differ from one another, got {names!r:.80}")
    _check_reading(config.get("position"), config.get("length"), cfg.context_length)
    pad_id = config.get("pad_id")
    if pad_id is not None and (not isinstance(pad_id, int) or not 0 <= pad_id < cfg.vocab_size):
        raise ValueError(f"{where}: pad_id must be None or in [0, {cfg.vocab_size - 1}], got {pad_id!r}")
    return cfg


def _check_reading(position: object, length: object, context: int) -> None:
    """Make sure that it is clear where an answer is read."""
    if position not in ("last_real", "last"):
        raise ValueError(f"position must be 'last_real' or 'last', got {position!r}")
    if position == "last" and length is None:
        raise ValueError("position 'last' needs a length, that of the rows in training, got None")
    if length is not None and (not isinstance(length, int) or not 1 <= length <= context):
        raise ValueError(f"length must be None or in [1, {context}], the context, got {length!r}")


def _check_weights(cfg: GPTConfig, weights: Mapping[str, Tensor], classes: int, what: str) -> dict[str, Tensor]:
    """Return the weights of a classifier, or raise ValueError for the first that does not fit."""
    head_shapes = {"out_head.weight": (classes, cfg.emb_dim), "out_head.bias": (classes,)}
    for name, shape in head_shapes.items():
        found = tuple(weights[name].shape) if name in weights else None
        if found != shape:
            raise ValueError(f"{what} should hold {name} as {shape}, for {classes} labels, got {found}")
    head = {name: weights[name] for name in head_shapes}
    body = {name: weights[name] for name in weights if name not in head}
    return check_own_weights(replace(cfg, tie_weights=True), body, what) | head  # tied, a body needs no head
