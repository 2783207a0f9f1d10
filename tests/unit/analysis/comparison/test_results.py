import csv

import pytest
from mmengine.config import Config

from repfusion_mm.analysis.comparison.candidates import Settings, summarize
from repfusion_mm.analysis.comparison.figure import draw_comparison
from repfusion_mm.analysis.comparison.results import (
    Point,
    describe_within_one_se,
    format_comparison,
    select_within_one_se,
    write_points,
)
from repfusion_mm.analysis.probe import Score

CONFIG = Config(
    dict(
        model=dict(
            teacher=dict(type='Teacher', layers=['low', 'high'], size=8),
            policy=dict(type='LearnedTimestepPolicy', low=5),
            student_indices=[2, 3],
        )
    )
)


def point(mean, timestep=0, layer='low', gflop=1.0, teacher='a', error=0.02):
    return Point(
        teacher, layer, timestep, 'clean', gflop, mean, error, 2 * error
    )


def curve(layer, *means, **settings):
    return [
        point(mean, 100 * i, layer, **settings) for i, mean in enumerate(means)
    ]


def test_scores_are_averaged_over_the_splits_that_are_compared():
    scores = [
        Score('clean', 'low', 300, n, split, score)
        for n, split, score in (
            (50, 0, 0.6), (50, 1, 0.8), (50, 2, 0.1), (20, 0, 0.1),
        )
    ]  # fmt: skip
    (only,) = summarize('a', scores, Settings(50, 2), dict(low=3 * 10**9))
    assert only[:5] == ('a', 'low', 300, 'clean', 3)
    assert only[5:] == pytest.approx((0.7, 0.1, 0.02**0.5))


def test_points_within_a_standard_error_are_as_good_cheapest_first():
    points = [
        point(0.80, gflop=5),
        point(0.79, gflop=2),
        point(0.785, gflop=1),
        point(0.79, gflop=1),
        point(0.77, gflop=0.5),
    ]
    assert select_within_one_se(points) == [points[i] for i in (3, 2, 1, 0)]


def test_all_layers_and_timesteps_within_a_standard_error_are_named():
    points = [
        *curve('low', 0.79, 0.79, 0.5, 0.8, 0.1),
        *curve('mid', 0.5, 0.7, gflop=2),
        *curve('high', 0.5, 0.79, gflop=3),
    ]
    expected = 'low: t = 0 to 100, 300; high: t = 100'
    assert describe_within_one_se(points) == expected


def test_the_page_ranks_no_teachers_that_are_within_a_standard_error():
    points = [
        *curve('high', 0.7, 0.8, gflop=400),
        *curve('low', 0.79, 0.6, gflop=30, teacher='b'),
        *curve('low', 0.5, gflop=3, teacher='c'),
    ]
    baselines = [point(0.1, layer='no image', teacher='')]
    configs = dict.fromkeys('abc', CONFIG)
    page = format_comparison(points, baselines, 'accuracy', configs)
    assert 'of the highest score), cheapest first: b, a.' in page
    assert (
        '| a | 0.800 ± 0.020 | 0.040 | 400 | high, t = 100 | high: t = 100 |'
    ) in page
    assert '| no image | 0.100 ± 0.020 | 0.040 | | | |' in page
    alone = format_comparison(points[:2], baselines, 'accuracy', configs)
    assert 'Highest score: a.' in alone


def test_the_lines_name_the_cheapest_of_the_best(tmp_path):
    points = [
        *curve('low', 0.6, 0.79, gflop=1),
        *curve('high', 0.8, 0.6, gflop=2),
    ]
    page = format_comparison(points, [], 'accuracy', dict(a=CONFIG))
    assert 'a, accuracy 0.790 ± 0.020, 1 GFLOP:' in page
    base, config = tmp_path / 'base.py', tmp_path / 'config.py'
    CONFIG.dump(str(base))
    lines = page.split('```python\n')[1].split('```')[0]
    config.write_text(f"_base_ = ['base.py']\n{lines}")
    model = Config.fromfile(config).model.to_dict()
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
        head, *rows = csv.reader(file)
    assert tuple(head) == Point._fields
    assert rows[1] == [str(value) for value in points[1]]
    baselines = [point(0.1, layer=name) for name in ('pixels', 'no image')]
    draw_comparison(points, baselines, 'accuracy', tmp_path / 'points.png')
    assert imread(tmp_path / 'points.png')[..., :3].std() > 0.05
