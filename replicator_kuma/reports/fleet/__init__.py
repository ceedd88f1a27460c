"""What the instances of a fleet tell one another, and what follows from it for each monitor."""
