"""The repository: labels, arguments, real and fake restics."""
