"""Results as files and as objects in cloud storage."""

from celeriac.backends.objects.backend import ObjectBackend

__all__ = ["ObjectBackend"]
