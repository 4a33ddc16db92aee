"""The command line `deeprebirth`."""

from pipeline.cli.main import main

__all__ = ["main"]
