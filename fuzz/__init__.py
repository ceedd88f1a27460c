"""Fuzzing of everything that reads a snapshot, or a file that others write (docs/fuzzing.md)."""
