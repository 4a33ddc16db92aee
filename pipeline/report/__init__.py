"""report.json and the pages made from it."""
