"""The report page, from files as mmengine and our hooks write them."""

import re
import shutil

import cv2
import numpy as np
import pytest

from tests.helpers.launcher import run_main
from tests.helpers.report_files import (
    distillation,
    finetuning,
    teacher,
    write_config,
    write_lines,
    write_probe,
)

SCRIPT = 'tools/analysis_tools/report.py'


def page_of(*folders, out, expect=0):
    run_main(SCRIPT, *folders, '--out', out / 'report.html', expect=expect)
    return (out / 'report.html').read_text()


def test_the_page_is_complete_and_self_contained(tmp_path):
    folders = [distillation(tmp_path / 'distill')]
    write_probe(folders[0] / 'probe.csv', {0: 0.9, 500: 0.85})
    folders += [
        finetuning(tmp_path / f'{budget}_{seed}', 80 + seed + budget / 10,
                   seed=seed, ann_file=f'data/train_{budget}.txt')
        for budget in (20, 100)
        for seed in range(3)
    ]  # fmt: skip
    page = page_of(*folders, out=tmp_path / 'pages')
    addresses = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert addresses
    assert all(a.startswith(('data:', '#')) for a in addresses)
    assert 'http' not in re.sub(r'data:[^"]*', '', page)
    parts = [
        'the reward increased',
        'resnet18_toy, ann_file=train_20.txt',
        '83.00',
        '± 2.48',
        '<td class="number">82.00</td>',
        '<td>0, 1, 2</td>',
        'this run had no',
        'model.policy.type',
        '180 of 180',
        'Policy and probe',
    ]
    for part in parts:
        assert part in page, part
    assert page.index('train_20.txt</td>') < page.index('train_100.txt</td>')


def test_text_from_files_is_escaped(tmp_path):
    folder = distillation(tmp_path / 'distill')
    write_config(folder, 'repfusion_toy', note='<script>alert(1)</script>')
    page = page_of(folder, out=tmp_path)
    assert '<script>' not in page
    assert '&lt;script&gt;' in page


def test_checks_without_data_are_named_as_skipped(tmp_path):
    """For a short run, and for a run without LocalVisBackend."""
    page = page_of(distillation(tmp_path / 'a', points=8), out=tmp_path)
    assert 'the reward increased (8 points were logged, 9 needed)' in page
    assert 'none (2 of 8 not checked)' in page
    for path in (tmp_path / 'a').rglob('vis_data'):
        shutil.rmtree(path)
    page = page_of(tmp_path / 'a', out=tmp_path)
    assert 'the reward increased (0 points were logged, 9 needed)' in page
    assert 'feature_relative_std was not logged' in page
    assert 'No losses were found' in page


def test_overviews_and_sections_name_folders(tmp_path):
    folders = [distillation(tmp_path / i / 'run') for i in ('one', 'two')]
    page = page_of(*folders, out=tmp_path)
    for i, name in enumerate(('one/run', 'two/run'), 1):
        assert f'<a href="#run-{i}">{name}</a>' in page
        assert f'<h2 id="run-{i}">{name}</h2>' in page
    assert '<td>43%</td><td>180 of 180 iterations</td>' in page


def test_a_teacher_has_a_section_with_its_pictures(tmp_path):
    folder = teacher(tmp_path / 'ddpm', pictures=(50, 100, 200))
    (folder / 'ddpm').mkdir()
    page = page_of(folder, distillation(tmp_path / 'b'), out=tmp_path)
    assert page.count('src="data:image/png') == 2
    parts = [
        '<td>teacher</td>',
        '<td>200 of 200 iterations</td>',
        '<td>0.25</td>',
        f'<td class="value">{folder / "ddpm"}</td>',
        'First picture, of\niteration 50',
        'Newest picture, of\niteration 200',
        'the loss decreased',
    ]
    for part in parts:
        assert part in page, part
    assert page.index('id="run-1">ddpm<') < page.index('id="run-2">b<')
    shutil.rmtree(folder / 'ddpm')
    (folder / '1' / 'vis_data' / 'scalars.json').unlink()
    page = page_of(folder, out=tmp_path)
    assert 'not exported yet' in page
    assert 'not logged' in page
    assert 'the loss decreased (0 points were logged, 9 needed)' in page


@pytest.mark.parametrize(
    ('score', 'kind', 'words'),
    [
        (90, 'passed', 'net-repfusion_* is better than net-scratch_*'),
        (60, 'warning', 'net-repfusion_* is worse than net-scratch_*'),
        (80, 'unchecked', 'are not distinguishable'),
    ],
)
def test_finetunings_are_compared_with_their_baseline(
    tmp_path, score, kind, words
):
    folders = [
        finetuning(
            tmp_path / f'net-{name}_{seed}', mean + seed % 2, seed=seed,
            checkpoint=checkpoint,
        )
        for name, mean, checkpoint in (
            ('repfusion', score, 'student.pth'), ('scratch', 80, None)
        )
        for seed in range(3)
    ]  # fmt: skip
    page = page_of(*folders, out=tmp_path)
    (box,) = re.findall(rf'<p class="{kind}">.*</p>', page)
    assert words in box


@pytest.mark.parametrize(
    ('timesteps', 'words'),
    [([100], '100, fixed'), ([0, 1, 2], '0 to 2, uniform')],
)
def test_policies_that_are_not_trained_are_named(tmp_path, timesteps, words):
    folder = distillation(tmp_path / 'a')
    probs = [round(1 / len(timesteps), 3)] * len(timesteps)
    record = dict(iter=180, max_iters=180, timesteps=timesteps,
                  probabilities=probs, entropy=0.0)  # fmt: skip
    write_lines(folder / '1' / 'policy.jsonl', [record, record])
    page = page_of(folder, out=tmp_path)
    assert f'The timestep is not learned: t = {words}' in page
    assert 'explores several' not in page


def test_the_answers_of_the_probes_are_shown(tmp_path):
    folder = distillation(tmp_path / 'a')
    assert '<h3>Probe of the teacher' not in page_of(folder, out=tmp_path)
    (folder / 'probe.txt').write_text('best: accuracy 0.9 < 1\n')
    (folder / 'verdict.txt').write_text('teacher at t = 3: accuracy 0.8\n')
    cv2.imwrite(str(folder / 'probe.png'), np.zeros((4, 4, 3), np.uint8))
    page = page_of(folder, out=tmp_path)
    assert 'best: accuracy 0.9 &lt; 1' in page
    assert 'teacher at t = 3: accuracy 0.8' in page
    assert 'alt="score of a linear probe' in page


def test_a_folder_given_twice_counts_once(tmp_path):
    folder = finetuning(tmp_path / 'a', 80)
    (tmp_path / 'link').symlink_to(folder)
    page = page_of(folder, tmp_path / 'link', folder, out=tmp_path)
    assert '<td>0</td>' in page
    assert '<td>0, 0</td>' not in page


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('policy.jsonl', 'garbage}', 'line 1 of'),
        # Logged as a training, but without a value of the loss.
        ('vis_data/scalars.json', '{"loss": null, "step": 1}\n', 'the logs'),
    ],
)
def test_a_broken_run_is_named_and_the_others_are_shown(
    tmp_path, name, text, words
):
    broken, intact = (distillation(tmp_path / i) for i in ('broken', 'intact'))
    (broken / '1' / name).write_text(text)
    page = page_of(broken, intact, out=tmp_path, expect=1)
    assert 'Skipped.' in page
    assert words in page
    assert str(broken) in page
    assert 'the reward increased' in page


def test_a_report_of_no_run_is_refused(tmp_path):
    out = tmp_path / 'report.html'
    done = run_main(SCRIPT, tmp_path / 'a', '--out', out, expect=1)
    assert 'expected the work directory of a run' in done.last_line
    assert not out.exists()


def test_the_page_must_be_an_html_file(tmp_path):
    done = run_main(SCRIPT, tmp_path, '--out', tmp_path, expect=2)
    assert 'expected --out to end in .html' in done.output
