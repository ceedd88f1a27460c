"""A leader's cycle, and the actions that only a leader takes."""
