import pytest
import torch

from repfusion_mm.analysis import memory


@pytest.mark.skipif(
    not memory.can_keep_memory('cpu'), reason='reads /proc of Linux'
)
def test_peak_is_measured_since_the_last_reset():
    def allocate(megabytes):
        torch.ones(megabytes * memory.MB // 4)

    memory.set_memory_policy(keep=False)
    allocate(256)
    memory.reset_peak_memory('cpu')
    before = memory.memory_in_use('cpu')
    allocate(64)
    memory.set_memory_policy(keep=True)
    assert 60 < memory.peak_memory('cpu') - before < 120


def test_memory_of_other_devices_cannot_be_kept():
    assert not memory.can_keep_memory('cuda')
