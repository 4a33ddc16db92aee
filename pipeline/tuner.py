"""Tune a network on devices: for how long, on which, and where the records are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
import tvm

import targets
from pipeline.console import Progress
from pipeline.defaults import TRIALS
from pipeline.errors import UserError
from pipeline.files import check_writable
from pipeline.importer import load_network
from relay_passes import inline_composites
from targets.info import OWN_CPU
from tuning import (
    Budget,
    Cleaning,
    LocalSession,
    RemoteSession,
    RpcConfig,
    Session,
    SessionLog,
    TuningProgress,
    TuningResult,
    join,
    make_builder,
)
from tuning import tune as run
from tuning.building.choice import check_place
from tuning.devices.opencl import require_here
from tuning.devices.tracker import ask_traits
from tuning.progress import Line

AUTO = "auto"
_SESSIONS = "sessions"
_ASK_SECONDS = 60.0
_MANY_THREADS = 256


@dataclass(frozen=True)
class Tuning:
    """How long to tune each network, and where.

    Attributes
    ----------
    trials : int, optional
        Candidates to measure for each network, those that the database holds included.
    seconds : float, optional
        Or so many seconds for each network; with both, whichever comes first.
    tracker : tuple of str and int, optional
        Host and port of the tracker that the devices are at; by default a tracker and a server are started on
        this machine.
    key : str, optional
        The devices' key.
    device : str, optional
        The OpenCL device of this machine, where there are several: its number in `deeprebirth doctor`, or a
        part of its name or of its platform's.
    threads : int, optional
        Cores to use on the device; by default all.
    cc : str, optional
        The C++ compiler that links for the target; by default the target's own.
    database : path, optional
        Where records are kept; by default in the user's data directory.
    merge_db : tuple of path
        Databases whose records are taken over first.
    builders : str, optional
        ``tcp://HOST:PORT`` of a Dask scheduler that builds candidates; by default this machine does.
    exact_math : bool
        Convolutions are only computed directly, not by Winograd's algorithm where that is faster.
    """

    trials: int | None = TRIALS
    seconds: float | None = None
    tracker: tuple[str, int] | None = None
    key: str | None = None
    device: str | None = None
    threads: int | None = None
    cc: str | None = None
    database: str | os.PathLike[str] | None = None
    merge_db: tuple[str | os.PathLike[str], ...] = ()
    builders: str | None = None
    exact_math: bool = False

    @property
    def records(self) -> Path:
        """The directory of the database."""
        return Path(self.database or platformdirs.user_data_path("deeprebirth") / "tuning")

    def checked(self, name: str) -> targets.TargetInfo:
        """Look at all that can be looked at before work begins; return the target with its threads.

        Raises
        ------
        UserError
            A number is out of range, the tracker or the key is missing, code for the
            target cannot be measured, or the database cannot be written.
        targets.TargetError
            The target is unknown, or its compiler is missing.
        tuning.TuningError
            There is no OpenCL device for a target that needs one.
        """
        (info,) = self.all_checked((name,))
        return info

    def all_checked(self, names: Sequence[str]) -> tuple[targets.TargetInfo, ...]:
        """Do the same for several targets, which must differ; raises as `checked` does."""
        if (self.tracker is None) != (self.key is None):
            raise UserError("--tracker and --key belong together: give the tracker's address and the key")
        infos = tuple(self._find(name).with_compiler(self.cc) for name in names)
        _check_different(infos)
        self._check_device(infos)
        for info in infos:
            info.require_compiler()
        if self.trials is not None and self.trials < 1:
            raise UserError(f"--trials {self.trials}: give at least 1")
        if self.seconds is not None and self.seconds <= 0:
            raise UserError(f"--time-budget {self.seconds:g}: give more than nothing")
        for info in infos:
            self._check_threads(info)
            self._check_measurable(info)
        check_place(self.builders)
        check_writable(self.records)
        return tuple(info.with_threads(self.threads) for info in infos)

    def _check_device(self, infos: Sequence[targets.TargetInfo]) -> None:
        if self.device is None:
            return
        if self.tracker is not None:
            raise UserError(
                "--device chooses an OpenCL device of this machine: with --tracker, set "
                "DEEPREBIRTH_OPENCL_DEVICE where the device's server starts"
            )
        if all(info.gpu is None for info in infos):
            raise UserError(f"--device {self.device}: {infos[0].name} runs on the processor; leave it out")

    def _check_threads(self, info: targets.TargetInfo) -> None:
        if self.threads is None:
            return
        if info.gpu is not None:
            raise UserError(f"--threads {self.threads}: {info.name} runs on a GPU; leave it out")
        most = info.threads if self.tracker is None else _MANY_THREADS
        if not 1 <= self.threads <= most:
            raise UserError(f"--threads {self.threads}: give 1 to {most} for {info.measured_on()}")

    def _check_measurable(self, info: targets.TargetInfo) -> None:
        """Insist that this machine can run code for the target, or that a tracker's device is given."""
        if self.tracker is not None:
            return
        if info.cpu != OWN_CPU:
            instead = "" if info.gpu is None else f", or the target {info.gpu.name}+host, which runs here"
            raise UserError(
                f"code for {info.name} cannot be measured here: give the --tracker and --key of such a device"
                f"{instead}"
            )
        if info.gpu is not None:
            require_here(self.device)

    def _find(self, name: str) -> targets.TargetInfo:
        """Return the target; `auto` is what the device says it is, or this machine."""
        if name != AUTO:
            return targets.find(name)
        if self.tracker is None:
            return targets.find("host")
        return targets.recognise(ask_traits(RpcConfig(*self.tracker, self.key), _ASK_SECONDS))

    def session(self, info: targets.TargetInfo) -> AbstractContextManager[Session]:
        """Return the session to enter."""
        if self.tracker is None:
            return LocalSession(info, opencl_device=self.device)
        return RemoteSession(*self.tracker, self.key, self.threads, target=info)

    def join(self, info: targets.TargetInfo, say: Callable[[str], None]) -> None:
        """Take over the records of `merge_db`, and say what became of them."""
        if self.merge_db:
            say(str(join(self.records, [Path(each) for each in self.merge_db], info.target())))


def _check_different(infos: Sequence[targets.TargetInfo]) -> None:
    for index, info in enumerate(infos):
        if info.name in {each.name for each in infos[:index]}:
            raise UserError(f"--target {info.name} is given twice: name each target once")


@dataclass(frozen=True)
class Tuned:
    """What `tune` found, on what, where its records are, and the session's log."""

    result: TuningResult
    measured_on: str
    emulated: bool
    records: Path
    log: Path

    def headline(self) -> str:
        """What came out, in a sentence or two."""
        result = self.result
        trials = f"{result.trials_measured} trials measured, {result.trials_reused} were there"
        failed = ", ".join(f"{cause} {count}" for cause, count in result.failures.items())
        best = result.network_ms
        latency = "no schedule for some functions yet" if best is None else f"about {best:.3g} ms"
        where = f"on {self.measured_on}{' (emulated)' if self.emulated else ''}"
        parts = [f"{latency} for the network, summed over its functions, {where}", trials]
        if failed:
            parts.append(f"failed: {failed}")
        if result.cleaning != Cleaning():
            parts.append(f"left out of the database: {result.cleaning}")
        return "; ".join(parts)

    def summary(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return asdict(self.result) | {
            "network_ms": self.result.network_ms,
            "measured_on": self.measured_on,
            "emulated": self.emulated,
            "records": str(self.records),
            "log": str(self.log),
        }


def tune(
    model: str | os.PathLike[str] | Any,
    *,
    target: str = "host",
    example_inputs: Any = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    tuning: Tuning = Tuning(),
    seed: int = 0,
    progress: Progress | None = None,
) -> Tuned:
    """Tune a model as it is; `deploy` with the same database uses the records.

    Parameters
    ----------
    model, example_inputs, input_shapes
        As for `pipeline.load_network`.
    target : str
        A name from `deeprebirth targets`.
    tuning : Tuning
        For how long, and on which devices.
    seed : int
        Of the search.
    progress : Progress, optional
        What shows how far it is; by default nothing.

    Raises
    ------
    UserError, targets.TargetError
        Something given cannot be used.
    tuning.TuningError
        The devices are gone for good.
    """
    info = tuning.checked(target)
    network = load_network(model, example_inputs=example_inputs, input_shapes=input_shapes, seed=seed)
    with progress or Progress(quiet=True) as shown:
        tuning.join(info, shown.say)
        with tuning.session(info) as session:
            shown.stage(f"Tuning {network.name}")
            module = inline_composites(network.module)
            result, log = tune_module(module, network.name, info, session, tuning, seed, shown)
            where, emulated = session.measured_on(info), session.emulated(info)
    return Tuned(result, where, emulated, tuning.records, log)


def tune_module(
    module: tvm.IRModule,
    name: str,
    info: targets.TargetInfo,
    session: Session,
    how: Tuning,
    seed: int,
    shown: Progress,
) -> tuple[TuningResult, Path]:
    """Tune one module on an entered session; return what was found, and where the session's log is."""
    place = _log_of(how.records, name)
    with SessionLog(place) as log, closing(make_builder(info, how.builders)) as builder:

        def take(line: Line) -> None:
            log.write(line)
            if isinstance(line, TuningProgress):
                shown.tuning(line)

        budget = Budget(how.trials, how.seconds)
        result = run(
            module,
            info,
            session,
            how.records,
            budget,
            name=name,
            builder=builder,
            seed=seed,
            exact_math=how.exact_math,
            log=take,
            say=shown.say,
        )
    return result, place


def _log_of(records: Path, name: str) -> Path:
    """A new file beside the database, named after the time and the network."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    return records / _SESSIONS / f"{stamp}-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:60]}.jsonl"
