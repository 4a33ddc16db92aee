"""Measuring on a device: candidates and whole networks."""
