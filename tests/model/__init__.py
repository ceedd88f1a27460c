"""Interleavings of leaders, replicas and promotes, step by step."""
