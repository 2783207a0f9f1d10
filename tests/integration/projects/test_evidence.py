"""The comparison on the digits: its statistics, and one short run."""

import json

import evidence_runs
import numpy as np
import pytest
from evidence import main, read_scores, write_scores
from evidence_methods import METHODS
from evidence_report import Claim, judge, make_page
from evidence_runs import ALL, Score, Site, run_unit
from scipy import stats

from repfusion_mm.analysis.intervals import confidence_interval
from tests.helpers.launcher import ROOT


def test_intervals_are_those_of_student():
    values = [0.8, 0.9, 0.85, 0.7]
    mean, half = confidence_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert np.isnan(confidence_interval([0.5])[1])


@pytest.mark.parametrize(
    ('gain', 'margin', 'verdict'),
    [
        (0.05, 0.0, 'yes: +5.0'),
        (0.0, 0.0, 'open: +0.0'),
        (-0.05, 0.0, '**no**: -5.0'),
        (-0.005, -0.01, 'open: -0.5'),
        (0.005, -0.01, 'yes: +0.5'),
        (-0.03, -0.01, '**no**: -3.0'),
    ],
)
def test_claims_are_judged_seed_by_seed(gain, margin, verdict):
    """Seeds may differ by more than the methods do."""
    other = np.linspace(0.5, 0.9, 10)
    ours = other + gain + 0.01 * (-1.0) ** np.arange(10)
    claim = Claim('', 'a', 'b', margin)
    # Seed 10 is of one method alone.
    ours = dict(enumerate([*ours, 0.0]))
    assert judge(claim, ours, dict(enumerate(other))).startswith(verdict)


def scores(methods, seeds=3):
    return [
        Score(method, n, 0, seed, 0.5 + 0.1 * i + 0.01 * seed, 250.0 if i else
              None)
        for i, method in enumerate(methods)
        for n in (20, ALL)
        for seed in range(seeds)
    ]  # fmt: skip


def test_page_shows_means_and_says_what_is_missing():
    page = make_page([*scores(['scratch', 'learned']), *scores(['rkd'], 2)])
    assert '| from scratch | 51.0 ± 2.5 | 51.0 ± 2.5 |' in page
    assert '| RepFusion beats scratch | yes: +10.0 ± 0.0 |' in page
    assert '| t = 250, RKD | 50.5 ± 6.4 (2 seeds) |' in page
    assert '| learned t (RepFusion) | 250 | 250 |' in page
    for missing in ('uniform', 'not measured', 'nan'):
        assert missing not in page


def test_scores_survive_a_line_cut_short(tmp_path):
    path = tmp_path / 'scores.csv'
    written = scores(['scratch', 'learned'])
    write_scores(path, written)
    assert read_scores(path) == written
    path.write_text(path.read_text()[:-12])
    assert read_scores(path) == written[:-1]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder, with the best timesteps known from an earlier call."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'best.json').write_text(json.dumps({20: 300, ALL: 500}))
    return out


@pytest.mark.parametrize('method', [m for m in METHODS if m != 'scratch'])
def test_every_method_distils_and_is_scored(work, monkeypatch, method):
    """Two iterations of each."""
    short = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=16',
             'train_dataloader.sampler.num_samples=32']  # fmt: skip
    known = METHODS[method]
    changed = known._replace(options=[*known.options, *short])
    monkeypatch.setitem(METHODS, method, changed)
    monkeypatch.setitem(evidence_runs.FINETUNE_ITERS, 20, 2)
    site = Site.prepare(work, [20], [0], seeds=1)
    # An earlier call was killed after its first checkpoint.
    torn = work / 'distill' / 'learned_0_20.part'
    torn.mkdir(parents=True)
    (torn / 'student.pth').touch()
    (score,) = run_unit(site, method, 0, [(20, 0)])
    assert (score.method, score.num_labels, score.seed) == (method, 20, 0)
    assert 0 < score.accuracy < 1
    folders = [f for f in (work / 'distill').iterdir() if f != torn]
    students = [folder / 'student.pth' for folder in folders]
    assert students[0].stat().st_size > 0
    assert len(students) == 1
    assert ('20' in students[0].parent.name) == known.reads_labels


def test_each_seed_has_labels_of_its_own(work):
    site = Site.prepare(work, [20, ALL], [0], seeds=2)
    first, second = (site.labels(20, i).read_text().split() for i in (0, 1))
    assert first != second
    assert sorted(first[1::2]) == sorted(2 * '0123456789')
    assert site.labels(ALL, 0) == site.labels(ALL, 1)
    assert site.best == {20: 300, ALL: 500}


def test_a_second_call_goes_on_where_the_first_stopped(work, capsys):
    """The one score that is missing, through the command line."""
    known = scores(['scratch'])[1:3]
    write_scores(work / 'scores.csv', known)
    arguments = ['--methods', 'scratch', '--num-labels', '20', '--padding',
                 '0', '--seeds', '3', '--workers', '1']  # fmt: skip
    main([*arguments, '--out', str(work)])
    found = read_scores(work / 'scores.csv')
    assert found[1:] == known
    assert (found[0].seed, found[0].timestep) == (0, None)
    assert 0.2 < found[0].accuracy < 1
    assert 'from scratch' in (work / 'evidence.md').read_text()
    assert (work / 'evidence.png').exists()


def test_labels_that_cannot_be_balanced_are_refused(work):
    with pytest.raises(ValueError, match='multiples of 10'):
        Site.prepare(work, [25], [0], seeds=1)


def test_the_page_in_docs_is_of_the_scores_in_docs():
    """Written by: evidence.py --csv projects/digits/scores.csv"""
    page = (ROOT / 'docs' / 'evidence.md').read_text()
    assert make_page(read_scores(ROOT / 'projects/digits/scores.csv')) in page
