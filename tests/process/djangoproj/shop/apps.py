import os
from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created


def note(connection: Any, **kwargs: Any) -> None:
    """Every connection that is opened, and by which process."""
    connection.made_in = os.getpid()
    with open("connections.log", "a") as log:
        log.write(f"{os.getpid()}\n")


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self) -> None:
        connection_created.connect(note)
