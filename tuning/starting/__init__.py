"""Records that come with the package: what tuning begins with where the user has none of his own."""

from tuning.starting.records import FOLDER, family_of, path_of, read, write

__all__ = ["FOLDER", "family_of", "path_of", "read", "write"]
