"""The parts of `accuracy_table.py`: what is retrained on what, one run, runs side by side, their summary."""
