"""The configuration: variables, settings, and the instance built from them."""
