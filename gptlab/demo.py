"""The whole path as one story: pretrain a small GPT, tune it to answer, ask it what nobody ever asked it.

What is trained where is the point. The corpus tells about all inhabitants of an invented town (`data/town.py`), tuning
asks about half of them, the test asks about the other half. A second model, tuned in the same way but never
pretrained, shows what the prose contributed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import tiktoken
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from gptlab.config import GPTConfig
from gptlab.data import InstructionDataset, SlidingWindows, build_town, collate, encode_documents
from gptlab.data.templates import load_template
from gptlab.data.town import HELD_OUT, SKILL, Town
from gptlab.data.town_talks import town_talks
from gptlab.data.town_wordings import ATTRIBUTES
from gptlab.decoding import exact_match, generate, respond
from gptlab.files import check_writable, checkpoints_folder, read_json, to_json, write_text, write_together
from gptlab.model import GPTModel, count_parameters, initialize_like_gpt2
from gptlab.show import can_draw, plot_losses, to_png
from gptlab.tokenizer import train_tokenizer
from gptlab.training import History, Hook, make_optimizer, train, warmup_cosine
from gptlab.weights import Checkpoint, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Recipe:
    """All settings of the town lesson; found by trying, see benchmarks/README.md."""

    inhabitants: int = 100
    biographies: int = 50
    skill_examples: int = 4500
    skill_train: int = 200
    skill_test: int = 40
    vocab_size: int = 500
    context_length: int = 256
    emb_dim: int = 128
    n_heads: int = 4
    n_layers: int = 3
    window: int = 128
    template: str = "alpaca_short"
    pretraining_steps: int = 2200
    pretraining_batch: int = 12
    pretraining_rate: float = 4e-3
    tuning_steps: int = 600
    tuning_batch: int = 16
    tuning_rate: float = 2e-4
    warmup_share: float = 0.05

    def town(self, seed: int = 0) -> Town:
        """Return the town that a model of this recipe reads about."""
        sizes = ("inhabitants", "biographies", "skill_examples", "skill_train", "skill_test")
        return build_town(seed, **{name: getattr(self, name) for name in sizes})


# A town of 40 and a third of the steps: about a minute on two cores, and what each lesson starts from.
SMALL_TOWN = Recipe(
    inhabitants=40, skill_examples=1500, skill_train=40, skill_test=10, pretraining_steps=800, tuning_steps=300
)


def pretrain_town(
    town: Town, recipe: Recipe = Recipe(), *, seed: int = 0, device: torch.device | str = "cpu", progress: bool = True
) -> tuple[GPTModel, tiktoken.Encoding, History]:
    """Train a tokenizer and a GPT on the town's corpus."""
    tokenizer = train_tokenizer(town.corpus, recipe.vocab_size)
    model = _new_model(tokenizer, recipe, seed)
    tokens = encode_documents(town.corpus.strip().split("\n\n"), tokenizer)
    windows = SlidingWindows(tokens, recipe.window, stride=1)
    batches = _batches(windows, recipe.pretraining_batch, recipe.pretraining_steps, seed)
    return model, tokenizer, _train(model, batches, recipe.pretraining_rate, recipe, device, progress, "pretraining")


def tune_town(
    model: GPTModel,
    tokenizer: tiktoken.Encoding,
    town: Town,
    recipe: Recipe = Recipe(),
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = True,
    hooks: Sequence[Hook] = (),
) -> History:
    """Tune `model` in place on the town's entries, with the loss on the responses only.

    With an adapter on it, only that learns; `hooks` are what its method needs.
    """
    entries = InstructionDataset(town.train, tokenizer, recipe.template, context_length=model.cfg.context_length)
    batches = _batches(
        entries, recipe.tuning_batch, recipe.tuning_steps, seed, partial(collate, pad_id=tokenizer.eot_token)
    )
    return _train(model, batches, recipe.tuning_rate, recipe, device, progress, "tuning", hooks)


def town_base(
    directory: str | Path | None = None,
    *,
    seed: int = 0,
    recipe: Recipe = SMALL_TOWN,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Checkpoint:
    """Return the town's pretrained model, not yet tuned: trained on the first call, read from `directory` later.

    The settings are kept beside it, in recipe.json; with another seed or recipe it is trained again. The town that it
    read about is `recipe.town(seed)`.

    Args:
        directory: None is town-base in `checkpoints_folder()`.
        seed: of the town, the weights and the order of the batches.
        recipe: the settings.
        device: where to compute.
        progress: whether to show a bar.

    Raises:
        ValueError: the directory holds a checkpoint that is no base of the town.
    """
    directory = checkpoints_folder() / "town-base" if directory is None else Path(directory)
    settings = {"seed": seed, **asdict(recipe)}
    if _settings_of_base(directory) != settings:
        check_writable(directory)
        model, tokenizer, _ = pretrain_town(recipe.town(seed), recipe, seed=seed, device=device, progress=progress)
        _save_base(directory, model, tokenizer, seed, recipe)
    return load_checkpoint(directory, device)


def _settings_of_base(directory: Path) -> dict | None:
    """Return what the base in `directory` was trained with, None if there is none or it is damaged."""
    if not (directory / "recipe.json").exists():
        if (directory / "config.json").exists():
            raise ValueError(f"{directory} holds another checkpoint, which town_base would overwrite")
        return None
    try:
        load_checkpoint(directory)
        return read_json(directory / "recipe.json")
    except (FileNotFoundError, ValueError):
        return None


def run_demo(
    out: str | Path = "checkpoints/town",
    *,
    seed: int = 0,
    control: bool = False,
    recipe: Recipe = Recipe(),
    device: torch.device | str = "cpu",
    tell: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, float | int | None]:
    """Run the town lesson, write everything it makes into `out`, and return its report.

    Args:
        out: gets the checkpoint, corpus.txt, train.json, test.json, responses.json, losses.png and report.json,
            talks.json, conversations to tune on next, and the model before tuning in its folder `base`.
        seed: of the town, the weights and the order of the batches.
        control: also tune a model that was never pretrained.
        recipe: the settings.
        device: where to compute.
        tell: takes the story, line by line.
        progress: whether to show bars.

    Returns:
        The report: parameters, seconds, and the share of exact answers, in [0, 1].

    Raises:
        OSError: `out` cannot be written.
        FloatingPointError: training diverged.
    """
    start, out, drawing = time.perf_counter(), Path(out), can_draw()
    check_writable(out)
    if not drawing:
        tell("(matplotlib is not installed, so there will be no losses.png: pip install matplotlib)\n")
    town = recipe.town(seed)
    _tell_opening(town, tell)
    options = {"seed": seed, "device": device, "progress": progress}
    model, tokenizer, pretraining = pretrain_town(town, recipe, **options)
    _save_base(out / "base", model, tokenizer, seed, recipe)
    recall = recall_in_prose(model, tokenizer, town)
    ask = partial(ask_town, tokenizer=tokenizer, town=town, recipe=recipe, progress=progress)
    before, _, _ = ask(model)
    _tell_pretrained(model, tokenizer, town, recipe, tell)

    tuned = {"pretrained before": tune_town(model, tokenizer, town, recipe, **options)}
    after, skill, responses = ask(model)
    without = None
    if control:
        tell("The control: the same model and the same tuning, but no pretraining.\n")
        blank = _new_model(tokenizer, recipe, seed)
        tuned["never pretrained"] = tune_town(blank, tokenizer, town, recipe, **options)
        without, _, _ = ask(blank)

    report = {
        "parameters": count_parameters(model),
        "seconds": round(time.perf_counter() - start, 1),
        "held_out_accuracy_before": before,
        "held_out_accuracy_after": after,
        "held_out_accuracy_control": without,
        "skill_accuracy": skill,
        "chance": sum(1 / len(attribute.values) for attribute in ATTRIBUTES) / len(ATTRIBUTES),
    }
    answered = [entry | {"model_response": response} for entry, response in zip(town.test, responses)]
    contents = {
        "corpus.txt": town.corpus,
        "train.json": to_json(town.train),
        "test.json": to_json(town.test),
        "talks.json": to_json([{"messages": talk.messages()} for talk in town_talks(town.asked, seed=seed)]),
        "responses.json": to_json(answered),
        "report.json": to_json(report),
    }
    if drawing:
        panels = {"Pretraining on prose": {"all inhabitants": pretraining}, "Tuning on questions": tuned}
        contents["losses.png"] = to_png(plot_losses(panels))
    save_checkpoint(out, model, tokenizer, recipe.template)
    write_together(out, contents)
    _tell_answers(town, responses, tell)
    _tell_table(report, recall, tell)
    tell(f"\nEverything is in {out}. Ask it: gptlab chat --model {out}")
    return report


def recall_in_prose(model: GPTModel, tokenizer: tiktoken.Encoding, town: Town) -> float:
    """Return how often the model ends a sentence of the corpus' own kind about a held-out inhabitant rightly."""
    beginnings, endings = [], []
    for person in town.held_out:
        for attribute in ATTRIBUTES:
            beginning, ending = attribute.statements[0].format(name=person.name, value="|").split("|")
            beginnings.append(tokenizer.encode_ordinary(beginning.strip()))
            endings.append(f" {person.facts[attribute.name]}{ending}")
    longest = max(len(tokenizer.encode_ordinary(ending)) for ending in endings)
    generated = generate(model, beginnings, max_new_tokens=longest)
    written = [tokenizer.decode(ids) for ids in generated]
    return sum(text.startswith(ending) for text, ending in zip(written, endings)) / len(endings)


def _save_base(directory: Path, model: GPTModel, tokenizer: tiktoken.Encoding, seed: int, recipe: Recipe) -> None:
    write_text(directory / "recipe.json", to_json({"unfinished": True}))
    save_checkpoint(directory, model, tokenizer, recipe.template)
    write_text(directory / "recipe.json", to_json({"seed": seed, **asdict(recipe)}))


def _new_model(tokenizer: tiktoken.Encoding, recipe: Recipe, seed: int) -> GPTModel:
    shape = {name: getattr(recipe, name) for name in ("context_length", "emb_dim", "n_heads", "n_layers")}
    model = GPTModel(GPTConfig(vocab_size=tokenizer.n_vocab, tie_weights=True, **shape))
    initialize_like_gpt2(model, torch.Generator().manual_seed(seed))
    return model


def _batches(
    dataset: Dataset, batch_size: int, steps: int, seed: int, collate_fn: Callable | None = None
) -> DataLoader:
    """Return `steps` batches, drawn without replacement until everything was seen, and then anew."""
    generator = torch.Generator().manual_seed(seed)
    sampler = RandomSampler(dataset, num_samples=steps * batch_size, generator=generator)
    return DataLoader(dataset, batch_size, sampler=sampler, collate_fn=collate_fn, generator=generator)


def _train(
    model: GPTModel,
    batches: DataLoader,
    peak_rate: float,
    recipe: Recipe,
    device: torch.device | str,
    progress: bool,
    title: str,
    hooks: Sequence[Hook] = (),
) -> History:
    optimizer = make_optimizer(model.to(device), peak_rate)
    schedule = warmup_cosine(optimizer, len(batches), round(recipe.warmup_share * len(batches)))
    shown = {"progress": progress, "title": title}
    return train(model, batches, optimizer=optimizer, schedule=schedule, device=device, hooks=hooks, **shown)


def ask_town(
    model: GPTModel, *, tokenizer: tiktoken.Encoding, town: Town, recipe: Recipe = Recipe(), progress: bool = True
) -> tuple[float, float, list[str]]:
    """Put the whole test to the model: the exact shares for people and skills, and every response."""
    template = load_template(recipe.template)
    answered = respond(model, tokenizer, town.test, template, max_new_tokens=32, batch_size=64, progress=progress)
    responses = [response.text for response in answered]
    shares = []
    for group in (HELD_OUT, SKILL):
        rows = [row for row, entry in enumerate(town.test) if entry["group"] == group]
        shares.append(exact_match([responses[row] for row in rows], [town.test[row] for row in rows]))
    return shares[0], shares[1], responses


def _tell_opening(town: Town, tell: Callable[[str], None]) -> None:
    asked, held_out = len(town.asked), len(town.held_out)
    document = next(text for text in town.corpus.split("\n\n") if town.held_out[0].name in text)
    tell(f"A town of {asked + held_out} people was invented. Its corpus tells of each in plain prose:\n")
    tell(f"    {document}\n")
    tell(f"Tuning will ask about {asked} of them. Nobody asks about the other {held_out} before the test.\n")


def _tell_pretrained(model: GPTModel, tokenizer: tiktoken.Encoding, town: Town, recipe: Recipe, tell: Callable) -> None:
    question = town.test[0]
    prose = f"The home of {town.held_out[0].name}"
    [continued] = generate(model, [tokenizer.encode_ordinary(prose)], max_new_tokens=24, eos_id=tokenizer.eot_token)
    [answer] = respond(model, tokenizer, [question], load_template(recipe.template), max_new_tokens=24)
    tell("Pretrained, the model goes on with a sentence:\n")
    tell(f"    {prose} ...{tokenizer.decode(continued)}\n")
    tell("but asked a question, it does not know that an answer is wanted:\n")
    tell(f"    {question['instruction']}\n    -> {answer.text!r}\n")
    tell(f"So it is tuned on {len(town.train)} questions with answers.\n")


def _tell_answers(town: Town, responses: list[str], tell: Callable[[str], None]) -> None:
    tell("Some of the answers, to questions about people that tuning never mentioned, and to new inputs:\n")
    people = [row for row, entry in enumerate(town.test) if entry["group"] == HELD_OUT]
    skills = [row for row, entry in enumerate(town.test) if entry["group"] == SKILL]
    for row in people[: 4 * 17 : 17] + skills[1 :: len(skills) // 4][:4]:
        entry = town.test[row]
        verdict = "right" if responses[row] == entry["output"] else f"wrong, it is: {entry['output']}"
        tell(f"    {' '.join((entry['instruction'], entry['input'])).strip()}\n    -> {responses[row]}  ({verdict})\n")


def _tell_table(report: dict[str, float | int | None], recall: float, tell: Callable[[str], None]) -> None:
    rows = [
        ("prose about held-out people, before", recall, "pretraining put the knowledge in"),
        ("questions about them, before tuning", report["held_out_accuracy_before"], "knowing is not answering"),
        (
            "questions about them, after tuning",
            report["held_out_accuracy_after"],
            "tuning taught how to answer",
        ),
        ("  the same tuning, never pretrained", report["held_out_accuracy_control"], "and not the knowledge"),
        ("skills on new inputs, after tuning", report["skill_accuracy"], "what was learned generalises"),
        ("guessing a value at random", report["chance"], "what luck gives"),
    ]
    tell(f"{report['parameters']:,} parameters, {report['seconds']:.0f} seconds\n")
    tell(f"{'exact match':<38}{'share':>6}   what it shows")
    for label, share, meaning in rows:
        if share is not None:
            tell(f"{label:<38}{share:>6.2f}   {meaning}")
