"""The root command under Celery's path, with every subcommand present: for plugins that add their own."""

from __future__ import annotations

from celeriac.bin.main import COMMANDS, main
from celeriac.bin.main import celeriac as celery
from celeriac.bin.report import report
from celeriac.plugins import load_class

__all__ = ["celery", "main", "report"]

for name, path in COMMANDS.items():
    celery.add_command(load_class(path), name)
