"""What LLVM knows of processors: a wrong name is refused here, which LLVM itself would only warn of."""

import difflib
from collections.abc import Collection
from typing import TYPE_CHECKING

from targets.errors import TargetError

if TYPE_CHECKING:
    from targets.info import TargetInfo


def cpus(triple: str) -> set[str]:
    """Return LLVM's names of the processors of a triple."""
    import tvm

    target = tvm.target.Target({"kind": "llvm", "mtriple": triple})
    return {str(name) for name in tvm.target.codegen.llvm_get_cpu_archlist(target)}


def features(triple: str, cpu: str) -> set[str]:
    """Return LLVM's names of the features that a processor has."""
    import tvm

    target = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu})
    return {str(name) for name in tvm.target.codegen.llvm_get_cpu_features(target)}


def check(info: "TargetInfo") -> None:
    """Check the names of a target's processor and features.

    A feature is known if some processor of the triple has it.

    Raises
    ------
    TargetError
        If LLVM does not know one; the message names the field and near matches.
    """
    known = cpus(info.triple)
    if info.cpu not in known:
        raise TargetError(_unknown(info, "cpu", "processor", info.cpu, known))
    available = set().union(*(features(info.triple, cpu) for cpu in known))
    for feature in info.features:
        if feature not in available:
            raise TargetError(_unknown(info, "features", "feature", feature, available))


def _unknown(info: "TargetInfo", field: str, kind: str, name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(known))}"
    return f"target {info.name}: {field}: LLVM knows no {kind} {name!r} for {info.triple}: {hint}"
