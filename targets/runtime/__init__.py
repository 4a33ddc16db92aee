"""The RPC server for boards without Python: C++ sources, and what makes a folder for a board of them."""

from targets.runtime.folder import Packed, check, pack

__all__ = ["Packed", "check", "pack"]
