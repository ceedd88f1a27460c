"""What the program is for: a leader publishes, a replica applies."""
