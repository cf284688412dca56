"""Names of the book that this library does not have yet, and what they are waiting for: the one list of them."""

from __future__ import annotations

from collections.abc import Callable

_JUDGING = "it comes with the judging chapter"
_PREFERENCES = "preference tuning (DPO) is not part of this library"

_TENSORFLOW = "this library reads no TensorFlow; download_and_load_gpt2 returns the same dictionary from safetensors"

PENDING: dict[str, dict[str, str]] = {
    "gptlab.book.ch05": {"load_gpt2_params_from_tf_ckpt": _TENSORFLOW},
    "gptlab.book.gpt_download": {"load_gpt2_params_from_tf_ckpt": _TENSORFLOW},
    "gptlab.book.ch07": {
        **dict.fromkeys(("check_if_running", "query_model", "generate_model_scores"), _JUDGING),
        **dict.fromkeys(
            (
                "PreferenceDataset",
                "compute_dpo_loss",
                "compute_dpo_loss_batch",
                "compute_dpo_loss_loader",
                "compute_logprobs",
                "evaluate_dpo_loss_loader",
                "train_model_dpo_simple",
            ),
            _PREFERENCES,
        ),
    },
}


def refuse_pending(module: str) -> Callable[[str], None]:
    """Return the `__getattr__` of a module: a pending name is an ImportError that says why, any other is not there."""

    def getattr_of_module(name: str) -> None:
        if name in PENDING[module]:
            raise ImportError(f"{module} does not have {name} yet: {PENDING[module][name]}", name=name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return getattr_of_module
