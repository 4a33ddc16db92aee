"""Other ways to compute an operator than the direct one, and the choice between them by measured times."""
