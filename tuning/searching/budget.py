"""How many trials which task gets: every task a few, then most where most time can still be won."""

from dataclasses import dataclass

ROUND = 16
_FIRST_HEAVY = 4
_FIRST_LIGHT = 1
_MOST_LIGHT = 8
_LEAST_GAIN = 0.05


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
    """

    weight: int
    flop: float
    heavy: bool
    trials: int = 0
    best_seconds: float | None = None
    exhausted: bool = False


def next_round(tasks: list[TaskState], left: int) -> tuple[int, int] | None:
    """Choose the task of the next round and its number of trials.

    Parameters
    ----------
    tasks : list of TaskState
        All tasks of the network.
    left : int
        Trials that may still be made.

    Returns
    -------
    tuple of int and int, or None
        The task's position and the trials of its round; None if nothing is left to do.
    """
    if left <= 0:
        return None
    first = _first_round(tasks, left)
    if first is not None:
        return first
    open_tasks = [index for index, task in enumerate(tasks) if _is_open(task)]
    if not open_tasks:
        return None
    fastest = max((task.flop / task.best_seconds for task in tasks if task.best_seconds), default=0.0)
    index = max(open_tasks, key=lambda each: _gain(tasks[each], fastest))
    return index, min(ROUND, left, _room(tasks[index]))


def _first_round(tasks: list[TaskState], left: int) -> tuple[int, int] | None:
    """The first rounds: heavy tasks first, at a size that leaves a trial for each task still to come."""
    fresh = [index for index, task in enumerate(tasks) if task.trials == 0 and not task.exhausted]
    if not fresh:
        return None
    index = max(fresh, key=lambda each: (tasks[each].heavy, tasks[each].weight * tasks[each].flop))
    wish = _FIRST_HEAVY if tasks[index].heavy else _FIRST_LIGHT
    return index, max(1, min(wish, left - (len(fresh) - 1)))


def _is_open(task: TaskState) -> bool:
    return not task.exhausted and _room(task) > 0


def _room(task: TaskState) -> int:
    return 1 << 30 if task.heavy else _MOST_LIGHT - task.trials


def _gain(task: TaskState, fastest: float) -> float:
    """Seconds a round may win: what the task loses against the fastest one, less with every round."""
    if task.best_seconds is None:
        return float("inf") if task.trials < 2 * ROUND else 0.0
    possible = task.flop / fastest if fastest else 0.0
    excess = max(task.best_seconds - possible, _LEAST_GAIN * task.best_seconds)
    return task.weight * excess / (1 + task.trials / ROUND)
