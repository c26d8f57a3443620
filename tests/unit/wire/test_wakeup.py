"""A descriptor that wakes a poller, rung and closed by different threads in any order."""

import os
import select
import signal
import threading

from p2p.wire.wakeup import Wakeup


def is_readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup], [], [], 0)[0])


def test_it_is_readable_from_a_ring_to_the_next_clear():
    wakeup = Wakeup()
    assert not is_readable(wakeup)
    wakeup.ring()
    wakeup.ring()
    assert is_readable(wakeup)
    wakeup.clear()
    assert not is_readable(wakeup)
    wakeup.close()


def test_a_ring_after_the_end_reaches_nobody_else():
    wakeup = Wakeup()
    fd = wakeup.fileno()
    wakeup.close()
    wakeup.close()
    other = os.eventfd(0, os.EFD_NONBLOCK)  # the lowest free number: that of the closed one
    assert other == fd
    wakeup.ring()
    assert not select.select([other], [], [], 0)[0]
    os.close(other)


def test_a_signal_may_ring_while_its_thread_holds_the_lock():
    wakeup = Wakeup()
    before = signal.signal(signal.SIGUSR1, lambda *_: wakeup.ring())
    try:
        with wakeup._lock:
            signal.raise_signal(signal.SIGUSR1)
        assert is_readable(wakeup)
    finally:
        signal.signal(signal.SIGUSR1, before)
        wakeup.close()


def test_many_ring_while_one_closes():
    for _ in range(50):
        wakeup, errors = Wakeup(), list[OSError]()

        def ring(wakeup: Wakeup = wakeup, errors: list[OSError] = errors) -> None:
            try:
                for _ in range(20):
                    wakeup.ring()
            except OSError as error:
                errors.append(error)

        threads = [threading.Thread(target=ring) for _ in range(4)]
        for thread in threads:
            thread.start()
        wakeup.close()
        for thread in threads:
            thread.join()
        assert errors == []
