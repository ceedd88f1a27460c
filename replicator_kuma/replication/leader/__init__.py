"""A leader's cycle, and what only a leader does."""
