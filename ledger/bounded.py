"""A cache with a bound that all orgs share: the org that fills it loses entries, not the others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """At most ``most`` values, each of an owner, such as an org. Values are never None.

    A value beyond the bound takes the place of the least recently used value of the owner that holds
    most values; of several such owners, of the one that was used, or changed its number of values,
    longest ago. Every method but :meth:`drop`, :meth:`clear` and iteration takes constant time.
    """

    def __init__(self, most: int) -> None:
        assert most > 0, "a cache of nothing would drop what was just put"
        self.most = most
        self._count = 0
        self._owned: dict[Hashable, OrderedDict[K, V]] = {}  # last used at the end
        self._sized: dict[int, OrderedDict[Hashable, None]] = {}  # owners by number of values
        self._largest = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[K]:
        for values in list(self._owned.values()):
            yield from list(values)

    def get(self, key: K, owner: Hashable = None) -> V | None:
        """Return an owner's value, which is the last used one then; None if it is not cached."""
        values = self._owned.get(owner)
        if values is None or (found := values.get(key)) is None:
            return None
        values.move_to_end(key)
        self._sized[len(values)].move_to_end(owner)
        return found

    def all_of(self, keys: Iterable[K], owner: Hashable = None) -> dict[K, V]:
        """Return those of an owner's values that are cached, by key."""
        values = self._owned.get(owner)
        if values is None:
            return {}
        found: dict[K, V] = {}
        for key in keys:
            if (value := values.get(key)) is not None:
                found[key] = value
                values.move_to_end(key)
        if found:
            self._sized[len(values)].move_to_end(owner)
        return found

    def put(self, key: K, value: V, owner: Hashable = None) -> None:
        """Cache a value; drop another one if there are too many."""
        values = self._owned.get(owner)
        if values is None:
            values = self._owned[owner] = OrderedDict()
        before = len(values)
        values[key] = value
        if len(values) == before:  # the usual case: a newer value
            values.move_to_end(key)
            self._sized[before].move_to_end(owner)
            return
        self._resized(owner, before, before + 1)
        if self._count > self.most:
            self._evict()

    def pop(self, key: K, owner: Hashable = None) -> V | None:
        """Drop a value and return it; None if it is not cached."""
        values = self._owned.get(owner)
        if values is None or key not in values:
            return None
        before = len(values)
        found = values.pop(key)
        self._resized(owner, before, before - 1)
        return found

    def drop(self, owner: Hashable) -> None:
        """Drop all values of an owner."""
        values = self._owned.get(owner)
        if values is not None:
            self._resized(owner, len(values), 0)

    def clear(self) -> None:
        """Drop all values."""
        self._owned.clear()
        self._sized.clear()
        self._count = self._largest = 0

    def _evict(self) -> None:
        owner = next(iter(self._sized[self._largest]))
        values = self._owned[owner]
        values.popitem(last=False)
        self._resized(owner, len(values) + 1, len(values))

    def _resized(self, owner: Hashable, before: int, now: int) -> None:
        """Move an owner to the owners with as many values; it is the last used one of them."""
        self._count += now - before
        if before:
            peers = self._sized[before]
            del peers[owner]
            if not peers:
                del self._sized[before]
        if now:
            self._sized.setdefault(now, OrderedDict())[owner] = None
            self._largest = max(self._largest, now)
        else:
            del self._owned[owner]
        while self._largest and self._largest not in self._sized:
            self._largest -= 1
