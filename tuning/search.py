"""The search for a task's candidates: MetaSchedule's design spaces and evolutionary search, sized for CPUs.

Applying a trace takes about ten milliseconds, so upstream's population of 512 over four generations takes
longer than the measurements it prepares. A first look at a task takes random samples and lets the cost model,
which learned from the tasks before, choose among them. Only later rounds evolve a population.

Functions without weights (pooling, concatenation, softmax) have little to win and much to lose from random
places of computation: their space only asks how to go parallel, to vectorise and to unroll.
"""

from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.runner import RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import EvolutionarySearch, MeasureCandidate

from targets import TargetInfo
from tuning.budget import ROUND
from tuning.database import trace_key

_FIRST_SAMPLES = 32
_POPULATION = 64
_GENERATIONS = 2
_WARM_UP_TRIALS = 32
_MANY_TRIALS = 1 << 20


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
    """

    def __init__(self, module: IRModule, target: TargetInfo, seed: int, heavy: bool) -> None:
        self._module = module
        self._target = target
        self._seed = seed
        self._heavy = heavy
        self._first: ms.TuneContext | None = None
        self._later: ms.TuneContext | None = None

    def candidates(
        self,
        size: int,
        measured: set[str],
        database: ms.database.Database,
        model: ms.CostModel,
    ) -> list[MeasureCandidate]:
        """Return up to ``size`` candidates whose keys are not in ``measured``; none if there are none."""
        if not measured and self._first is None:
            self._first = self._context(_FIRST_SAMPLES, 0, database, model)
            context = self._first
        else:
            if self._later is None:
                self._later = self._context(_POPULATION, _GENERATIONS, database, model)
            context = self._later
        found = context.generate_measure_candidates() or []
        fresh = {trace_key(each.sch.trace): each for each in found}
        self._current = context
        return [each for key, each in fresh.items() if key not in measured][:size]

    def learn(
        self, candidates: list[MeasureCandidate], results: list[RunnerResult], model: ms.CostModel
    ) -> None:
        """Take in what measuring the last candidates gave."""
        self._current.notify_runner_results(candidates, results)
        model.update(self._current, candidates, results)

    def _context(
        self, population: int, generations: int, database: ms.database.Database, model: ms.CostModel
    ) -> ms.TuneContext:
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
        context.pre_tuning(_MANY_TRIALS, ROUND, database=database, cost_model=model)
        return context


def cost_model(target: TargetInfo) -> ms.CostModel:
    """Return the cost model that all tasks of a network share; it guesses until it knows some trials."""
    return ms.cost_model.XGBModel(num_warmup_samples=_WARM_UP_TRIALS, num_tuning_cores=target.threads)


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
