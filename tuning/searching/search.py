"""The search for a task's candidates: plain schedules, what was found for functions like it, and evolution.

The first candidates need no search: the plain schedules of the function, and the best ones of functions
that are alike, moved to its sizes. Then MetaSchedule's evolutionary search goes on from what was measured.
Applying a trace and reading its features takes about twenty milliseconds, so upstream's population of 512
over four generations takes a minute for a round of sixteen; here it is smaller. A function without weights
has a space of a few schedules, which on a processor are tried before the plain ones.

On a GPU the one plain schedule is what an untuned network has, so that tuning begins where it stands.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from itertools import chain, zip_longest

from tvm.ir import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.runner import RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import EvolutionarySearch, MeasureCandidate

from targets import TargetInfo
from tuning.records.database import trace_key
from tuning.searching.budget import ROUND
from tuning.searching.lessons import Lesson, cost_model, lesson_of
from tuning.searching.plain import is_packed_light, plain_schedules
from tuning.searching.plain_gpu import plain_gpu_schedule
from tuning.searching.plain_packed import is_packed, plain_packed_schedules
from tuning.searching.plain_winograd import is_winograd, plain_winograd_schedules
from tuning.searching.processor import processor_of
from tuning.searching.space import TVM_ERRORS, replay, tune_context
from tuning.searching.transfer import Experience, snapped

__all__ = ["Search", "cost_model"]

_POPULATION = {True: 48, False: 8}
_GENERATIONS = {True: 2, False: 1}
_RECALLED = 16
_PLAIN = 4
_ALIKE = 2
_MANY_TRIALS = 1 << 20


class Search:
    """The search of one task.

    Candidates may be asked for while earlier ones are still under way, and results may come in any order.

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
        Its best records are where evolution starts.
    model : CostModel
        Chooses among samples.
    experience : Experience, optional
        What the database knows of functions like this one.
    plain : int
        How many plain schedules come first at most.
    """

    def __init__(
        self,
        module: IRModule,
        target: TargetInfo,
        seed: int,
        heavy: bool,
        database: ms.database.Database,
        model: ms.CostModel,
        experience: Experience | None = None,
        plain: int = _PLAIN,
    ) -> None:
        self._module = module
        self._target = target
        self._seed = seed
        self._heavy = heavy
        self._database = database
        self._model = model
        self._experience = experience or Experience()
        self._most_plain = plain

    def candidates(self, size: int, measured: set[str]) -> list[MeasureCandidate]:
        """Return up to ``size`` candidates whose keys are not in ``measured``; none if there are none.

        A function that MetaSchedule cannot schedule has none; so it keeps TVM's default schedule.

        Parameters
        ----------
        size : int
            How many are wanted.
        measured : set of str
            Keys of what was measured or is under way.
        """
        found: dict[str, MeasureCandidate] = {}
        with suppress(*TVM_ERRORS):
            for candidate in self._in_order():
                key = trace_key(candidate.sch.trace)
                if key not in measured:
                    found.setdefault(key, candidate)
                if len(found) == size:
                    break
        return list(found.values())

    def learn(self, candidates: list[MeasureCandidate], results: list[RunnerResult]) -> None:
        """Take in what measuring candidates gave."""
        if candidates:
            self._model.update(self._context, candidates, results)

    def lesson(self, records: list[ms.database.TuningRecord]) -> Lesson | None:
        """Return what the cost model can learn from the best of the records that earlier runs left."""
        return lesson_of(self._context, records, _RECALLED) if self._heavy else None

    def _in_order(self) -> Iterator[MeasureCandidate]:
        """Yield those that need no search, then what it finds; the other way round where that is better."""
        ready_first = self._heavy or self._on_gpu or self._is_packed_light
        if ready_first:
            yield from self._ready
        yield from self._context.generate_measure_candidates() or []
        if not ready_first:
            yield from self._ready

    @cached_property
    def _is_winograd(self) -> bool:
        return is_winograd(self._module)

    @cached_property
    def _is_packed(self) -> bool:
        return is_packed(self._module)

    @cached_property
    def _is_packed_light(self) -> bool:
        return is_packed_light(self._module)

    @property
    def _on_gpu(self) -> bool:
        return self._target.gpu is not None

    @cached_property
    def _ready(self) -> list[MeasureCandidate]:
        """Those known of its sizes, then the plain candidates and those of functions alike, in turns."""
        known = self._experience.records_of_its_sizes(self._module)
        same = [replay(self._module, each.trace, self._context) for each in known]
        plain = [replay(self._module, each.trace, self._context) for each in self._plain]
        records = self._experience.records_like(self._module, _ALIKE)
        alike = [replay(self._module, each.trace, self._context, snapped) for each in records]
        in_turns = chain(same, chain.from_iterable(zip_longest(plain, alike)))
        return [each for each in in_turns if each is not None]

    @cached_property
    def _plain(self) -> list[Schedule]:
        target = self._target.target()
        if self._on_gpu:
            return [plain_gpu_schedule(self._module, target)][: self._most_plain]
        plain = plain_winograd_schedules if self._is_winograd else plain_schedules
        plain = plain_packed_schedules if self._is_packed else plain
        return plain(self._module, processor_of(target), self._most_plain)

    @cached_property
    def _context(self) -> ms.TuneContext:
        strategy = EvolutionarySearch(
            population_size=_POPULATION[self._heavy],
            init_min_unmeasured=_POPULATION[self._heavy] // 2,
            genetic_num_iters=_GENERATIONS[self._heavy],
        )
        context = tune_context(
            self._module, self._target.target(), self._heavy, strategy, self._seed, self._target.threads
        )
        context.pre_tuning(_MANY_TRIALS, ROUND, self._spaces(context), self._database, self._model)
        return context

    def _spaces(self, context: ms.TuneContext) -> list[Schedule]:
        """MetaSchedule's spaces and the first plain one, which for what `lowering` makes is the only one."""
        if self._plain and (self._is_winograd or self._is_packed):
            return self._plain[:1]
        goes_on_from_plain = self._heavy and not self._on_gpu
        return [*context.generate_design_space(), *(self._plain[:1] if goes_on_from_plain else [])]
