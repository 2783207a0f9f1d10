"""The page of runs, from files as mmengine and our hooks write them."""

import json
import re

import numpy as np
import pytest
from report import main
from report_runs import compare, read_run
from report_warnings import check

CONFIG = """
model = dict(policy=dict(type='Learned'), note={note!r})
randomness = dict(seed={seed})
train_dataloader = dict(dataset=dict(ann_file={ann_file!r}))
"""


def write_lines(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))


def write_config(folder, name, seed=0, ann_file='train_20.txt', note=''):
    folder.mkdir(parents=True, exist_ok=True)
    text = CONFIG.format(seed=seed, ann_file=ann_file, note=note)
    (folder / f'{name}.py').write_text(text)


def policy_record(iteration, width=100.0, **statistics):
    timesteps = np.arange(1000)
    logits = -0.5 * ((timesteps - 300) / width) ** 2
    probs = np.exp(logits) / np.exp(logits).sum()
    entropy = -(probs * np.log(probs + 1e-30)).sum()
    return dict(
        iter=iteration,
        timesteps=timesteps.tolist(),
        probabilities=probs.tolist(),
        entropy=float(entropy),
        **statistics,
    )


def distillation(folder, width=100.0, rising=1.0, spread=0.5, falling=1.0):
    """Write a run of ten logged intervals."""
    write_config(folder, 'repfusion_toy')
    noise = np.random.default_rng(0).normal(0, 0.01, 10)
    log = folder / '20260101_000000'
    write_lines(
        log / 'vis_data' / 'scalars.json',
        [
            dict(
                loss=1.0, loss_distill=2 - falling * i / 10 + noise[i],
                loss_policy=0.1, reward=rising * i / 10 + noise[i],
                feature_spread=spread, epoch=1, iter=10 * i, step=10 * i,
            )
            for i in range(10)
        ],
    )  # fmt: skip
    records = [policy_record(10 * i, width, reward=0.1) for i in range(1, 6)]
    write_lines(log / 'policy.jsonl', records)
    return folder


def finetuning(folder, score, **settings):
    write_config(folder, 'resnet18_toy', **settings)
    write_lines(
        folder / '20260101_000000' / 'vis_data' / 'scalars.json',
        [
            dict(loss=1.0, epoch=1, iter=10, step=10),
            {'accuracy/top1': score, 'data_time': 0.1, 'time': 1, 'step': 10},
        ],
    )
    return folder


def test_page_holds_everything_and_asks_for_nothing(tmp_path, capsys):
    folders = [distillation(tmp_path / 'distil')]
    folders += [
        finetuning(tmp_path / f'{budget}_{seed}', 80 + seed + budget / 10,
                   seed=seed, ann_file=f'data/train_{budget}.txt')
        for budget in (20, 100)
        for seed in range(3)
    ]  # fmt: skip
    out = tmp_path / 'pages' / 'report.html'
    main([*map(str, folders), '--out', str(out), '--title', 'toys'])
    assert '7 runs' in capsys.readouterr().out
    page = out.read_text()
    addresses = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert addresses
    assert all(a.startswith(('data:', '#')) for a in addresses)
    assert 'http' not in re.sub(r'data:[^"]*', '', page)
    parts = [
        '<h1>toys</h1>',
        'the reward rose',
        'resnet18_toy, train_20.txt',
        '83 ± 2.5',
        '82 - 84',
        'no <code>VersionsHook</code>',
        'model.policy.type',
    ]
    for part in parts:
        assert part in page, part
    assert page.index('train_20.txt</td>') < page.index('train_100.txt</td>')


def test_names_of_files_are_shown_not_run(tmp_path):
    folder = distillation(tmp_path / 'distil')
    write_config(folder, 'repfusion_toy', note='<script>alert(1)</script>')
    main([str(folder), '--out', str(tmp_path / 'report.html')])
    page = (tmp_path / 'report.html').read_text()
    assert '<script>' not in page
    assert '&lt;script&gt;' in page


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(width=0.5), 'policy collapsed'),
        (dict(rising=0.0), 'reward is flat'),
        (dict(rising=-1.0), 'reward is flat'),
        (dict(spread=0.0), 'variance zero'),
        (dict(falling=0.0), 'loss did not fall'),
        (dict(), None),
    ],
)
def test_warnings_name_what_went_wrong_and_nothing_else(
    tmp_path, change, words
):
    checks = check(read_run(distillation(tmp_path / 'a', **change)))
    assert len(checks) == 4
    warnings = [c.warning for c in checks if c.warning]
    assert len(warnings) == (0 if words is None else 1)
    assert all(words in warning for warning in warnings)


def test_a_policy_that_found_a_peak_has_not_collapsed(tmp_path):
    """The demo's ends with a standard deviation of eight timesteps."""
    run = read_run(distillation(tmp_path / 'a', width=8.0))
    assert not any(c.warning for c in check(run))


def test_the_page_claims_nothing_that_was_not_logged(tmp_path):
    """Without LocalVisBackend there are no scalars."""
    folder = distillation(tmp_path / 'distil')
    for path in folder.rglob('scalars.json'):
        path.unlink()
    main([str(folder), '--out', str(tmp_path / 'report.html')])
    page = (tmp_path / 'report.html').read_text()
    assert 'fine: the policy still tries several timesteps.' in page
    assert 'the reward rose' not in page
    assert 'which mmengine' in page


def test_runs_that_differ_by_seed_alone_are_one_group(tmp_path):
    runs = [
        read_run(finetuning(tmp_path / str(i), score, seed=i, ann_file=name))
        for i, (score, name) in enumerate(
            [(80, 'b_100.txt'), (90, 'b_20.txt'), (70, 'b_100.txt')]
        )
    ]
    small, large = compare(runs)
    assert small.differs == {'train_dataloader.dataset.ann_file': 'b_20.txt'}
    assert small.results == {'accuracy/top1': [90]}
    assert large.results == {'accuracy/top1': [80, 70]}


def test_curves_of_a_resumed_run_follow_each_other(tmp_path):
    folder = tmp_path / 'a'
    write_config(folder, 'repfusion_toy')
    write_lines(folder / '1' / 'policy.jsonl', [policy_record(1)])
    first, second = (
        folder / name / 'vis_data' / 'scalars.json' for name in ('1', '2')
    )
    write_lines(first, [dict(loss=i, step=i) for i in (1, 2, 3, 4)])
    write_lines(second, [dict(loss=-i, step=i) for i in (2, 3)])
    with second.open('a') as file:
        file.write('{"loss": 4, "st')
    curve = read_run(folder).curves['loss']
    assert curve == [(1, 1), (2, -2), (3, -3)]


def test_folders_that_are_no_runs_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='expected the work directory'):
        read_run(tmp_path)
    write_config(tmp_path, 'repfusion_toy')
    with pytest.raises(FileNotFoundError, match=r'expected policy\.jsonl in'):
        read_run(tmp_path)
