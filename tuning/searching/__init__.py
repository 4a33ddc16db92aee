"""What is tried: the search for candidates, and which task gets how many trials."""
