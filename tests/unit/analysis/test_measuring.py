import sys

import pytest
import torch

from repfusion_mm.analysis import measuring


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setattr(measuring, 'DEVICE', 'cpu')


def test_a_multiply_add_is_two_flop():
    left, right = torch.rand(2, 8, 8)
    assert measuring.count_flops(lambda: left @ right) == 2 * 8**3


def test_methods_are_timed_within_the_context_only():
    class Worker:
        def work(self):
            return 'done'

    worker = Worker()
    with measuring.time_methods({'part': [(worker, 'work')]}) as calls:
        assert worker.work() == 'done'
    ((begin, end),) = calls['part']
    assert end > begin
    assert 'work' not in vars(worker)
    worker.work()
    assert len(calls['part']) == 1


def test_a_summary_is_the_median_with_the_range():
    summary = measuring.summarize([3.0, 1.0, 2.0])
    assert summary == dict(median=2, least=1, largest=3)


def test_matmul_rate_is_positive():
    assert measuring.measure_matmul_rate(torch.float32, side=8) > 0


@pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='reads /proc of Linux'
)
def test_peak_is_measured_since_the_last_reset():
    def allocate(megabytes):
        torch.ones(megabytes * measuring.MiB // 4)

    measuring.set_memory_policy(keep=False)
    allocate(256)
    # Returns what the allocator took from memory that was kept before.
    measuring.set_memory_policy(keep=False)
    measuring.reset_peak()
    before, _ = measuring.read_memory()
    allocate(64)
    measuring.set_memory_policy(keep=True)
    _, peak = measuring.read_memory()
    assert 60 < peak - before < 120
