"""What an instance remembers from cycle to cycle."""
