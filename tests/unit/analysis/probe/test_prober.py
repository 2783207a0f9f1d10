import numpy as np

from repfusion_mm.analysis.probe.prober import allocate


def test_large_features_are_kept_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr('repfusion_mm.analysis.probe.prober.MAX_BYTES', 100)
    assert not isinstance(allocate((5, 5), tmp_path / 'a'), np.memmap)
    large = allocate((6, 5), tmp_path / 'b')
    assert isinstance(large, np.memmap)
    assert (tmp_path / 'b').stat().st_size == 120
    assert not isinstance(allocate((6, 5), None), np.memmap)
