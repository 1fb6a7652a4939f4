"""Stores that a broker and a result backend share, so that results can ride on settlements.

Brokers and backends may not import each other; what both need stands here: `memory.py` (the board of results
of one process) and `sqlite.py` (file, schema, connections; the one module that imports sqlite3).
"""
