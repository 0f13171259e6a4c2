"""Times that can be compared, as timing.h has them: contenders take turns, in a random order in every round, and are
compared round by round. A turn starts when no thread of the process runs any more: a pool whose threads still look out
for work would take the CPUs of the next contender. It warms its contender up, untimed, and then times its calls."""

import dataclasses
import math
import os
import random
import resource
import statistics
import time
from collections.abc import Callable

TURN_SECONDS = 0.005  # long enough for the clock, and for one interruption not to count much
WARM_UP_SECONDS = 0.030  # a virtual CPU that slept can take ten milliseconds and more to come back


@dataclasses.dataclass
class Contender:
    name: str
    run: Callable
    detail: str = ""  # the form that was chosen
    calls: int = 1  # of a turn
    seconds: list = dataclasses.field(default_factory=list)  # of a call, one number a round
    faults: float = 0  # fresh pages a call


def wait_until_idle(limit=0.1):
    start = time.perf_counter()
    while time.perf_counter() - start < limit:
        cpu, nap = time.process_time(), time.perf_counter()
        time.sleep(0.0003)
        if time.process_time() - cpu < 0.25 * (time.perf_counter() - nap):
            return


def time_calls(run, calls):
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def warm_up(run):
    start = time.perf_counter()
    run()
    while time.perf_counter() - start < WARM_UP_SECONDS:
        run()


def quick_time(run):
    """Of one call: the least of a few, after a warm-up."""
    wait_until_idle()
    warm_up(run)
    return min(time_calls(run, 1) for _ in range(5))


def busy_seconds():
    """CPU time that all processes have had, and that this one has."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, interrupts, soft, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + interrupts + soft + steal) / os.sysconf("SC_CLK_TCK"), time.process_time()


def race(contenders, rounds):
    """Times them, and returns how many CPUs other processes had meanwhile."""
    for contender in contenders:
        contender.seconds = []
        once = quick_time(contender.run)
        contender.calls = max(1, math.ceil(TURN_SECONDS / max(once, 1e-7)))
    order = random.Random(1)
    start, (all_before, own_before) = time.perf_counter(), busy_seconds()
    faults = dict.fromkeys((contender.name for contender in contenders), 0)
    for _ in range(rounds):
        for contender in order.sample(contenders, len(contenders)):
            wait_until_idle()
            warm_up(contender.run)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            contender.seconds.append(time_calls(contender.run, contender.calls))
            faults[contender.name] += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    for contender in contenders:
        contender.faults = faults[contender.name] / (rounds * contender.calls)
    all_after, own_after = busy_seconds()
    return max(0.0, (all_after - all_before - (own_after - own_before)) / (time.perf_counter() - start))


def quartiles(values):
    """Low, median, high."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def paired_ratio(a, b):
    """Of a's time over b's, round by round."""
    return quartiles([x / y for x, y in zip(a.seconds, b.seconds)])
