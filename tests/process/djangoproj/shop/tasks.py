import os
from typing import Any

from django.db import connection, transaction

from celeriac import shared_task

from .models import Order, Tick

# A connection that is opened while modules are imported: bad manners, and common.
connection.ensure_connection()


@shared_task
def place(name: str) -> int:
    return Order.objects.create(name=name).pk


@shared_task
def count(prefix: str) -> int:
    return Order.objects.filter(name__startswith=prefix).count()


@shared_task
def tick(entry: str) -> None:
    Tick.objects.create(entry=entry)


@shared_task
def about_the_connection() -> dict[str, Any]:
    was_open = connection.connection is not None
    connection.ensure_connection()
    return {"pid": os.getpid(), "was_open": was_open, "made_here": connection.made_in == os.getpid()}


@shared_task
def leave_a_transaction_open(name: str) -> None:
    transaction.atomic().__enter__()
    Order.objects.create(name=name)


@shared_task
async def acount(prefix: str) -> int:
    return await Order.objects.filter(name__startswith=prefix).acount()
