"""Find a function that the user names as `module:function`."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from pipeline.errors import UserError

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_reference(text: str) -> bool:
    """Tell whether a text has the form `module:function`."""
    return _REFERENCE.fullmatch(text) is not None


def find_function(reference: str) -> Callable[..., Any]:
    """Import what `module:function` names; modules of the current directory are found too.

    Raises
    ------
    UserError
        The module is missing or fails while it is imported, or holds no such function.
    """
    module_name, _, function_name = reference.partition(":")
    found = _module(module_name)
    for name in function_name.split("."):
        if not hasattr(found, name):
            raise UserError(f"{reference}: there is no {name} in {module_name}")
        found = getattr(found, name)
    if not callable(found):
        raise UserError(f"{reference} is a {type(found).__name__}, not a function")
    return found


def reason_of(error: BaseException) -> str:
    """Return an error of the user's code in words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _module(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"there is no module {error.name} in {os.getcwd()}, and none is installed: "
                "run in the directory that holds it"
            ) from None
        raise UserError(f"importing {name} failed: {reason_of(error)}") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"importing {name} failed: {reason_of(error)}") from error
