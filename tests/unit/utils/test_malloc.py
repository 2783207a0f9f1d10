"""Freed memory is reused unless the user's environment sets otherwise."""

import sys

import pytest

from repfusion_mm.utils.malloc import keep_freed_memory
from tests.helpers.launcher import launch

#: Count the page faults of allocating and freeing 80 MB twenty times.
FAULTS = """
import resource, torch
from repfusion_mm.utils.malloc import keep_freed_memory
print('done', keep_freed_memory() if {keep} else None)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def allocate(times):
    for _ in range(times):
        torch.ones(20_000_000)
allocate(30)  # until the heap has settled: up to 15 with torch 2.1
before = faults()
allocate(20)
print('faults', faults() - before)
"""


def run(keep):
    code = FAULTS.format(keep=keep)
    words = launch(sys.executable, '-c', code).split()
    done, faults = (words[words.index(w) + 1] for w in ('done', 'faults'))
    return done, int(faults)


@pytest.mark.slow
def test_freed_memory_is_reused():
    done, kept = run(True)
    if done != 'True':
        pytest.skip('the C library is not glibc')
    _, given_back = run(False)
    assert kept < given_back / 10


def test_settings_of_the_environment_are_not_changed(monkeypatch):
    monkeypatch.setenv('MALLOC_TRIM_THRESHOLD_', '131072')
    assert not keep_freed_memory()
