"""What was found under a name that the user gave, before it is known how the network wants it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, Protocol

from pipeline.data.needs import Needs
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.source import Source

Part = Literal["training", "validation"]


class Content(Protocol):
    """Samples as they are stored.

    Attributes
    ----------
    name : str
        What a report calls them.
    place : hashable
        Equal for the same samples.
    class_names : tuple of str, optional
        Where folders are classes.
    """

    name: str
    place: Hashable
    class_names: tuple[str, ...] | None

    def usual_preprocessing(self, needs: Needs) -> Preprocessing | None:
        """Return what is done to such samples by default; None where there is nothing to choose.

        Raises
        ------
        UserError
            The network takes something else.
        """
        ...

    def source(self, needs: Needs, preprocessing: Preprocessing | None) -> Source:
        """Return the samples as the network gets them.

        Raises
        ------
        UserError
            Samples or labels do not fit the network.
        """
        ...
