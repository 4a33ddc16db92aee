"""Which task gets the next round of trials, and how many.

Every task gets a first round, so that each has a schedule. After that a round goes where it will win most:
the task's share of the network's measured time, times what its last trials won. A task that has stopped
gaining gives its trials away, and is taken up again only when all others have stopped, too.
"""

from dataclasses import dataclass, field

ROUND = 16
_FIRST_HEAVY = 4
_FIRST_LIGHT = 1
_MOST_LIGHT = 8
_HOPELESS = 2 * ROUND
_LOOK_BACK = 4 * ROUND
_LEAST_GAIN = 0.02
_CLOSE = 1.2


@dataclass
class TaskState:
    """What is known of a task while tuning.

    Attributes
    ----------
    weight : int
        How often the network calls it.
    flop : float
        Floating point operations of one call.
    heavy : bool
        Whether it holds a convolution or a matrix product; the others have little to win.
    trials : int
        Candidates measured so far, failed ones and those of earlier runs included.
    best_seconds : float or None
        The shortest time measured.
    exhausted : bool
        Whether the search finds no new candidates.
    pending : int
        Candidates under way: chosen, but not measured yet.
    gains : list of tuple of int and float
        The best times one after the other, each with the trials that had been made before it.
    rival : TaskState or None
        Of another function that computes the same; the network calls the faster one of both.
    handicap : float
        What its time is multiplied by when it is compared with its rival's.
    """

    weight: int
    flop: float
    heavy: bool
    trials: int = 0
    best_seconds: float | None = None
    exhausted: bool = False
    pending: int = 0
    gains: list[tuple[int, float]] = field(default_factory=list)
    rival: "TaskState | None" = field(default=None, compare=False, repr=False)
    handicap: float = 1.0

    @property
    def begun(self) -> int:
        """Trials made and under way."""
        return self.trials + self.pending

    @property
    def calls(self) -> int:
        """How often the network calls it, which is not at all if its rival is faster."""
        return 0 if self._is_behind(1) else self.weight

    @property
    def beaten(self) -> bool:
        """Whether its rival is so much faster that it will hardly win."""
        return self._is_behind(_CLOSE)

    def note(self, seconds: float | None) -> None:
        """Take in a trial's time; None if it failed."""
        if seconds is not None and (self.best_seconds is None or seconds < self.best_seconds):
            self.best_seconds = seconds
            self.gains.append((self.trials, seconds))
        self.trials += 1

    @property
    def gain(self) -> float:
        """The share of its time that the last trials won; it fades as trials are made that win nothing."""
        if self.best_seconds is None:
            return 1.0
        if self.begun <= _LOOK_BACK:
            return 1.0 / (1 + self.begun / ROUND)
        start = self.trials - _LOOK_BACK
        before = next((best for at, best in reversed(self.gains) if at < start), self.best_seconds)
        return 1 - self.best_seconds / before

    @property
    def stopped(self) -> bool:
        """Whether its last trials won next to nothing."""
        return self.gain < _LEAST_GAIN

    def _is_behind(self, factor: float) -> bool:
        if self.rival is None or self.rival.best_seconds is None:
            return False
        allowed = factor * self.rival.handicap * self.rival.best_seconds
        return self.best_seconds is None or self.handicap * self.best_seconds > allowed


def next_round(tasks: list[TaskState], left: int | None) -> tuple[int, int] | None:
    """Choose the task of the next round and its number of trials.

    Parameters
    ----------
    tasks : list of TaskState
        All tasks of the network.
    left : int or None
        Trials that may still be begun; None if their number is not what ends tuning.

    Returns
    -------
    tuple of int and int, or None
        The task's position and the trials of its round; None if nothing is left to do.
    """
    if left is not None and left <= 0:
        return None
    first = _first_round(tasks, left)
    if first is not None:
        return first
    open_tasks = [index for index, task in enumerate(tasks) if _room(task) > 0]
    if not open_tasks:
        return None
    gaining = [index for index in open_tasks if not tasks[index].stopped]
    index = max(gaining or open_tasks, key=lambda each: _promise(tasks[each], bool(gaining)))
    return index, _at_most(min(ROUND, _room(tasks[index])), left)


def _first_round(tasks: list[TaskState], left: int | None) -> tuple[int, int] | None:
    """The first rounds: heavy tasks first, at a size that leaves a trial for each task still to come."""
    fresh = [index for index, task in enumerate(tasks) if task.begun == 0 and not task.exhausted]
    if not fresh:
        return None
    index = max(fresh, key=lambda each: (tasks[each].heavy, tasks[each].weight * tasks[each].flop))
    wish = _FIRST_HEAVY if tasks[index].heavy else _FIRST_LIGHT
    return index, max(1, _at_most(wish, None if left is None else left - (len(fresh) - 1)))


def _room(task: TaskState) -> int:
    """Trials that a task may still begin."""
    if task.exhausted or task.beaten or (task.best_seconds is None and task.begun >= _HOPELESS):
        return 0
    return ROUND if task.heavy else _MOST_LIGHT - task.begun


def _promise(task: TaskState, gaining: bool) -> float:
    """Seconds of the network that a round may win; when all have stopped, those for each trial made."""
    if task.best_seconds is None:
        return float("inf")
    seconds = task.weight * task.best_seconds
    return seconds * task.gain if gaining else seconds / (1 + task.begun)


def _at_most(wish: int, left: int | None) -> int:
    return wish if left is None else min(wish, left)
