"""The result store ``mongodb://``, in Celery's collections."""

from celeriac.backends.mongodb.backend import MongoBackend

__all__ = ["MongoBackend"]
