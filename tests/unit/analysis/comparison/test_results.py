import csv
from zlib import crc32

import numpy as np
import pytest
from mmengine.config import Config

from repfusion_mm.analysis.comparison.figure import draw_comparison
from repfusion_mm.analysis.comparison.results import (
    Point,
    format_comparison,
    recommend,
    select_within_one_se,
    write_points,
)
from tests.helpers.probe_measurements import given

CONFIG = dict(
    model=dict(
        teacher=dict(type='Teacher', layers=['low', 'high'], size=8),
        policy=dict(type='LearnedTimestepPolicy', low=5),
        student_indices=[2, 3],
    )
)


@pytest.fixture
def config(tmp_path):
    Config(CONFIG).dump(str(tmp_path / 'base.py'))
    return Config.fromfile(tmp_path / 'base.py')


def point(r2, timestep=0, layer='low', gflop=1.0, teacher='a', **settings):
    """Return a point whose images are independent of those of others."""
    seed = crc32(repr((r2, timestep, layer, gflop, teacher)).encode())
    measured = given(r2, seed=seed, **settings)
    return Point(teacher, layer, timestep, 'clean', gflop, measured)


def curve(layer, *values, **settings):
    return [
        point(r2, 100 * i, layer, **settings) for i, r2 in enumerate(values)
    ]


def test_points_within_a_standard_error_are_as_good_cheapest_first():
    points = [
        point(0.80, gflop=5),
        point(0.79, gflop=2),
        point(0.785, gflop=1),
        point(0.79, gflop=1),
        point(0.70, gflop=0.5),
    ]
    assert select_within_one_se(points) == [points[i] for i in (3, 2, 1, 0)]


def test_the_page_ranks_no_teachers_that_are_within_a_standard_error(config):
    points = [
        *curve('high', 0.7, 0.8, gflop=400),
        *curve('low', 0.79, 0.6, gflop=30, teacher='b'),
        *curve('low', 0.5, gflop=3, teacher='c'),
    ]
    baselines = {'no image': given(0.1)}
    configs = dict.fromkeys('abc', config)
    page = format_comparison(points, baselines, 'accuracy', configs)
    assert 'highest R²), cheapest first: b, a.' in page
    assert (
        '| a | 0.800 (95% interval 0.700 to 0.900) | 0.800 (standard error '
        '0.020) | 400 | high, t = 100 | not distinguishable from it (R² '
        'within one standard error): high: t = 100 |'
    ) in page
    assert (
        '| no image | 0.100 (95% interval 0.000 to 0.200) | 0.100 (standard '
        'error 0.020) | | | |'
    ) in page
    one = format_comparison(points[:2], baselines, 'accuracy', configs)
    assert 'Highest R²: a.' in one


def test_a_teacher_that_says_nothing_has_no_lines(config):
    points = [
        *curve('low', 0.1, 0.2, p_value=0.5),
        *curve('low', 0.5, 0.8, teacher='b'),
    ]
    configs = dict.fromkeys('ab', config)
    page = format_comparison(points, {}, 'accuracy', configs)
    assert 'low, t = 100 | says nothing about these labels |' in page
    assert page.count('```python') == 1
    assert 'Highest R²: b.' in page and 'No teacher' not in page
    page = format_comparison(points[:2], {}, 'accuracy', configs)
    assert 'No teacher says anything about these labels' in page
    assert '```' not in page


def test_too_few_labels_are_named(config):
    points = curve('low', 0.1, 0.2, p_value=0.5)
    points = [
        p._replace(measurement=p.measurement._replace(null=np.array([])))
        for p in points
    ]
    page = format_comparison(points, {}, 'accuracy', dict(a=config))
    assert 'low, t = 100 | too few labels to tell |' in page
    assert 'too few to test whether a teacher says anything' in page
    assert 'says nothing' not in page and '```' not in page


def test_many_teachers_that_say_nothing_are_not_told_from_one_that_does():
    """The best of all is compared with the best of all permutations."""
    points = [point(0.3), point(0.2, teacher='b')]
    assert recommend(points) == 'Highest R²: a'
    points[1].measurement.null[7] = 0.4
    assert 'No teacher says anything' in recommend(points)


def test_the_lines_name_the_cheapest_of_the_best(tmp_path, config):
    points = [
        *curve('low', 0.6, 0.79, gflop=1),
        *curve('high', 0.8, 0.6, gflop=2),
    ]
    page = format_comparison(points, {}, 'accuracy', dict(a=config))
    head = 'a, accuracy 0.790 (95% interval 0.690 to 0.890), 1 GFLOP:'
    assert head in page
    lines = page.split('```python\n')[1].split('```')[0]
    (tmp_path / 'config.py').write_text(lines)
    model = Config.fromfile(tmp_path / 'config.py').model.to_dict()
    assert model == dict(
        teacher=dict(type='Teacher', layers=['low'], size=8),
        policy=dict(type='repfusion_mm.FixedTimestepPolicy', timestep=100),
        decoder=None,
        student_indices=[2],
    )


def test_points_are_written_and_drawn(tmp_path):
    from matplotlib.image import imread

    points = [
        p
        for i in range(7)  # more than there are colors
        for p in curve('low', 0.5, 0.7, gflop=10.0**i, teacher=f'teacher {i}')
    ]
    write_points(points, tmp_path / 'points.csv')
    with (tmp_path / 'points.csv').open() as file:
        first, second, *_ = csv.DictReader(file)
    assert list(first) == [
        'teacher', 'layer', 'timestep', 'input_mode', 'gflop', 'r2',
        'r2_standard_error', 'score', 'low', 'high',
    ]  # fmt: skip
    assert [second[key] for key in ('teacher', 'layer', 'timestep')] == [
        'teacher 0', 'low', '100',
    ]  # fmt: skip
    numbers = [float(second[key]) for key in [*second][4:]]
    assert numbers == pytest.approx([1, 0.7, 0.02, 0.7, 0.6, 0.8])
    baselines = {'raw pixels': given(0.4), 'no image': given(0.1)}
    draw_comparison(points, baselines, 'accuracy', tmp_path / 'points.png')
    assert imread(tmp_path / 'points.png')[..., :3].std() > 0.05


def test_only_teachers_that_say_anything_are_recommended(config):
    """Neither one that permuted labels suit as well, nor a constant."""
    noise = point(0.8, gflop=1, teacher='noise', p_value=0.5)
    useful = point(0.85, gflop=9, teacher='useful')
    assert recommend([noise, useful]) == 'Highest R²: useful'
    below = [point(-0.01, teacher='below')]
    assert recommend(below).startswith('No teacher is better than a constant')
    page = format_comparison(below, {}, 'accuracy', dict(below=config))
    assert 'GFLOP:' not in page
