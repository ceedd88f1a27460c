"""`replicator doctor`: each check is a function in the file of its subject, and a line in a table.

The table is `CHECKS` in `doctor`; `findings` defines what a check gets and yields.
"""
