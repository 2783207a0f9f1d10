"""Scores, tables and figures of the studies."""

import cv2
import numpy as np
import pytest
from scipy.stats import ttest_1samp

from projects.camvid.study import CamvidStudy
from projects.cifar10.own_images import OwnImagesStudy
from projects.cifar10.study import Cifar10Study
from projects.digits import ablation, study
from projects.digits.ablation import AblationStudy
from projects.digits.study import DigitsStudy
from projects.faces.study import FacesStudy
from projects.study.figure import plot_study
from projects.study.methods import Claim
from projects.study.scores import (
    ALL,
    Cost,
    Score,
    read_costs,
    read_scores,
    write_costs,
    write_scores,
)
from projects.study.tables import (
    check_claim,
    collect,
    make_page,
    paired_gains,
)
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.studies import STUDIES

CLAIM = Claim('a > b', 'a', 'b')


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
@pytest.mark.parametrize('is_error', [False, True])
def test_claims_are_checked_seed_by_seed(gain, margin, verdict, is_error):
    """Seeds may differ by more than the methods do."""
    sign = -1 if is_error else 1
    other = np.linspace(0.5, 0.9, 10)
    # Seed 10 has only one of the methods.
    ours = other + sign * (gain + 0.01 * (-1.0) ** np.arange(10))
    cells = {
        ('a', 20): dict(enumerate([*ours, 0.0])),
        ('b', 20): dict(enumerate(other)),
    }
    claim = CLAIM._replace(margin=margin)
    assert check_claim(cells, claim, 20, is_error).startswith(verdict)


def test_claim_about_one_seed_is_not_checked():
    assert not check_claim({('a', 20): {0: 1.0}, ('b', 20): {0: 0.5}}, CLAIM,
                           20, False)  # fmt: skip


def make_scores(methods, num_seeds=3):
    return [
        Score(method, n, seed, 0.5 + 0.1 * i + 0.01 * seed, 250.0 if i else
              None)
        for i, method in enumerate(methods)
        for n in (20, ALL)
        for seed in range(num_seeds)
    ]  # fmt: skip


def test_page_shows_means_missing_seeds_and_costs(digits_study):
    scores = [
        *make_scores(['scratch', 'learned']),
        *make_scores(['rkd'], 2),
        *make_scores(['uniform'], 1),
    ]
    costs = [
        Cost('pretrain', f'learned_{i}', 400, seconds, 'cpu')
        for i, seconds in enumerate((10.0, 20.0, 7170.0))
    ]
    page = make_page(digits_study, scores, costs)
    assert '| accuracy (%) | 20 | all |' in page
    assert '| from scratch | 51.0 ± 2.5 | 51.0 ± 2.5 |' in page
    assert '| learned t > from scratch | yes: +10.0 ± 0.0 |' in page
    assert '| t of the probe, RKD | 50.5 ± 6.4 (2 of 3 seeds) |' in page
    assert '| uniform t | 50.0 (1 of 3 seeds) |' in page
    assert '| learned t | 250 | 250 |' in page
    assert '| pretrain, 400 iterations (cpu) | 3 | 20 | 2.0 |' in page
    for missing in ('t = 999', 'nan'):
        assert missing not in page


def test_scores_of_unknown_methods_are_refused(digits_study):
    with pytest.raises(ValueError, match=r"got \['scrach'\]; remove"):
        make_page(digits_study, make_scores(['scrach']), [])


def test_scores_and_costs_are_read_back_in_order(tmp_path):
    scores = make_scores(['learned', 'scratch'])
    write_scores(tmp_path / 'scores.csv', scores[::-1])
    assert read_scores(tmp_path / 'scores.csv') == scores
    costs = [Cost('finetune', 'a', 200, 1.5, 'cpu'),
             Cost('probe', 'b', 0, 2.0, 'cpu')]  # fmt: skip
    write_costs(tmp_path / 'costs.csv', costs[::-1])
    assert read_costs(tmp_path / 'costs.csv') == costs
    assert read_costs(tmp_path / 'other.csv') == []


def test_file_with_other_columns_is_refused(tmp_path):
    path = tmp_path / 'scores.csv'
    path.write_text('method,num_labels,padding,seed,accuracy,timestep\n')
    with pytest.raises(ValueError, match='expected the columns'):
        read_scores(path)


def test_scores_are_drawn(digits_study, tmp_path):
    scores = make_scores(['scratch', 'learned', 'fixed_best'])
    plot_study(digits_study, scores, tmp_path / 'scores.png')
    image = cv2.imread(str(tmp_path / 'scores.png'))
    assert image.shape[1] == 1500
    assert image.std() > 10


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        (AblationStudy, 'scores_policy.csv'),
        (AblationStudy, 'scores_latent.csv'),
        (OwnImagesStudy, 'scores_own_images.csv'),
        *((kind, 'scores.csv') for kind in STUDIES if kind != AblationStudy),
    ],
)
def test_readme_shows_the_scores_of_the_project(kind, name, tmp_path):
    """Written by: python -m projects.NAME.study --csv scores.csv"""
    path = kind.folder / name
    scores = read_scores(path)
    assert scores
    costs = read_costs(path.with_name(name.replace('scores', 'costs')))
    page = make_page(kind(tmp_path), scores, costs)
    assert page in (kind.folder / 'README.md').read_text()


def test_tables_of_other_scores_are_written(tmp_path):
    result = run_main(
        ablation, '--csv', study.DigitsStudy.folder / 'scores_policy.csv',
        '--out', tmp_path,
    )  # fmt: skip
    assert '| t of the probe | 81.8 ± 1.7 | 90.9 ± 0.7 |' in result.output
    assert (tmp_path / 'tables.md').read_text() in result.output
    result = run_main(study, '--csv', DigitsStudy.folder / 'scores.csv',
                      cwd=tmp_path)  # fmt: skip
    assert '| from scratch |' in result.output
    assert not (tmp_path / 'work_dirs').exists()
    missing = tmp_path / 'none.csv'
    result = run_main(study, '--csv', missing, '--out', tmp_path, expect=1)
    assert f'expected scores in {missing}, got none' in result.last_line


def p_values():
    """Return those of all claims of the four studies, sorted."""
    found = []
    for kind in (DigitsStudy, Cifar10Study, CamvidStudy, FacesStudy):
        cells = collect(read_scores(kind.folder / 'scores.csv'))
        for claim in kind.claims:
            for n in kind.num_iters:
                gains = paired_gains(cells, claim.method, claim.other, n)
                if len(gains) > 1:
                    gains = -gains if kind.is_error else gains
                    found.append(ttest_1samp(gains, claim.margin).pvalue)
    return np.sort(found)


def test_the_evidence_corrects_for_the_number_of_claims():
    """Rejections at 5%, of Holm's and of Benjamini and Hochberg's method."""
    values = p_values()
    count = len(values)
    ranks = np.arange(count)
    holm = np.argmin(values <= 0.05 / (count - ranks))
    (below,) = np.nonzero(values <= 0.05 * (ranks + 1) / count)
    text = ' '.join((ROOT / 'docs/evidence.md').read_text().split())
    assert f'have {count} such intervals' in text
    assert f'{sum(values < 0.05)} are "yes"' in text
    assert f'for all of them, {holm} remains, and {below[-1] + 1} with' in text
