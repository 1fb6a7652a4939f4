from django.db import transaction
from django.http import HttpRequest, JsonResponse

from .models import Order
from .tasks import count, place


def order(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"task": place.delay(request.GET["name"]).id})


def order_when_committed(request: HttpRequest) -> JsonResponse:
    """The task must see the row that the same transaction makes; after a rollback it must not be sent."""
    name = request.GET["name"]
    try:
        with transaction.atomic():
            Order.objects.create(name=name)
            result = count.delay_on_commit(name)
            early = result.state
            if "fail" in request.GET:
                raise LookupError
    except LookupError:
        return JsonResponse({"task": result.id}, status=500)
    return JsonResponse({"task": result.id, "early": early})
