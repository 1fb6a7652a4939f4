"""Django: what an app does differently when `DJANGO_SETTINGS_MODULE` is set.

1. `fixup.py`: Django is set up before task modules are imported; `autodiscover_tasks()` without arguments
   means the installed apps.
2. `connections.py`: database connections and caches between tasks and across forks.
3. `task.py`: `DjangoTask`, with `delay_on_commit` and `apply_async_on_commit`.

Importing this room does not import Django.
"""
