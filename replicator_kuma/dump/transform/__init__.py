"""Translates a leader's dump for another instance."""
