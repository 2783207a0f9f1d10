import pytest
import torch

from repfusion_mm.analysis.timing import (
    measure_matmul_rate,
    ratio_by_round,
    summarize_ms,
    time_interleaved,
    time_methods,
)


def test_steps_are_timed_round_by_round_after_a_warm_up():
    order = []
    prepare = {n: lambda n=n: lambda: order.append(n) for n in 'ab'}
    times = time_interleaved(prepare, rounds=2, warmup=1, device='cpu')
    assert order == ['a', 'b'] * 3
    assert [len(seconds) for seconds in times.values()] == [2, 2]


def test_methods_are_timed_within_the_context_only():
    class Worker:
        def work(self):
            return 'done'

    worker = Worker()
    with time_methods({'part': [(worker, 'work')]}, 'cpu') as seconds:
        assert worker.work() == 'done'
    once = seconds['part']
    assert once > 0
    assert 'work' not in vars(worker)
    worker.work()
    assert seconds['part'] == once


def test_summaries_are_medians_with_their_range():
    summary = summarize_ms([0.003, 0.001, 0.002])
    assert summary == pytest.approx(dict(median=2, least=1, largest=3))
    assert ratio_by_round([2, 6, 8], [2, 2, 2]) == (3, 1, 4)


def test_matmul_rate_is_positive():
    assert measure_matmul_rate(torch.float32, 'cpu', side=8, rounds=2) > 0
