"""The search for a task's candidates: MetaSchedule's design spaces and evolutionary search, sized for CPUs.

Applying a trace takes about ten milliseconds, so upstream's population of 512 over four generations takes
longer than the measurements it prepares. A first look at a task takes random samples and lets the cost model,
which learned from the tasks before, choose among them. Only later rounds evolve a population.

Functions without weights (pooling, concatenation, softmax) have little to win and much to lose from random
places of computation: their space only asks how to go parallel, to vectorise and to unroll.
"""

from functools import cached_property

from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.runner import RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import EvolutionarySearch, MeasureCandidate

from targets import TargetInfo
from tuning.intrinsics import import_cpu_intrinsics
from tuning.records.database import trace_key
from tuning.searching.budget import ROUND

_FIRST_SAMPLES = 32
_POPULATION = 64
_GENERATIONS = 2
_WARM_UP_TRIALS = 32
_RECALLED = 16
_MANY_TRIALS = 1 << 20
_NEVER_TRAIN = 1 << 40

Lesson = tuple[ms.TuneContext, list[MeasureCandidate], list[RunnerResult]]


class Search:
    """The search of one task.

    Parameters
    ----------
    module : IRModule
        The task's function, as ``main``.
    target : TargetInfo
        What it is compiled for.
    seed : int
        Seed of the search, at least 1.
    heavy : bool
        Whether it holds a convolution or a matrix product.
    database : Database
        Its best records are where later rounds start.
    model : CostModel
        Chooses among samples.
    """

    def __init__(
        self,
        module: IRModule,
        target: TargetInfo,
        seed: int,
        heavy: bool,
        database: ms.database.Database,
        model: ms.CostModel,
    ) -> None:
        import_cpu_intrinsics()
        self._module = module
        self._target = target
        self._seed = seed
        self._heavy = heavy
        self._database = database
        self._model = model

    def candidates(self, size: int, measured: set[str]) -> list[MeasureCandidate]:
        """Return up to ``size`` candidates whose keys are not in ``measured``; none if there are none."""
        self._current = self._evolving if measured else self._context(_FIRST_SAMPLES, 0)
        found = self._current.generate_measure_candidates() or []
        fresh = {trace_key(each.sch.trace): each for each in found}
        return [each for key, each in fresh.items() if key not in measured][:size]

    def learn(self, candidates: list[MeasureCandidate], results: list[RunnerResult]) -> None:
        """Take in what measuring the last candidates gave."""
        self._current.notify_runner_results(candidates, results)
        self._model.update(self._current, candidates, results)

    def lesson(self, records: list[ms.database.TuningRecord]) -> Lesson | None:
        """Return what the cost model can learn from the best of the records that earlier runs left."""
        if not self._heavy:
            return None
        best = sorted(records, key=lambda record: min(map(float, record.run_secs)))[:_RECALLED]
        known = [(_candidate(record), RunnerResult(record.run_secs, None)) for record in best]
        known = [(candidate, result) for candidate, result in known if candidate is not None]
        return (self._evolving, *map(list, zip(*known, strict=True))) if known else None

    @cached_property
    def _evolving(self) -> ms.TuneContext:
        return self._context(_POPULATION, _GENERATIONS)

    def _context(self, population: int, generations: int) -> ms.TuneContext:
        context = ms.TuneContext(
            self._module,
            target=self._target.target(),
            space_generator=_space(self._heavy),
            search_strategy=EvolutionarySearch(
                population_size=population,
                init_min_unmeasured=population // 2,
                genetic_num_iters=generations,
            ),
            rand_state=self._seed,
            num_threads=self._target.threads,
        )
        context.pre_tuning(_MANY_TRIALS, ROUND, database=self._database, cost_model=self._model)
        return context


def teach(model: ms.CostModel, lessons: list[Lesson]) -> None:
    """Give the cost model what earlier runs measured; it trains once, on all of it, not after each lesson."""
    for place, lesson in enumerate(lessons, start=1):
        model.last_train_size = 0 if place == len(lessons) else _NEVER_TRAIN
        model.update(*lesson)


def cost_model(target: TargetInfo) -> ms.CostModel:
    """Return the cost model that all tasks of a network share; it guesses until it knows some trials."""
    return ms.cost_model.XGBModel(num_warmup_samples=_WARM_UP_TRIALS, num_tuning_cores=target.threads)


def _candidate(record: ms.database.TuningRecord) -> MeasureCandidate | None:
    """Return the candidate that a record is of, or None if its trace does not fit its function."""
    try:
        return record.as_measure_candidate()
    except (RuntimeError, ValueError, TypeError):
        return None


def _space(heavy: bool) -> "str | ms.SpaceGenerator":
    if heavy:
        return "post-order-apply"
    rules = [
        ms.schedule_rule.AutoInline(
            into_producer=False,
            into_consumer=True,
            inline_const_tensor=True,
            disallow_if_then_else=True,
            require_injective=True,
            require_ordered=True,
            disallow_op=["tirx.exp"],
        ),
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
