"""A leader's dump in the terms of another instance."""
