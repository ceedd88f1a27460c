"""Modules that every other folder may use: errors, text, times, files."""
