"""Places that are shared among kinds, some of which never give theirs back."""

import asyncio
import random

import pytest

from server.tfserving.wire.shares import Full, Shares


async def steps(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


async def taking(shares, kind, count):
    """So many takers, and how many of them got a place."""
    takers = [asyncio.create_task(shares.take(kind)) for _ in range(count)]
    await steps()
    return takers, sum(one.done() and not one.exception() for one in takers)


def test_each_kind_gets_as_many_as_it_leaves():
    async def run():
        shares = Shares(64, 1000)
        for share in (32, 16, 8, 4):
            _, got = await taking(shares, str(share), 40)
            assert got == share

    asyncio.run(run())


def test_kinds_that_come_together_share_alike():
    async def run():
        shares = Shares(60, 1000)
        held = {"a": 0, "b": 0}
        for _ in range(30):
            for kind in held:
                held[kind] += (await taking(shares, kind, 1))[1]
        assert held == {"a": 20, "b": 20}

    asyncio.run(run())


def test_those_who_wait_are_shared_too_and_others_refused():
    async def run():
        shares = Shares(2, 8)
        takers, got = await taking(shares, "a", 9)
        refused = [one for one in takers if one.done() and one.exception()]
        assert (got, len(refused)) == (1, 4)
        assert all(isinstance(one.exception(), Full) for one in refused)
        assert (await taking(shares, "b", 1))[1] == 1
        for one in takers:
            one.cancel()
        await steps()
        assert not shares._waiting

    asyncio.run(run())


def test_turns_come_in_order_and_kinds_in_turn():
    async def run():
        shares, order = Shares(1, 100), []

        async def take(kind, number):
            await shares.take(kind)
            order.append((kind, number))

        await shares.take("first")
        tasks = [asyncio.create_task(take("a", number)) for number in range(3)]
        tasks += [asyncio.create_task(take("b", number)) for number in range(2)]
        await steps()
        shares.give_back("first")
        for done in range(1, 6):
            await steps()
            assert len(order) == done
            shares.give_back(order[-1][0])
        assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]

    asyncio.run(run())


def test_a_turn_that_comes_as_its_taker_gives_up_goes_to_the_next():
    async def run():
        shares = Shares(1, 100)
        await shares.take("a")
        (gives_up, following), _ = await taking(shares, "a", 2)
        shares.give_back("a")  # its turn is told
        gives_up.cancel()  # and not heard
        await steps()
        assert gives_up.cancelled()
        assert following.done()

    asyncio.run(run())


def test_who_comes_behind_one_that_is_giving_up_is_not_forgotten():
    async def run():
        shares = Shares(1, 100)
        await shares.take("other")
        (gives_up,), _ = await taking(shares, "a", 1)
        following = asyncio.create_task(shares.take("a"))  # it begins before the other one hears
        gives_up.cancel()
        shares.give_back("other")  # nobody holds a place now, and nobody will give one back
        await steps()
        assert gives_up.cancelled()
        assert following.done()

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_no_place_is_ever_lost(seed):
    chance = random.Random(seed)

    async def run():
        shares = Shares(8, 16)

        async def user(kind):
            try:
                await shares.take(kind)
            except Full:
                return
            try:
                await steps(chance.randrange(4))
            finally:
                shares.give_back(kind)

        tasks = []
        for _ in range(300):
            tasks.append(asyncio.create_task(user(chance.choice("abc"))))
            if chance.random() < 0.3:
                chance.choice(tasks).cancel()
            await steps(chance.randrange(3))
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert (shares._free, shares._seats, shares._waiting, dict(shares._held)) == (8, 16, {}, {})

    asyncio.run(run())
