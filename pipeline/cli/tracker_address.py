"""Where a tracker listens, as the command line spells it."""

import re
from typing import Annotated

import typer

from pipeline.errors import UserError

ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9a-fA-F:.%\w]+)\]|(?P<name>[^:\[\]/\s]+)):(?P<port>[0-9]{1,5})")
LAST_PORT = 65_535

TrackerOption = Annotated[
    str, typer.Option("--tracker", metavar="HOST:PORT", help="Where the tracker listens.", show_default=False)
]


def tracker_address(given: str) -> tuple[str, int]:
    """Read `HOST:PORT`; an IPv6 address stands in brackets.

    Raises
    ------
    UserError
        It is spelt otherwise.
    """
    match = ADDRESS.fullmatch(given)
    port = int(match["port"]) if match else 0
    if match is None or not 0 < port <= LAST_PORT:
        raise UserError(f"--tracker {given}: write it as HOST:PORT, such as 127.0.0.1:9190")
    return match["ipv6"] or match["name"], port
