"""PostgreSQL, as its broker and its result backend share it.

| module          | what it does                                                                        |
|-----------------|-------------------------------------------------------------------------------------|
| `url.py`        | `Server`: a URL and its options, checked                                            |
| `link.py`       | `Link`: one connection under deadlines; the one module that imports psycopg         |
| `values.py`     | Python values as parameters, and back                                               |
| `pool.py`       | `Pool`: idle links, repetition within a deadline, forks; `pool()` one per server    |
| `schema.py`     | versions, migrations, who makes the tables                                          |
| `sql/`          | the tables and functions themselves                                                 |
| `tables.py`     | the same for the command line                                                       |
| `foreign.py`    | the connection of a caller: psycopg, SQLAlchemy, Django                             |

Nothing here keeps state in a session (no named statements, no session locks, no settings), so a pooler in
transaction mode may stand between; LISTEN is a hint wherever it is used.
"""
