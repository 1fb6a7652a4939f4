"""The result store ``db+…``: SQL databases through SQLAlchemy, in Celery's tables."""

from celeriac.backends.database.backend import DatabaseBackend

__all__ = ["DatabaseBackend"]
