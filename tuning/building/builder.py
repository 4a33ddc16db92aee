"""Builds candidates in worker processes that live on from round to round.

Upstream's local builder starts fresh workers for every round because they leak memory, and each of them
imports the tensor intrinsics for 15 to 20 seconds, although building needs none of them. These workers live
on, and are replaced after a number of builds. The artefact is a shared library, which a device loads without
a compiler.
"""

import shutil
import tempfile
from pathlib import Path

import tvm
from tvm.ir import IRModule
from tvm.s_tir.meta_schedule.builder import BuilderInput, BuilderResult
from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

from tuning.worker import Call, Outcome
from tuning.workers import WorkerPool

BUILD_SECONDS = 30.0
_BUILDS_PER_WORKER = 200


class CandidateBuilder:
    """Builds batches of candidates as MetaSchedule's builders do; ``close`` ends its worker processes.

    Parameters
    ----------
    compiler : str
        The C++ compiler that links for the device.
    workers : int
        Builds at the same time.
    seconds : float
        A build that takes longer is ended and counts as failed.
    recycle_after : int
        Builds after which a worker process is replaced.
    """

    def __init__(
        self,
        compiler: str,
        workers: int,
        seconds: float = BUILD_SECONDS,
        recycle_after: int = _BUILDS_PER_WORKER,
    ) -> None:
        self._compiler = compiler
        self._seconds = seconds
        self._pool = WorkerPool(workers, recycle_after)
        self._folder = Path(tempfile.mkdtemp(prefix="deeprebirth-build-"))
        self._built = 0

    def build(self, build_inputs: list[BuilderInput]) -> list[BuilderResult]:
        """Build each candidate; a failed one's result holds the cause in words.

        An artefact stands in a directory of its own, which goes with ``close`` at the latest.
        """
        outcomes = self._pool.run([self._call(each) for each in build_inputs])
        return [_result(outcome) for outcome in outcomes]

    def close(self) -> None:
        """End the workers and remove what they built."""
        self._pool.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _call(self, build_input: BuilderInput) -> Call:
        self._built += 1
        folder = self._folder / str(self._built)
        folder.mkdir()
        arguments = (build_input.mod, build_input.target, str(folder / "candidate.so"), self._compiler)
        return Call(build_candidate, arguments, self._seconds)


def build_candidate(module: IRModule, target: tvm.target.Target, path: str, compiler: str) -> str:
    """Build one candidate into the shared library ``path`` and return the path.

    The block that rearranges the weights is removed: a compiled network holds them rearranged already, so it
    is no part of what is measured, and the runner makes its arguments in the rearranged shape.
    """
    module = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module)
    tvm.tirx.build(module, target=target).export_library(path, cc=compiler)
    return path


def _result(outcome: Outcome) -> BuilderResult:
    if outcome.cause is None:
        return BuilderResult(outcome.value, None)
    return BuilderResult(None, f"build failed: {outcome.cause}")
