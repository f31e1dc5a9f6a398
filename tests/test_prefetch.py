"""Batches made ahead: the same, in order, by one thread, and never too many."""

import contextlib
import threading
import time

import pytest

from prompt_tuning_jax import prefetch


def _until(true) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to be")


def test_every_step_in_order_by_a_thread_that_ends():
    threads = []

    def make(step):
        threads.append(threading.current_thread())
        return step**2

    with contextlib.closing(prefetch.ahead(make, range(3, 8))) as made:
        assert list(made) == [9, 16, 25, 36, 49]
    assert len(set(threads)) == 1 and threads[0] is not threading.current_thread()
    assert not threads[0].is_alive()
    assert list(prefetch.ahead(make, range(0))) == []


def test_no_more_than_depth_are_made_ahead():
    begun = []
    with contextlib.closing(prefetch.ahead(begun.append, range(100), depth=3)) as made:
        for taken in range(1, 5):
            next(made)
            _until(lambda: begun == [*range(taken + 3)])  # noqa: B023 - called at once
            time.sleep(0.02)
            assert begun == [*range(taken + 3)]
    time.sleep(0.02)
    assert begun == [*range(7)]


def test_a_batch_is_made_while_the_one_before_is_used():
    made_next = threading.Event()

    def make(step):
        if step == 1:
            made_next.set()

    with contextlib.closing(prefetch.ahead(make, range(2))) as made:
        next(made)
        assert made_next.wait(10)


def test_what_fails_is_raised_in_its_turn():
    def make(step):
        if step == 2:
            raise OSError(f"step {step}")
        return step

    made = prefetch.ahead(make, range(5))
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(OSError, match="step 2"):
        next(made)


def test_a_result_is_read_once_the_next_is_asked_for():
    said = []

    def asked():
        for i in range(3):
            said.append(f"ask {i}")
            yield i

    for i in prefetch.one_behind(asked()):
        said.append(f"read {i}")
    assert said == ["ask 0", "ask 1", "read 0", "ask 2", "read 1", "read 2"]
    assert list(prefetch.one_behind([])) == []
