"""The tuning database: reading it safely, joining several, banning wrong records."""
