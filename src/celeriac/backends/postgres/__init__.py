"""The result store ``postgresql://``: PostgreSQL, in tables of our own."""

from celeriac.backends.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]
