"""Times of calls that take turns.

The benchmarks of asv load this module by its path, so it imports nothing of fastact.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from statistics import median
from time import perf_counter, sleep
from timeit import Timer

# Long compared with the resolution of the clock, and short compared with a time slice.
SAMPLE_SECONDS = 1e-3
ROUNDS = 301
# At least so many, however slow the machine is.
MIN_ROUNDS = 3
# How long the rounds of one race may take.
RACE_SECONDS = 1.0


def race(timers: Sequence[Timer], seconds: float | None = None, pause: float = 0.0) -> list[float]:
    """Measure the seconds that a call takes: for each timer, the median over `rounds`."""
    return [median(times) for times in zip(*rounds(timers, seconds, pause), strict=True)]


def rounds(
    timers: Sequence[Timer], seconds: float | None = None, pause: float = 0.0
) -> Iterator[list[float]]:
    """Measure in rounds, in which each takes a turn: yields the seconds of a call of each.

    No further round begins after `seconds`, by default `RACE_SECONDS`. Before each turn, there is
    a `pause`: the worker threads of most packages keep spinning for some milliseconds after a
    call, and would take a processor from the next one.
    """
    numbers = [_calibrate(timer) for timer in timers]
    end = perf_counter() + (RACE_SECONDS if seconds is None else seconds)
    for turn in range(ROUNDS):
        if turn >= MIN_ROUNDS and perf_counter() > end:
            break
        times = []
        for timer, number in zip(timers, numbers, strict=True):
            if pause:
                sleep(pause)
            times.append(timer.timeit(number) / number)
        yield times


@contextlib.contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """Let `n` other processes compute meanwhile."""
    with contextlib.ExitStack() as stack:
        for _ in range(n):
            process = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
            stack.enter_context(process)
            stack.callback(process.kill)
        yield


def _calibrate(timer: Timer) -> int:
    """Find how many calls take `SAMPLE_SECONDS`."""
    number = 1
    # A single slow run may only have been interrupted.
    while any(timer.timeit(number) < SAMPLE_SECONDS for _ in range(3)):
        number *= 2
    return number
