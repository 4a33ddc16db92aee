"""What can be merged, what it saves, and why a candidate was refused.

The plan is data: the passes find their candidates by name in it. It is made by making the merges one after
the other, so each saving is the difference that one merge made.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Kind(StrEnum):
    """What becomes part of what."""

    FOLD = "fold"
    STREAMLINE = "streamline"
    BRANCH = "branch"
    TUCKER = "tucker"


class Reason(StrEnum):
    """Why a candidate was refused."""

    SEVERAL_USERS = "several users"
    SHAPE_WOULD_CHANGE = "shape would change"
    DYNAMIC = "weights computed at run time"
    RESIDUAL = "pool inside a residual"
    KERNEL_TOO_SMALL = "kernel smaller than the pool's window"
    GLOBAL_POOL = "global pooling"
    NO_CONVOLUTION = "no convolution beside it"
    NOT_LINEAR = "another layer in between"
    SIGN = "negative scale"
    ZERO_PADDING = "zero padding"
    NO_ABSORBER = "no larger convolution beside it"
    NO_WEIGHTS = "branch without weights"
    DIFFERENT_INPUTS = "branches read different inputs"
    DIFFERENT_ACTIVATIONS = "activations differ"
    DIFFERENT_STRIDES = "strides differ"
    DILATED = "dilated convolution"
    GROUPED = "grouped convolution"
    NO_RANK = "no rank stands out"
    SAVES_NOTHING = "saves nothing"
    NEEDS_RETRAINING = "needs retraining"
    LEFT_OUT = "left out"
    CHECK_FAILED = "undone: its check failed"
    NOT_RECOVERED = "undone: the accuracy did not come back"


Place = tuple[Kind, str]


class Candidate(BaseModel):
    """A merge that can be made.

    `layers` are those that take part, the last being the one where the merge was found; `removed` are those
    that are gone afterwards. Multiply-adds, parameters and activation bytes are those of the whole network,
    before and after this merge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    exact: bool
    layers: tuple[str, ...]
    removed: tuple[str, ...]
    macs_before: int = 0
    macs_after: int = 0
    parameters_before: int = 0
    parameters_after: int = 0
    activation_bytes_before: int = 0
    activation_bytes_after: int = 0
    time_share: float | None = None
    ranks: tuple[int, int] | None = None

    @property
    def found_at(self) -> str:
        """The layer where it was found; no other merge of its kind has the same."""
        return self.layers[-1]

    @property
    def place(self) -> Place:
        """What tells it from every other merge of a network."""
        return self.kind, self.found_at


class Refusal(BaseModel):
    """A layer that stays, and why. The last of `layers` is where the merge would have been."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    layers: tuple[str, ...]
    reason: Reason
    detail: str

    @property
    def found_at(self) -> str:
        """The layer where the merge would have been."""
        return self.layers[-1]

    @property
    def place(self) -> Place:
        """What tells it from every other refusal of a network."""
        return self.kind, self.found_at


class MergePlan(BaseModel):
    """The merges to make, in order, and the refusals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: tuple[Candidate, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    time_from: str | None = None
    """What the candidates' shares of time were measured on, or that they are estimated."""

    @property
    def is_exact(self) -> bool:
        """Whether none of its candidates changes the outputs."""
        return all(candidate.exact for candidate in self.candidates)

    @property
    def merges(self) -> tuple[Candidate, ...]:
        """The candidates that merge layers."""
        return tuple(each for each in self.candidates if each.kind is not Kind.TUCKER)

    @property
    def decompositions(self) -> tuple[Candidate, ...]:
        """The candidates that decompose a convolution."""
        return tuple(each for each in self.candidates if each.kind is Kind.TUCKER)

    @property
    def ranks(self) -> dict[str, tuple[int, int]]:
        """The ranks of the Tucker decompositions, by layer."""
        return {each.found_at: each.ranks for each in self.candidates if each.ranks is not None}


def common_name(names: Iterable[str]) -> str:
    """What the names of one block have in common, up to a separator: `inception_3a`."""
    names = list(names)
    shortest = min(names, key=len)
    length = next(
        (i for i, letter in enumerate(shortest) if any(name[i] != letter for name in names)), len(shortest)
    )
    prefix = shortest[:length]
    if length < len(shortest) or any(len(name) > length for name in names):
        prefix = prefix[: max((prefix.rfind(mark) for mark in "/._"), default=-1) + 1]
    return prefix.rstrip("/._")
