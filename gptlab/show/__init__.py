"""Pictures: each function returns its figure, or what a notebook shows in colour, and writes nothing by itself."""

from gptlab.show.attention import plot_attention
from gptlab.show.attention_grid import plot_attention_grid
from gptlab.show.consistency import plot_consistency
from gptlab.show.figure import COLORS, can_draw, new_axes, new_figure, to_png
from gptlab.show.learning_rates import plot_learning_rates
from gptlab.show.lineage import plot_lineage
from gptlab.show.logit_lens import plot_logit_lens
from gptlab.show.loss_rules import show_loss_rules
from gptlab.show.losses import plot_losses
from gptlab.show.next_tokens import plot_choices, plot_next_tokens
from gptlab.show.ranks import plot_ranks
from gptlab.show.report_card import plot_report_card
from gptlab.show.scores import plot_outcomes, plot_scores
from gptlab.show.selected_points import plot_selected_points
from gptlab.show.stages import plot_stages
from gptlab.show.targets import Targets, show_targets
from gptlab.show.token_shift import plot_token_shift, show_token_shift
from gptlab.show.tokens import token_labels, token_text

__all__ = [
    "COLORS",
    "Targets",
    "can_draw",
    "new_axes",
    "new_figure",
    "plot_attention",
    "plot_attention_grid",
    "plot_choices",
    "plot_consistency",
    "plot_learning_rates",
    "plot_lineage",
    "plot_logit_lens",
    "plot_losses",
    "plot_next_tokens",
    "plot_outcomes",
    "plot_ranks",
    "plot_report_card",
    "plot_scores",
    "plot_selected_points",
    "plot_stages",
    "plot_token_shift",
    "show_loss_rules",
    "show_targets",
    "show_token_shift",
    "to_png",
    "token_labels",
    "token_text",
]
