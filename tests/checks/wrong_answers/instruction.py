"""Usual mistakes in chapter 7: the check, the wrong answer, and words of the hint that it must get."""

import torch


def padded(items, end_id, extra=0):
    longest = max(len(item) for item in items) + extra
    return torch.tensor([item + [end_id] * (longest - len(item)) for item in items])


def append_in_place(items, end_id):
    longest = max(len(item) for item in items)
    for item in items:
        while len(item) < longest:
            item.append(end_id)
    return torch.tensor(items)


def shifted(items, end_id):
    return padded(items, end_id, extra=1)[:, 1:].clone()


def shifted_back(items, end_id):
    rows = padded(items, end_id)
    return torch.cat([torch.full((len(items), 1), end_id), rows[:, :-1]], dim=1)


def all_ends_ignored(items, end_id):
    targets = shifted(items, end_id)
    return targets.masked_fill(targets == end_id, -100)


def ends_ignored_but_in_the_longest(items, end_id):
    targets = shifted(items, end_id)
    for row, item in enumerate(items):
        if len(item) < targets.shape[1]:
            targets[row, len(item) - 1 :] = -100
    return targets


def masked_by_value(items, end_id):
    targets = shifted(items, end_id)
    for row in targets:
        row[(row == end_id).nonzero().flatten()[1:]] = -100
    return targets


def mask_one_too_many(targets, lengths):
    targets = targets.clone()
    for row, length in enumerate(lengths):
        targets[row, :length] = -100
    return targets


def mask_in_place(targets, lengths):
    for row, length in enumerate(lengths):
        targets[row, : length - 1] = -100
    return targets


def same_length_for_all(targets, lengths):
    targets = targets.clone()
    targets[:, : lengths[0] - 1] = -100
    return targets


def long_form(entry):
    return f"Below is an instruction that describes a task.\n\n{needs_the_key(entry)}"


def until_the_last_end(ids, prompt_length, end_id):
    response = ids[prompt_length:]
    return response[: len(response) - 1 - response[::-1].index(end_id)]


def with_format(entry):
    text = "### Instruction:\n{instruction}\n\n"
    if entry.get("input"):
        text += "### Input:\n{input}\n\n"
    for key in ("instruction", "input"):
        text = text.replace(f"{{{key}}}", entry.get(key, ""))
    return text + "### Response:\n"


def always_with_input(entry):
    given = entry.get("input", "")
    return f"### Instruction:\n{entry['instruction']}\n\n### Input:\n{given}\n\n### Response:\n"


def with_output(entry):
    return always_with_input(entry) + entry.get("output", "")


def needs_the_key(entry):
    given = f"### Input:\n{entry['input']}\n\n" if entry["input"] else ""
    return f"### Instruction:\n{entry['instruction']}\n\n{given}### Response:\n"


WRONG = [
    ("instruction.prompt", always_with_input, "without an input should get no heading"),
    ("instruction.prompt", with_output, "the output is in the prompt"),
    ("instruction.prompt", needs_the_key, "may lack the key"),
    ("instruction.prompt", with_format, "that somebody wrote"),
    ("instruction.prompt", lambda entry: always_with_input(entry).strip(), "should end with"),
    ("instruction.prompt", long_form, "Alpaca's long form"),
    ("instruction.extract", until_the_last_end, "not at a later one"),
    ("collate.targets", lambda items, end_id: (padded(items, end_id), shifted(items, end_id)), "only the targets"),
    ("collate.targets", lambda items, end_id: shifted(items, end_id).float(), "whole numbers"),
    ("collate.shapes", lambda lengths: len(lengths), "should be a tuple, got 3 (int)"),
    ("collate.shapes", lambda lengths: torch.zeros(len(lengths), max(lengths)), "got a tensor of shape"),
    ("collate.shapes", lambda lengths: (len(lengths), max(lengths) + 1), "inputs leave off the last"),
    ("collate.shapes", lambda lengths: (len(lengths), max(lengths) - 1), "has added one before"),
    ("collate.shapes", lambda lengths: (max(lengths), len(lengths)), "the batch comes first"),
    ("collate.padding", lambda items, end_id: padded(items, end_id, 1), "one too long"),
    ("collate.padding", lambda items, end_id: padded(items, 0), "the padding is 0"),
    ("collate.padding", lambda items, end_id: padded(items, -100), "-100 is for targets"),
    ("collate.padding", lambda items, end_id: torch.tensor([item[:2] for item in items]), "do not cut"),
    (
        "collate.padding",
        lambda items, end_id: torch.tensor([[end_id] * (5 - len(item)) + item for item in items]),
        "stands on the left",
    ),
    ("collate.padding", append_in_place, "do not append"),
    ("collate.targets", padded, "the inputs themselves"),
    ("collate.targets", shifted_back, "wrong direction"),
    ("collate.targets", shifted, "padding is still a target"),
    ("collate.targets", all_ends_ignored, "of the longest item is ignored"),
    ("collate.targets", ends_ignored_but_in_the_longest, "also the first"),
    ("collate.targets", masked_by_value, "not by value"),
    ("collate.response_only", lambda targets, lengths: targets, "still trained"),
    ("collate.response_only", mask_one_too_many, "one too many"),
    ("collate.response_only", mask_in_place, "work on a clone"),
    ("collate.response_only", same_length_for_all, "each row has its own length"),
    ("instruction.extract", lambda ids, prompt_length, end_id: ids[: ids.index(end_id)], "prompt is still there"),
    ("instruction.extract", lambda ids, prompt_length, end_id: ids[prompt_length:], "do not belong"),
    (
        "instruction.extract",
        lambda ids, prompt_length, end_id: ids[prompt_length : ids.index(end_id, prompt_length)],
        "without an end is an error",
    ),
    (
        "instruction.extract",
        lambda ids, prompt_length, end_id: ids[prompt_length : ids.index(end_id) if end_id in ids else None],
        "inside the prompt",
    ),
]
