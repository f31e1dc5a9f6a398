"""Model tuning: θ itself is trained, whole or the leaves that a mask chooses."""

from __future__ import annotations

import dataclasses
import re

from flax import traverse_util

from prompt_tuning_jax import t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Method


@dataclasses.dataclass(frozen=True)
class Full(Method):
    """Trains the leaves of θ whose path matches one of `leaves`, regular expressions as in T5X.

    A path is T5X's name with a stack's layers as one leaf: "encoder/layers/mlp/wi_0/kernel". An
    expression that could be tried without end, as an artifact may bring one, is a UserError. The
    chosen leaves leave `frozen`, so that there is no second copy; the others stay as they are.
    tuned: {"theta": {path: leaf}}.
    """

    leaves: tuple[str, ...] = (".*",)

    def __post_init__(self):
        object.__setattr__(self, "leaves", tuple(self.leaves))
        for pattern in self.leaves:
            try:
                re.compile(pattern)
            except (re.error, TypeError, OverflowError, RecursionError) as error:
                text = f"Full.leaves: {pattern!r:.80} is no regular expression ({error})"
                raise UserError(text) from None
            # of at most four repetitions, none of a repetition, all ways on a path are soon tried
            if len(re.findall(r"[*+{]", pattern)) > 4 or re.search(r"\)[*+{]", pattern):
                raise UserError(
                    f"Full.leaves: {pattern!r:.80} has more than four of * + {{, or one behind a "
                    "bracket: write several expressions"
                )

    def split(self, theta):
        flat = traverse_util.flatten_dict(theta, sep="/")
        taken = {k: v for k, v in flat.items() if any(re.fullmatch(r, k) for r in self.leaves)}
        for pattern in self.leaves:
            if flat and not any(re.fullmatch(pattern, path) for path in flat):
                raise UserError(
                    f"Full.leaves: {pattern!r} matches no parameter; one is {next(iter(flat))}"
                )
        left = {k: v for k, v in flat.items() if k not in taken}
        return traverse_util.unflatten_dict(left, sep="/"), taken

    def axes(self, config, tuned):
        names = traverse_util.flatten_dict(t5.logical_axes(config), sep="/")
        theta = {path: tuple(names[path]) for path in tuned.get("theta", {})}
        return super().axes(config, {k: v for k, v in tuned.items() if k != "theta"}) | {
            "theta": theta
        }
