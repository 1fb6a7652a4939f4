"""Pydantic models as arguments and results of tasks. The only module that imports pydantic.

1. `Codec.dump`: models in the arguments of a call become plain values, before it is sent.
2. `Codec.body`: the task's function, which gets models for the parameters that are annotated so, and whose
   models become plain values on the way out.

Annotations may hold models anywhere: `Model`, `Model | None`, `list[Model]`, `dict[str, Model]`, ….
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any

from celeriac.exceptions import ImproperlyConfigured

try:
    from pydantic import BaseModel, TypeAdapter
except ImportError as exc:
    raise ImproperlyConfigured(
        "Tasks declared with pydantic=True need pydantic, which is not installed. Run: "
        "pip install 'celeriac[pydantic]'"
    ) from exc

__all__ = ["Codec"]


class Codec:
    """Arguments and results of one function.

    Args:
        fun: the function.
        name: the task's name, for errors.
        strict: validate in pydantic's strict mode.
        context: validation context.
        dump_kwargs: arguments of `model_dump`.
        bound: the function's first parameter is the task.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        name: str,
        *,
        strict: bool,
        context: dict[str, Any] | None,
        dump_kwargs: dict[str, Any] | None,
        bound: bool,
    ) -> None:
        self._fun = fun
        self._name = name
        self._strict = strict
        self._context = context
        self._dump_kwargs = dict(dump_kwargs or {})
        self._signature = inspect.signature(fun)
        self._bound = bound
        self._adapters: dict[str, TypeAdapter[Any]] | None = None
        self.body = self._wrapped()

    def dump(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> tuple[list[Any], dict[str, Any]]:
        """`args` and `kwargs` with plain values in the place of models."""
        return [self._plain(value) for value in args], {
            key: self._plain(value) for key, value in (kwargs or {}).items()
        }

    def _plain(self, value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value.model_dump(**self._dump_kwargs)
        if isinstance(value, dict):
            return {key: self._plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)) and any(_holds_models(item) for item in value):
            return [self._plain(item) for item in value]
        return value

    def _wrapped(self) -> Callable[..., Any]:
        fun = self._fun
        if inspect.iscoroutinefunction(fun):

            @wraps(fun)
            async def body(*args: Any, **kwargs: Any) -> Any:
                args, kwargs = self._models(args, kwargs)
                return self._plain(await fun(*args, **kwargs))

        else:

            @wraps(fun)
            def body(*args: Any, **kwargs: Any) -> Any:
                args, kwargs = self._models(args, kwargs)
                return self._plain(fun(*args, **kwargs))

        return body

    def _models(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Validate what is annotated with models. Raises pydantic's `ValidationError`."""
        adapters = self._adapters if self._adapters is not None else self._prepare()
        if not adapters:
            return args, kwargs
        bound = self._signature.bind(*args, **kwargs)
        for name, adapter in adapters.items():
            if name in bound.arguments:
                bound.arguments[name] = adapter.validate_python(
                    bound.arguments[name], strict=self._strict or None, context=self._context
                )
        return bound.args, bound.kwargs

    def _prepare(self) -> dict[str, TypeAdapter[Any]]:
        """Look at the annotations; on the first run, when everything they name exists."""
        try:
            hints = typing.get_type_hints(self._fun, include_extras=True)
        except NameError as exc:
            raise ImproperlyConfigured(
                f"The annotations of the task {self._name} cannot be evaluated: {exc}. Import what they name "
                "where the task is defined, not under TYPE_CHECKING."
            ) from exc
        self._adapters = {
            name: TypeAdapter(hints[name])
            for name, parameter in self._signature.parameters.items()
            if name in hints
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            and any(_is_model(part) for part in _parts(hints[name]))
        }
        return self._adapters


def _holds_models(value: Any) -> bool:
    if isinstance(value, BaseModel):
        return True
    if isinstance(value, dict):
        return any(map(_holds_models, value.values()))
    return isinstance(value, (list, tuple, set, frozenset)) and any(map(_holds_models, value))


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in typing.get_args(annotation):
        yield from _parts(part)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
