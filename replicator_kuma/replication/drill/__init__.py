"""Drills: recoveries tried out, without effect on the instance's rows."""
