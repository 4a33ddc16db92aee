"""Checks before tuning starts that libraries for a target can be built here."""

import tempfile
from pathlib import Path

from targets import TargetInfo
from targets.elf import machine_of_triple
from tuning.building.candidate import LIBRARY, Recipe, build_trivial
from tuning.errors import TuningError
from tuning.workers import call

_SECONDS = 120.0


def check_toolchain(target: TargetInfo) -> None:
    """Build a trivial library for a target with its compiler and check the machine it is for.

    Raises
    ------
    targets.TargetError
        If the compiler is missing; the message names the package to install.
    TuningError
        If TVM or the compiler cannot build for the target, or the compiler builds for another machine.
    """
    machine_of_triple(target.triple)
    compiler = target.require_compiler()
    recipe = Recipe.of(target, compiler)
    with tempfile.TemporaryDirectory(prefix="deeprebirth-toolchain-") as folder:
        outcome = call(build_trivial, recipe, str(Path(folder) / LIBRARY), seconds=_SECONDS)
    if outcome.cause is not None:
        raise TuningError(
            f"{compiler} does not make libraries for the target {target.name} ({outcome.cause}): "
            f"{_remedy(target)}"
        )


def _remedy(target: TargetInfo) -> str:
    """Say what to do; of a compiler that a package has installed, another one can be in front."""
    toolchain = target.toolchain
    if toolchain.is_on_path:
        return f"{toolchain.remedy}; its {target.compiler} has to come first on PATH"
    return toolchain.remedy
