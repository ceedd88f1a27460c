"""Litestream: streams the whole of kuma.db, history included, to one store, and restores it.

Litestream 0.5 is run as a program. Its configuration is a file of ours; it is asked by its control
socket, never by its log. https://litestream.io/reference/config/
"""
