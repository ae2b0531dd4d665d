"""Reading and replacing what flows into or out of a module, by hooks that live for one call.

PyTorch's hooks belong to the module, not to the caller: two threads that hook one model see each
other's hooks.  ``HostModel`` therefore holds its lock while a ``Recorder`` or ``Editor`` is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Side = Literal["input", "output"]
Edit = Callable[[Tensor], Tensor]


class Within(Protocol):
    """A value that a module makes on its way from its first tensor argument to its result."""

    def read(self, taken: Tensor, given: Tensor) -> Tensor:
        """The value, where the module made ``given`` of ``taken``."""
        ...

    def written(self, before: Tensor, after: Tensor, given: Tensor) -> Tensor:
        """What the module gives where the value is ``after`` instead of ``before``; ``given`` bit
        for bit where that is the same."""
        ...


class HookPoint(NamedTuple):
    """One side of one module: its first tensor argument, or its (first) result; or, on the side of
    its output, a value ``within`` it."""

    module: nn.Module
    side: Side
    within: Within | None = None


class StopForward(Exception):
    """Raised inside the model once everything wanted has been seen; caught by ``capture``."""


class _Hooks:
    """Base: registered handles that are removed whatever happens.

    ``shape`` is [B, S] of the forward to come: some blocks flatten tokens before their MLP, and
    everybody here wants ``[B, S, width]``.  Without it, what flows is taken as it is.
    """

    def __init__(self, shape: tuple[int, int] | None = None) -> None:
        self.shape = shape
        self.first = False
        """Whether its hooks run before those that are there already."""
        self._handles: list[RemovableHandle] = []

    def _watch(self, point: HookPoint, use: Callable[[Tensor], Tensor | None]) -> None:
        def exchange(value: Tensor) -> Tensor | None:
            new = use(self._unflatten(value))
            return None if new is None else new.reshape(value.shape)

        def on_output(_module: nn.Module, _args: Any, output: Any) -> Any:
            new = exchange(_first(output))
            return None if new is None else _with_first(output, new)

        def on_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            name = _first_name(args, kwargs)
            value = None if name is None else _argument(args, kwargs, name)
            new = None if value is None else exchange(value)
            if new is None:
                return None
            if isinstance(name, int):
                return (*args[:name], new, *args[name + 1 :]), kwargs
            assert name is not None
            return args, {**kwargs, name: new}

        def on_way(
            _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
        ) -> Any:
            name, given = _first_name(args, kwargs), _first(output)
            assert point.within is not None and name is not None
            before = point.within.read(_argument(args, kwargs, name), given)
            after = exchange(before)
            if after is None:
                return None
            return _with_first(output, point.within.written(before, after, given))

        if point.within is not None:
            handle = point.module.register_forward_hook(
                on_way, with_kwargs=True, prepend=self.first
            )
        elif point.side == "output":
            handle = point.module.register_forward_hook(on_output, prepend=self.first)
        else:
            handle = point.module.register_forward_pre_hook(
                on_input, with_kwargs=True, prepend=self.first
            )
        self._handles.append(handle)

    def _unflatten(self, value: Tensor) -> Tensor:
        rows, columns = self.shape or (0, -1)
        if value.ndim == 2 and value.shape[0] == rows * columns:
            return value.view(rows, columns, -1)
        return value

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.close()
        return kind is StopForward


class Recorder(_Hooks):
    """Collects the tensors at ``points``; with ``stop_when_full`` ends the forward at the last.

    As a context manager it swallows its own ``StopForward`` and removes its hooks.
    """

    def __init__(
        self, points: Iterable[HookPoint], shape: tuple[int, int], stop_when_full: bool = True
    ) -> None:
        super().__init__(shape)
        self.points = list(dict.fromkeys(points))
        self.values: dict[HookPoint, Tensor] = {}
        self.stop_when_full = stop_when_full

    def __enter__(self) -> Recorder:
        for point in self.points:
            self._watch(point, self._recorder(point))
        return self

    def _recorder(self, point: HookPoint) -> Callable[[Tensor], None]:
        def record(value: Tensor) -> None:
            last = self.stop_when_full and len(self.values) + 1 == len(self.points)
            # A copy, since some models go on to add in place; nothing goes on after the last.
            self.values[point] = value.detach() if last else value.detach().clone()
            if last:
                raise StopForward

        return record


class Editor(_Hooks):
    """Replaces the tensors at points by what their edits return, while it is open.

    Several edits of one point are applied in the order given.  ``first``: before hooks that are
    there already, such as those by which transformers collects hidden states; a point then has one
    edit.
    """

    def __init__(
        self,
        edits: Sequence[tuple[HookPoint, Edit]],
        shape: tuple[int, int] | None = None,
        first: bool = False,
    ) -> None:
        super().__init__(shape)
        self.edits, self.first = edits, first

    def __enter__(self) -> Editor:
        for point, edit in self.edits:
            self._watch(point, edit)
        return self


def _first_name(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | str | None:
    """Where the first tensor is among arguments: its place, or its name; None where none is."""
    named: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    return next((name for name, value in named if isinstance(value, Tensor)), None)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], name: int | str) -> Tensor:
    value: Tensor = args[name] if isinstance(name, int) else kwargs[name]
    return value


def _first(output: Any) -> Any:
    """The hidden states of a module's result, which may be a tuple."""
    return output[0] if isinstance(output, (tuple, list)) else output


def _with_first(output: Any, new: Tensor) -> Any:
    if isinstance(output, tuple):
        return (new, *output[1:])
    if isinstance(output, list):
        return [new, *output[1:]]
    return new
