"""The design spaces of a task, and how a point in one of them becomes a candidate.

A function with a convolution or a matrix product has MetaSchedule's own spaces. Functions without weights
(pooling, concatenation, softmax) have little to win and much to lose from random places of computation: their
space only asks how to go parallel, to vectorise and to unroll; on a GPU, how large work groups are.
"""

from collections.abc import Callable
from typing import Any

import tvm
from tvm.ir import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.arg_info import ArgInfo
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate
from tvm.s_tir.schedule import Trace

from tuning.intrinsics import import_cpu_intrinsics

Decide = Callable[[Schedule], Callable[..., Any]]

TVM_ERRORS = (RuntimeError, ValueError, TypeError)
_GPU = "gpu"
_WORK_ITEMS = (16, 32, 64, 128, 256)
_MOST_WORK_GROUPS = 4096


def generator_of(heavy: bool, target: tvm.target.Target) -> "str | ms.SpaceGenerator":
    """Return what makes a task's design spaces, as ``TuneContext`` takes it."""
    if heavy:
        return "post-order-apply"
    return _light_on_gpu(target) if _GPU in target.keys else _light_on_cpu()


def _light_on_gpu(target: tvm.target.Target) -> ms.SpaceGenerator:
    extents = [each for each in _WORK_ITEMS if each <= int(target.attrs["max_num_threads"])]
    return ms.space_generator.PostOrderApply(
        sch_rules=[
            inlining(padding=True),
            ms.schedule_rule.AutoBind(max_threadblocks=_MOST_WORK_GROUPS, thread_extents=extents),
        ],
        postprocs=[
            ms.postproc.DisallowDynamicLoop(),
            ms.postproc.RewriteUnboundBlock(max_threadblocks=_MOST_WORK_GROUPS),
            ms.postproc.RewriteReductionBlock(),
            ms.postproc.VerifyGPUCode(),
        ],
        mutator_probs={ms.mutator.MutateThreadBinding(): 1.0},
    )


def _light_on_cpu() -> ms.SpaceGenerator:
    rules = [
        inlining(),
        ms.schedule_rule.ParallelizeVectorizeUnroll(
            max_jobs_per_core=16, max_vectorize_extent=64, unroll_max_steps=[0, 16, 64], unroll_explicit=True
        ),
    ]
    return ms.space_generator.PostOrderApply(
        sch_rules=rules,
        postprocs=[
            ms.postproc.DisallowDynamicLoop(),
            ms.postproc.RewriteParallelVectorizeUnroll(),
            ms.postproc.RewriteReductionBlock(),
        ],
        mutator_probs={
            ms.mutator.MutateUnroll(): 0.5,
            ms.mutator.MutateParallel(max_jobs_per_core=16): 0.5,
        },
    )


def inlining(padding: bool = False) -> ms.ScheduleRule:
    """Return the rule that puts functions into their readers, as upstream has it.

    Parameters
    ----------
    padding : bool
        Whether all goes that can, padding too, as upstream has it for GPUs; for CPUs it is elementwise ones.
    """
    return ms.schedule_rule.AutoInline(
        into_producer=False,
        into_consumer=True,
        inline_const_tensor=True,
        disallow_if_then_else=not padding,
        require_injective=not padding,
        require_ordered=not padding,
        disallow_op=[] if padding else ["tirx.exp"],
    )


def replay(
    module: IRModule, trace: Trace, context: ms.TuneContext, decide: Decide | None = None
) -> MeasureCandidate | None:
    """Apply a trace and the postprocessors to a function, as the search does with its own.

    Parameters
    ----------
    module : IRModule
        One TIR function ``main``.
    trace : Trace
        Its own postprocessing is left out.
    context : TuneContext
        Of the function; it has the postprocessors.
    decide : callable, optional
        Given the schedule, returns what makes new decisions from a trace's instructions and old decisions.

    Returns
    -------
    MeasureCandidate or None
        None if the trace does not fit the function, or a postprocessor refuses what comes of it.
    """
    schedule = Schedule(module, debug_mask="none", error_render_level="none")
    try:
        trace = trace.simplified(remove_postproc=True)
        trace.apply_to_schedule(schedule, remove_postproc=True, decision_provider=decide and decide(schedule))
        schedule.enter_postproc()
        if not all(postproc.apply(schedule) for postproc in context.space_generator.postprocs):
            return None
        return MeasureCandidate(schedule, ArgInfo.from_entry_func(schedule.mod, remove_preproc=True))
    except TVM_ERRORS:
        return None


def own_candidate(record: ms.database.TuningRecord) -> MeasureCandidate | None:
    """Return the candidate that a record is of, or None if its trace does not fit its function."""
    try:
        return record.as_measure_candidate()
    except TVM_ERRORS:
        return None


def tune_context(
    module: IRModule,
    target: tvm.target.Target,
    heavy: bool,
    strategy: "ms.SearchStrategy | str | None" = None,
    seed: int = 1,
    threads: int = 1,
) -> ms.TuneContext:
    """Return a context of a function: with its design spaces' rules, and perhaps a search strategy."""
    import_cpu_intrinsics()
    return ms.TuneContext(
        module,
        target=target,
        space_generator=generator_of(heavy, target),
        search_strategy=strategy,
        rand_state=seed,
        num_threads=threads,
    )
