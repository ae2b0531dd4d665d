"""Places: so many at a time, fair turns, a bounded queue; one computation for all who ask."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from service.concurrency.places import Places
from service.concurrency.shared import Shared
from service.kit.errors import Busy


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Hall:
    """Callers of ``places`` that stay until they are told to leave."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.entered: list[str | None] = []
        self._tasks: list[tuple[str | None, asyncio.Event, asyncio.Task[None]]] = []

    def comes(self, holder: str | None) -> asyncio.Task[None]:
        leave = asyncio.Event()

        async def visit() -> None:
            async with self.places.hold(holder):
                self.entered.append(holder)
                await leave.wait()

        task = asyncio.create_task(visit())
        self._tasks.append((holder, leave, task))
        return task

    def leaves(self, holder: str | None) -> None:
        """The first caller of ``holder`` that has not been told yet."""
        place = next(i for i, each in enumerate(self._tasks) if each[0] == holder)
        self._tasks.pop(place)[1].set()


def test_one_key_cannot_take_all_places_and_turns_are_taken_by_key() -> None:
    async def run() -> None:
        hall = Hall(Places("It", total=4, queue=40))
        for _ in range(20):
            hall.comes("greedy")
        await settle()
        assert hall.entered == ["greedy"] * 3
        hall.comes("other")
        await settle()
        assert hall.entered[3:] == ["other"]
        for name in ("other", "third"):
            hall.comes(name)
            hall.comes(name)
        for _ in range(3):
            hall.leaves("greedy")
            await settle()
        assert sorted(hall.entered[4:]) == ["greedy", "other", "third"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("holder", "others"), [(None, "key"), ("key", "another")], ids=["open mode", "keys"]
)
def test_the_queue_is_bounded_for_each_and_for_all(holder: str | None, others: str) -> None:
    async def run() -> None:
        hall = Hall(Places("It", total=1, queue=4))
        hall.comes(holder)
        await settle()
        room = 4 if holder is None else 3
        waiting = [hall.comes(holder) for _ in range(room)]
        refused = hall.comes(holder)
        with pytest.raises(Busy):
            await refused
        more = hall.comes(others)
        await settle()
        assert more.done() is (holder is None)  # with keys, one place in the queue is left
        assert not any(each.done() for each in waiting)
        assert hall.places.waiting == 4
        more.exception() if more.done() else more.cancel()

    asyncio.run(run())


def test_a_wait_ends_and_leaves_nothing_behind() -> None:
    async def run() -> None:
        hall = Hall(Places("It", total=1, queue=4, wait_seconds=0.01))
        hall.comes("a")
        await settle()
        with pytest.raises(Busy):
            await hall.comes("b")
        gone = hall.comes("c")
        await settle()
        gone.cancel()
        await settle()
        assert (hall.places.taken, hall.places.waiting) == (1, 0)
        hall.leaves("a")
        await settle()
        assert hall.places.taken == 0

    asyncio.run(run())


def test_places_are_never_lost_nor_given_twice() -> None:
    """Callers of four keys come, leave, and give up at random."""

    async def run(seed: int) -> None:
        rng = random.Random(seed)
        places = Places("It", total=3, queue=6, wait_seconds=0.002)
        most = 0

        async def visit(holder: str) -> None:
            nonlocal most
            try:
                async with places.hold(holder):
                    most = max(most, places.taken)
                    await asyncio.sleep(rng.random() * 0.002)
            except Busy:
                pass

        tasks = []
        for _ in range(200):
            tasks.append(asyncio.create_task(visit(rng.choice("abcd"))))
            if rng.random() < 0.2:
                rng.choice(tasks).cancel()
            if rng.random() < 0.3:
                await asyncio.sleep(0.0005)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= 3
        assert (places.taken, places.waiting) == (0, 0)

    for seed in range(5):
        asyncio.run(run(seed))


def test_work_runs_on_threads_of_its_own() -> None:
    async def run() -> None:
        places = Places("It", total=2, queue=0)
        gate = threading.Event()
        stuck = [asyncio.create_task(places.run(lambda: gate.wait(30))) for _ in range(50)]
        await settle()
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 30) == 7
        gate.set()
        await asyncio.gather(*stuck)

    asyncio.run(run())


def test_those_who_ask_together_share_one_computation() -> None:
    async def run() -> None:
        calls = 0
        gate = asyncio.Event()

        async def compute() -> int:
            nonlocal calls
            calls += 1
            await gate.wait()
            return calls

        shared = Shared(compute, seconds=60.0)
        asked = [asyncio.create_task(shared.get()) for _ in range(60)]
        await settle()
        with pytest.raises(TimeoutError):
            await shared.get(patience=0.01)
        asked[0].cancel()  # does not stop it for the others
        gate.set()
        assert await asyncio.gather(*asked[1:]) == [1] * 59
        assert await shared.get() == 1  # still good
        shared.seconds = 0.0
        assert await shared.get() == 2

    asyncio.run(run())


def test_a_failure_is_told_to_all_and_not_kept() -> None:
    async def run() -> None:
        calls = 0

        async def compute() -> int:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0)
            if calls == 1:
                raise OSError("away")
            return calls

        shared = Shared(compute, seconds=60.0)
        results = await asyncio.gather(*(shared.get() for _ in range(3)), return_exceptions=True)
        assert [str(each) for each in results] == ["away"] * 3
        assert await shared.get() == 2

    asyncio.run(run())
