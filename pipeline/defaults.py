"""Values that the command line and the Python API share."""

TRIALS = 512
"""Candidates to measure for each network."""
