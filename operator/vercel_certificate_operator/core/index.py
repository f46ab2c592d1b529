"""An index of which values belong to a key."""

from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class Index(Generic[K, V]):
    """The values of each key, in the order in which they were added.

    Most keys have one value. It takes no container of its own: of ten thousand keys, these would be megabytes.
    """

    __slots__ = ("_many", "_one")

    def __init__(self) -> None:
        self._one: dict[K, V] = {}
        self._many: dict[K, dict[V, None]] = {}

    def add(self, key: K, value: V) -> None:
        """Adds a value, if the key doesn't have it."""
        many = self._many.get(key)
        if many is not None:
            many[value] = None
        elif key not in self._one:
            self._one[key] = value
        elif self._one[key] != value:
            self._many[key] = {self._one.pop(key): None, value: None}

    def discard(self, key: K, value: V) -> None:
        """Removes a value, if the key has it."""
        many = self._many.get(key)
        if many is None:
            if self._one.get(key) == value:
                del self._one[key]
            return
        many.pop(value, None)
        if len(many) == 1:
            self._one[key] = next(iter(self._many.pop(key)))

    def get(self, key: K) -> Collection[V]:
        """Returns the values of a key. They change with the index."""
        if key in self._one:
            return (self._one[key],)
        return self._many.get(key, {}).keys()

    def __contains__(self, key: K) -> bool:
        return key in self._one or key in self._many

    def __len__(self) -> int:
        """How many keys have values."""
        return len(self._one) + len(self._many)
