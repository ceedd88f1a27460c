"""What a dump is. Pure: no I/O but the dump folder, no clock, no environment."""
