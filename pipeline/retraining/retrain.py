"""Merge a network step by step and retrain it after each, until its accuracy is back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tvm
from torch import Tensor

from pipeline.data import Data, Loader, Mirrored, Preprocessing, facts, find_metric, open_data
from pipeline.errors import UserError
from pipeline.files import check_writable
from pipeline.importer import load_network
from pipeline.merging import MergedNetwork, MergeRequest, merge_verified
from pipeline.network import Network
from pipeline.retraining import checkpoint
from pipeline.retraining.checkpoint import Done, Identity
from pipeline.retraining.course import Course
from pipeline.retraining.objective import label_loss, loss_of_user
from pipeline.retraining.processes import Processes, joined
from pipeline.retraining.progress import Show
from pipeline.retraining.records import DataFacts, Retraining
from pipeline.retraining.result import Retrained, find_result, read_result, write_result
from pipeline.retraining.retrainer import Retrainer
from pipeline.retraining.settings import Settings
from pipeline.retraining.steps import Step, steps_of
from pipeline.retraining.traced import check_samples, kinds_of
from pipeline.tensorboard import Writer
from pipeline.torch_threads import torch_threads
from pipeline.twin import evaluate
from relay_passes import MergePlan, Planned, RankChoice, Reason, Refusal, all_of, exact_only, make_merges

ALL_MERGES = MergeRequest(retraining=True)
USUAL = Settings()


def retrain(
    model: str | os.PathLike[str] | Any,
    *,
    data: Any,
    validation: Any = None,
    out: str | os.PathLike[str],
    example_inputs: Any = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    request: MergeRequest = ALL_MERGES,
    settings: Settings = USUAL,
    metric: str = "top-1",
    preprocessing: str | os.PathLike[str] | Preprocessing | None = None,
    classes: str | os.PathLike[str] | None = None,
    loss: str | None = None,
    threads: int | None = None,
    checkpoint_minutes: float = 10.0,
    tensorboard: str | os.PathLike[str] | None = None,
    show: Show | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Retrained:
    """Merge a model step by step, from the bottom to the top, and retrain it after each step.

    The same call goes on where a killed one stopped, with the same final numbers (on one thread). Under
    `torchrun`, every process makes the same call.

    Parameters
    ----------
    model, example_inputs, input_shapes
        As for `pipeline.load_network`.
    data, validation
        As for `pipeline.data.open_data`.
    out : path
        The directory to write: network.onnx, retraining.json, and while it runs checkpoint/.
    request : MergeRequest
        The merges to make; by default all.
    settings : Settings
        The recipe and its numbers.
    metric : str
        `top-1`, `top-5`, `agreement` or `module:function`.
    preprocessing, classes
        As for `pipeline.data.open_data`.
    loss : str, optional
        `module:function` for the loss on labels: it takes the logits (a tensor, or a tuple of several) and
        the labels, and returns the mean over the samples.
    threads : int, optional
        Of torch; by default torch's own number.
    checkpoint_minutes : float
        Between two checkpoints inside a step.
    tensorboard : path, optional
        Where to write logs for TensorBoard.
    show : callable, optional
        Told how far it is.
    say : callable
        Told in a line what the user should know.

    Returns
    -------
    Retrained

    Raises
    ------
    UserError
        The model, the data or the place cannot be used, nothing is to be retrained, or the loss is not
        finite.
    NotVerified
        The network that would be written differs from the one that was trained.
    """
    out = Path(out)
    measure = find_metric(metric)
    own_loss = None if loss is None else loss_of_user(loss)
    write_log = None if tensorboard is None else Writer(tensorboard)
    with torch_threads(threads), joined() as processes:
        if processes.is_first:
            check_writable(out)
        network = load_network(
            model, example_inputs=example_inputs, input_shapes=input_shapes, seed=settings.seed
        )
        opened = open_data(
            data, validation, network, preprocessing=preprocessing, classes=classes, seed=settings.seed
        )
        merged = merge_verified(network, replace(request, retraining=True))
        exact = make_merges(network.module, choice=all_of([Planned(merged.plan), exact_only]))
        steps = _steps(network, exact.module, merged.plan, settings)
        identity = _identity(network, opened, settings, metric, loss, request.decomposition, steps)
        if (finished := find_result(out, identity)) is not None:
            return finished
        kinds = kinds_of(exact.module, are_classes=metric in CLASS_METRICS)
        course = Course(
            out=out,
            identity=identity,
            original=exact.module,
            ranks=request.decomposition,
            training=_training(opened, settings, processes),
            validation=Loader(opened.validation, settings.batch_size, seed=0, **_place(processes)),
            metric=measure,
            kinds=kinds,
            label_loss=own_loss or label_loss(kinds),
            processes=processes,
            checkpoint_seconds=60 * checkpoint_minutes,
            show=_shown_by_first(processes, show, write_log),
            say=say if processes.is_first else _silent,
        )
        check_samples(exact.module, _two_samples(course.training))
        retrainer = Retrainer(course, steps)
        retrainer.run()
        if processes.is_first:
            write_result(out, network, *_result(network, merged, exact.plan, retrainer, opened))
            checkpoint.remove(out)
        processes.wait()
        return read_result(out)


CLASS_METRICS = ("top-1", "top-5", "agreement")


def _steps(network: Network, exact: tvm.IRModule, plan: MergePlan, settings: Settings) -> tuple[Step, ...]:
    if plan.is_exact:
        raise UserError(
            f"there is nothing to retrain: no merge changes what {network.name} computes; "
            "`deeprebirth inspect` lists the merges and why others are refused"
        )
    return steps_of(exact, plan, settings.groups)


def _identity(
    network: Network,
    data: Data,
    settings: Settings,
    metric: str,
    loss: str | None,
    ranks: RankChoice | None,
    steps: tuple[Step, ...],
) -> Identity:
    return Identity(
        source_digest=network.source_digest,
        settings=settings,
        metric=metric,
        training=data.training.name,
        validation=data.validation.name,
        preprocessing=data.preprocessing,
        loss=loss,
        ranks=None if ranks is None else repr(ranks),
        steps=tuple(step.name for step in steps),
    )


def _training(data: Data, settings: Settings, processes: Processes) -> Loader:
    source = Mirrored(data.training) if settings.mirror else data.training
    return Loader(source, settings.batch_size, seed=settings.seed, augment=True, **_place(processes))


def _place(processes: Processes) -> dict[str, int]:
    return {"rank": processes.rank, "world": processes.world}


def _two_samples(loader: Loader) -> list[Tensor]:
    """Two samples, the same one twice if there is only one."""
    inputs = loader.batch(0, 0).inputs
    return [torch.cat([each, each])[:2] for each in inputs]


def _shown_by_first(processes: Processes, *shows: Show | None) -> Show:
    """Show only in the first process."""
    wanted = [show for show in shows if show is not None] if processes.is_first else []
    return lambda update: [show(update) for show in wanted]


def _silent(_line: str) -> None:
    """Say nothing."""


def _result(
    network: Network, merged: MergedNetwork, exact: MergePlan, retrainer: Retrainer, data: Data
) -> tuple[MergedNetwork, Retraining]:
    """The network that came of it, and the record of how."""
    done, module = retrainer.done, retrainer.student.module
    outputs = evaluate(module, list(network.golden.inputs.values()))
    made = MergePlan(
        candidates=(*exact.candidates, *(each for plan in done.made for each in plan.candidates)),
        refusals=(*merged.plan.refusals, *_undone(done, retrainer.steps)),
    )
    reference = dict(zip(network.golden.outputs, outputs, strict=True))
    result = MergedNetwork(module, made, reference, "the retrained network in torch", merged.check)
    identity = done.identity
    record = Retraining(
        network=network.name,
        source_digest=network.source_digest,
        metric=identity.metric,
        loss=identity.loss,
        ranks=identity.ranks,
        original=done.original,
        accuracy=retrainer.accuracy,
        training=DataFacts(**facts(data.training)),
        validation=DataFacts(**facts(data.validation)),
        preprocessing=data.preprocessing,
        settings=identity.settings,
        steps=done.results,
        plan=made,
    )
    return result, record


def _undone(done: Done, steps: Sequence[Step]) -> Iterator[Refusal]:
    """The merges of steps that were undone, as refusals."""
    for step, result in zip(steps, done.results, strict=False):
        for each in step.plan.candidates if not result.kept else ():
            yield Refusal(
                name=each.name,
                kind=each.kind,
                layers=each.layers,
                reason=Reason.NOT_RECOVERED,
                detail=result.reason,
            )
