import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from repfusion_mm.analysis.probe.figure import draw_heat_map, draw_probe
from tests.helpers.probe_measurements import as_dict, given


def test_one_layer_is_a_curve_and_several_are_a_map_too(tmp_path):
    baselines = {'raw pixels': given(0.4), 'no image': given(0.0)}
    one = as_dict([given(0.1 * t) for t in range(9)])
    # More layers than colors, and timesteps that one of them lacks.
    several = dict(one)
    for i in range(8):
        several.update(as_dict([given(0.5)] * 2, f'layer {i}', 'noised'))
    images = []
    for measured in (one, several):
        draw_probe(measured, baselines, 'accuracy', tmp_path / 'probe.png')
        images.append(imread(tmp_path / 'probe.png'))
        assert images[-1][..., :3].std() > 0.05
    assert images[1].shape[1] > images[0].shape[1]
    draw_probe(as_dict([given(0.5)]), {}, 'accuracy', tmp_path / 'one.png')
    assert (tmp_path / 'one.png').exists()


def test_cells_of_the_map_without_a_score_are_blank():
    figure = Figure()
    axes = figure.subplots()
    rows = dict(low={0: 0.1, 500: 0.2}, high={999: 0.3, 0: 0.4})
    draw_heat_map(figure, axes, rows, 'accuracy')
    values = np.ma.filled(axes.images[0].get_array(), -1)
    np.testing.assert_array_equal(values, [[0.1, 0.2, -1], [0.4, -1, 0.3]])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [*rows]
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ['0', '500', '999']
