"""A bounded cache against a model: it drops the oldest value of the owner that holds most."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.bounded import BoundedCache

Step = tuple[str, int, int]
"""What is done, with which owner and key."""
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "get", "pop", "drop", "all_of"]),
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    max_size=60,
)


class Model:
    """The same rules with lists and searches."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.values: list[tuple[int, int]] = []  # (owner, key), last used at the end
        self.owners: list[int] = []  # last used or resized at the end

    def count(self, owner: int) -> int:
        return sum(one == owner for one, _ in self.values)

    def touched(self, owner: int) -> None:
        self.owners = [one for one in self.owners if one != owner]
        if self.count(owner):
            self.owners.append(owner)

    def step(self, kind: str, owner: int, key: int) -> None:
        here = (owner, key) in self.values
        if kind == "drop":
            self.values = [one for one in self.values if one[0] != owner]
            self.touched(owner)
            return
        if here and kind != "put":
            self.values.remove((owner, key))
        if (here and kind in {"get", "all_of"}) or kind == "put":
            self.values = [one for one in self.values if one != (owner, key)]
            self.values.append((owner, key))
        if here or kind == "put":
            self.touched(owner)
        if len(self.values) > self.most:
            self.evict()

    def evict(self) -> None:
        largest = max(self.count(one) for one in self.owners)
        owner = next(one for one in self.owners if self.count(one) == largest)
        self.values.remove(next(one for one in self.values if one[0] == owner))
        self.touched(owner)


def held(cache: BoundedCache[int, str], model: Model) -> set[tuple[int, int]]:
    """What a cache holds, without using any of it."""
    owners = {owner for owner, _ in model.values} | set(range(4))
    return {(owner, key) for owner in owners for key in cache._owned.get(owner, {})}


@given(st.integers(1, 5), STEPS)
def test_it_holds_what_the_model_holds(most: int, steps: Sequence[Step]) -> None:
    cache, model = BoundedCache[int, str](most), Model(most)
    for kind, owner, key in steps:
        model.step(kind, owner, key)
        if kind == "put":
            cache.put(key, "value", owner)
        elif kind == "drop":
            cache.drop(owner)
        elif kind == "all_of":
            cache.all_of([key], owner)
        else:
            getattr(cache, kind)(key, owner)
        assert held(cache, model) == set(model.values)
        assert len(cache) == len(model.values) <= most
        assert sorted(cache) == sorted(key for _, key in model.values)


def test_a_large_owner_loses_its_own_values() -> None:
    cache = BoundedCache[int, str](10)
    cache.put(0, "small", "other")
    for key in range(1_000):
        cache.put(key, "large", "owner")
    assert cache.get(0, "other") == "small"
    assert cache.get(999, "owner") == "large"
    assert cache.get(0, "owner") is None


def test_it_is_empty_after_it_was_cleared() -> None:
    cache = BoundedCache[int, str](2)
    for owner in range(3):
        cache.put(0, "value", owner)
    cache.clear()
    assert (len(cache), list(cache), cache.get(0, 2)) == (0, [], None)
    cache.put(1, "value")
    assert cache.get(1) == "value"


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(AssertionError):
        BoundedCache[int, str](0)
