"""`replicator doctor`: a check is a function in the file of its subject, and a line in a table.

The table is `CHECKS` in `doctor`; `findings` has what a check gets and yields.
"""
