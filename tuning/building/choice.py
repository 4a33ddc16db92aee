"""Where candidates are built: on this machine or on a cluster."""

from urllib.parse import urlsplit

from targets import TargetInfo
from tuning.building.built import Builder
from tuning.building.local import LocalBuilder
from tuning.errors import Mistake

LOCAL = "local"
_SCHEDULERS = ("tcp", "tls")


def check_place(where: str | None) -> None:
    """Check how the place to build is written, without asking anyone there.

    Raises
    ------
    Mistake
        If it is neither ``local`` (or None) nor a Dask scheduler's address.
    """
    if where not in (None, LOCAL) and not _is_scheduler(where):
        raise Mistake(
            f"cannot build at {where!r}: give {LOCAL}, or a Dask scheduler's address such as tcp://HOST:8786"
        )


def make_builder(target: TargetInfo, where: str | None) -> Builder:
    """Return the builder for a target.

    Parameters
    ----------
    target : TargetInfo
        What to build for.
    where : str or None
        ``local`` or None builds on this machine, ``tcp://HOST:PORT`` or ``tls://HOST:PORT`` on the cluster
        of the Dask scheduler there.

    Raises
    ------
    TuningError
        If the place is written wrongly (a `Mistake`), or the cluster cannot be used.
    targets.TargetError
        If the target's compiler is missing here, for a local builder.
    """
    check_place(where)
    if where in (None, LOCAL):
        return LocalBuilder(target)
    from tuning.building.cluster import ClusterBuilder

    return ClusterBuilder(where, target)


def _is_scheduler(where: str) -> bool:
    try:
        address = urlsplit(where)
        complete = bool(address.hostname) and bool(address.port)
        return complete and address.scheme in _SCHEDULERS and where.split() == [where]
    except ValueError:
        return False
