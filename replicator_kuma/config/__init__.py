"""What the program was told: variables, settings, and the instance made of them."""
