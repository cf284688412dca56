"""What can be measured without a judge: equality, overlap, perplexity of the references, lengths, how responses ended.

Each number is blind to something. Exact match knows one right wording; ROUGE-L, BLEU and chrF count common pieces and
take a wrong number for a small fault; perplexity looks at the references and not at what the model would write. They
cost nothing and are the same each time, so they come first; what needs understanding is left to a judge.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import regex
import torch

from gptlab.data import ChatFormat, Example, Segment, Template, collate, encode, find_template
from gptlab.data.instruction import check_entry
from gptlab.judging.prompts import Entry, check_responses
from gptlab.model import GPTModel, evaluation_mode
from gptlab.rouge import CJK, FULL_WIDTH, rouge_l
from gptlab.tokenizer import Tokenizer, as_tokenizer
from gptlab.training import next_token_loss

# Besides what FULL_WIDTH makes plain, such as ，！？；：（）.
CHINESE_PUNCTUATION = "。、“”‘’《》〈〉「」『』【】〔〕〖〗…—·"
DROPPED = dict.fromkeys(map(ord, string.punctuation + CHINESE_PUNCTUATION))

_WORD = regex.compile(rf"[{CJK}]|[^\W{CJK}]+(?:['’.-][^\W{CJK}]+)*")


def exact_match(prediction: str, reference: str) -> bool:
    """Return whether two texts are equal but for case, punctuation, articles and spaces: SQuAD's rule.

    In ASCII it is that rule to the letter, with what it overlooks: "-5" equals "5", and "1.5" equals "15". Beyond SQuAD
    it drops the punctuation of Chinese, curly quotes included, reads letters and digits of double width as the plain
    ones, and ignores spaces beside Chinese characters, which some people put around numbers and English words.

    Source: Rajpurkar et al. 2016, arXiv 1606.05250, evaluate-v1.1.py.

    >>> exact_match("The capital is Fenn.", "capital is  fenn"), exact_match("在 ２０２０ 年。", "在2020年")
    (True, True)
    """
    return normalised(prediction) == normalised(reference)


def normalised(text: str) -> str:
    """Return what `exact_match` compares: lower case, without punctuation, articles and superfluous spaces."""
    text = text.translate(FULL_WIDTH).lower().translate(DROPPED)
    text = re.sub(r"\b(a|an|the)\b", " ", text)
    return " ".join(regex.sub(r"(?<=\p{Han})\s+|\s+(?=\p{Han})", "", text).split())


def bleu(predictions: Sequence[str], references: Sequence[str], *, tokenize: str | None = None) -> float:
    """Return the BLEU of a whole set of translations, in [0, 100]: sacrebleu's number.

    It is no mean of the sentences' numbers: n-grams are counted over the set, so it belongs to this set alone. An empty
    prediction stays in and makes the set too short. A set without four matching words in a row anywhere gets 0 or
    nearly so, right answers of one word too; for those `chrf` is the better measure.

    Args:
        predictions: one for each reference.
        references: the right translations.
        tokenize: how sacrebleu finds words: "13a", "zh", "char" and so on. None is "zh", which takes each Chinese
            character for a word, when any reference has one, and else "13a", sacrebleu's own choice. Name it in
            reports: BLEU by another tokenisation is another number.

    Raises:
        ValueError: there are no references, or not as many predictions.
        ImportError: sacrebleu is not installed.

    Source: Papineni et al. 2002; Post 2018, arXiv 1804.08771 (sacrebleu).
    """
    sacrebleu = _sacrebleu(predictions, references)
    if tokenize is None:
        tokenize = "zh" if any(regex.search(r"\p{Han}", reference) for reference in references) else "13a"
    # force only keeps back a warning about texts that look tokenised.
    return sacrebleu.corpus_bleu(predictions, [references], tokenize=tokenize, force=True).score


def chrf(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Return the chrF2 of a whole set of translations, in [0, 100]: sacrebleu's number.

    It compares runs of one to six characters, so that it needs no words and takes a wrong ending for a small fault.

    Args:
        predictions: one for each reference.
        references: the right translations.

    Raises:
        ValueError: there are no references, or not as many predictions.
        ImportError: sacrebleu is not installed.

    Source: Popović 2015 (chrF), 2016 (β = 2); Post 2018, arXiv 1804.08771 (sacrebleu).
    """
    return _sacrebleu(predictions, references).corpus_chrf(predictions, [references]).score


def _sacrebleu(predictions: Sequence[str], references: Sequence[str]) -> Any:
    if not references or len(predictions) != len(references):
        raise ValueError(
            f"need one prediction for each reference, got {len(predictions)} predictions for {len(references)}"
        )
    try:
        import sacrebleu
    except ImportError:
        raise ImportError('BLEU and chrF need sacrebleu: pip install "gptlab[judge]"', name="sacrebleu") from None
    return sacrebleu


class ResponsePerplexity(NamedTuple):
    """How well a model foresees the right responses.

    Attributes:
        perplexity: exp(nll / tokens).
        nll: summed negative log-likelihood of the responses and of the marks that end them, in nats.
        tokens: how many tokens that are.
        bits_per_byte: nll in bits for each byte of the responses in UTF-8, which models with different tokenizers
            share; None when all responses are empty.
        measured: how many responses these numbers are of.
        too_long: (number from 1, tokens) of the entries that do not fit into the context; they are not measured.
    """

    perplexity: float
    nll: float
    tokens: int
    bits_per_byte: float | None
    measured: int
    too_long: list[tuple[int, int]]


@torch.no_grad()
def response_perplexity(
    model: GPTModel,
    tokenizer: Tokenizer,
    entries: Sequence[Entry],
    template: str | Path | Template | ChatFormat,
    *,
    batch_size: int = 8,
) -> ResponsePerplexity:
    """Return how well `model` foresees the entries' outputs, each after its prompt.

    Prompts are read and not scored. Every token weighs the same, whatever response it is in: exp of the sum over the
    sum, not a mean of means. It is exp of the validation loss that tuning on responses reports for the same entries.

    Args:
        model: left in the mode that it was in.
        tokenizer: the model's.
        entries: with instruction and output.
        template: the form that the model was tuned with; see `gptlab.decoding.respond`.
        batch_size: entries read together; they are taken in order of length.

    Raises:
        ValueError: an entry is not one, batch_size is below 1, or no entry fits into the context.

    Source: Jelinek et al. 1977 (perplexity).
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    template, tokenizer = find_template(template), as_tokenizer(tokenizer)
    fitting: list[tuple[Example, int]] = []  # with the bytes of the output
    too_long: list[tuple[int, int]] = []
    context = model.cfg.context_length
    for number, entry in enumerate(entries, start=1):
        check_entry(entry, f"entry {number}")
        example = _reference_example(template, entry, tokenizer)
        if len(example.ids) > context + 1:  # the last token is only a target
            too_long.append((number, len(example.ids)))
        else:
            fitting.append((example, len(entry["output"].encode("utf-8"))))
    if not fitting:
        raise ValueError(f"no response to measure: of {len(entries)} entries none fits into {context} tokens")
    examples = sorted((example for example, _ in fitting), key=lambda example: len(example.ids))
    nll, tokens, device = 0.0, 0, next(model.parameters()).device
    with evaluation_mode(model):
        for start in range(0, len(examples), batch_size):
            inputs, targets = collate(examples[start : start + batch_size], pad_id=0)
            total, count = next_token_loss(model, inputs.to(device), targets.to(device))
            nll, tokens = nll + total.item(), tokens + count
    size = sum(size for _, size in fitting)
    bits = nll / math.log(2) / size if size else None
    return ResponsePerplexity(math.exp(nll / tokens), nll, tokens, bits, len(fitting), too_long)


def _reference_example(template: Template | ChatFormat, entry: Entry, tokenizer: Tokenizer) -> Example:
    """Return an entry's prompt, its output and the mark that ends it; the last two are targets."""
    prompt = template.prompt_segments(entry)
    if isinstance(template, Template):
        answer = [Segment(entry["output"], trained=True), template.end_of_answer]
    else:
        answer = [piece.segment(True) for piece in template.answer(entry["output"], last=True)[:2]]
    return encode([*prompt, *answer], tokenizer)


@dataclass(frozen=True)
class MetricsReport:
    """What `measure` found.

    Attributes:
        n: entries.
        exact_match: share of responses that match exactly, by SQuAD's rule.
        rouge_l: mean F-measure of ROUGE-L, β = 1.
        characters: mean length of a response.
        reference_characters: mean length of an output.
        words: mean number of words in a response; see `count_words`.
        reference_words: the same of an output.
        empty: how many responses hold nothing but white space.
        ended_by: reason -> how many responses ended so; empty where the file does not say.
    """

    n: int
    exact_match: float
    rouge_l: float
    characters: float
    reference_characters: float
    words: float
    reference_words: float
    empty: int
    ended_by: dict[str, int]

    @property
    def length_ratio(self) -> float | None:
        """Characters of the responses over those of the outputs; None if these are empty. Judges like long ones."""
        return self.characters / self.reference_characters if self.reference_characters else None

    @property
    def word_ratio(self) -> float | None:
        """Words of the responses over those of the outputs; None if these have none."""
        return self.words / self.reference_words if self.reference_words else None

    @property
    def ended_share(self) -> float | None:
        """Share of responses that ended by themselves, of those whose end is known; None if none is."""
        known = sum(self.ended_by.values())
        return self.ended_by.get("stop", 0) / known if known else None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        derived = ("length_ratio", "word_ratio", "ended_share")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.ended_by.items())
        rows = [
            ("responses", f"{self.n:,}", ""),
            ("exact match", f"{self.exact_match:.1%}", ""),
            ("ROUGE-L", f"{self.rouge_l:.3f}", ""),
            ("characters, mean", f"{self.characters:.1f}", _beside(self.reference_characters, self.length_ratio)),
            ("words, mean", f"{self.words:.1f}", _beside(self.reference_words, self.word_ratio)),
            ("empty", f"{self.empty:,}", ""),
            ("ended by themselves", "?" if self.ended_share is None else f"{self.ended_share:.1%}", reasons),
        ]
        return "\n".join(f"{name:<19}  {value:>8}  {note}".rstrip() for name, value, note in rows)


def _beside(reference: float, ratio: float | None) -> str:
    return f"reference {reference:.1f}" + ("" if ratio is None else f", ratio {ratio:.2f}")


def measure(entries: Sequence[Entry], *, key: str = "model_response") -> MetricsReport:
    """Return what entries with responses show by themselves, without a judge or a model.

    How a response ended is read from `ended_by`, which `gptlab generate --data --out` writes beside `model_response`;
    under another key there may be another model's response, so it is not looked at.

    Args:
        entries: with an output, and a response under `key`.
        key: where the response is.

    Raises:
        ValueError: there are no entries; one lacks an output or the key, or holds something else than text there (the
            message names its number from 1, the key, and the keys that are there).
    """
    check_responses(entries, key, needs=["output"])
    responses, outputs = [entry[key] for entry in entries], [entry["output"] for entry in entries]
    ends = [entry.get("ended_by") for entry in entries] if key == "model_response" else []
    return MetricsReport(
        n=len(entries),
        exact_match=fmean(map(exact_match, responses, outputs)),
        rouge_l=fmean(map(rouge_l, responses, outputs)),
        characters=fmean(map(len, responses)),
        reference_characters=fmean(map(len, outputs)),
        words=fmean(map(count_words, responses)),
        reference_words=fmean(map(count_words, outputs)),
        empty=sum(not response.strip() for response in responses),
        ended_by=dict(Counter(str(end) for end in ends if end is not None).most_common()),
    )


def count_words(text: str) -> int:
    """Return the number of words; each Chinese, Japanese or Korean character counts as one, as in a word processor.

    >>> count_words("GPT-2 doesn't know 3.14."), count_words("猫在 GPT-2 里。")
    (4, 4)
    """
    return len(_WORD.findall(text))
