"""Programs, under Celery's import paths."""
