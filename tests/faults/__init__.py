"""Faults: what may happen to each phase of a cycle, and what comes of it."""
