"""How long a call of PyTorch takes on its device."""

import statistics
import time
from collections.abc import Callable

import torch


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def seconds(
    call: Callable[[], object], device: str, repetitions: int = 5, least: float = 0.02
) -> tuple[float, float]:
    """Of one call: best and median of some repetitions, each of as many calls as take `least` seconds.

    As massact's own bench does it.
    """

    def repeat(count: int) -> float:
        synchronise(device)
        began = time.perf_counter()
        for _ in range(count):
            call()
        synchronise(device)
        return time.perf_counter() - began

    count = 1
    while (taken := repeat(count)) < least and count < 1000:
        count = min(1000, int(count * min(100.0, max(1.5, least / taken))) + 1)
    found = [repeat(count) / count for _ in range(repetitions)]
    return min(found), statistics.median(found)


def timed(work: Callable, device: str) -> tuple:
    """The result and the seconds, with the device's work done."""
    synchronise(device)
    began = time.perf_counter()
    result = work()
    synchronise(device)
    return result, time.perf_counter() - began
