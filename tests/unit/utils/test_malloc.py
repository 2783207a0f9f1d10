"""Freed memory is used again, unless the user decides about it."""

import sys

import pytest

from tests.helpers.launcher import launch

#: Page faults of taking and freeing 80 MB, twenty times.
FAULTS = """
import resource, torch
from repfusion_mm.utils.malloc import keep_freed_memory
print('done', keep_freed_memory() if {keep} else None)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def take(times):
    for _ in range(times):
        torch.ones(20_000_000)
take(30)  # until one has found its place: fifteen, seen with torch 2.1
before = faults()
take(20)
print('faults', faults() - before)
"""


def run(keep, **environ):
    code = FAULTS.format(keep=keep)
    words = launch(sys.executable, '-c', code, **environ).split()
    done, faults = (words[words.index(w) + 1] for w in ('done', 'faults'))
    return done, int(faults)


def test_memory_is_kept():
    done, kept = run(True)
    if done != 'True':
        pytest.skip('another C library than glibc')
    _, given_back = run(False)
    assert kept < given_back / 10


def test_the_users_own_settings_are_left_alone():
    done, _ = run(True, MALLOC_TRIM_THRESHOLD_='131072')
    assert done == 'False'
