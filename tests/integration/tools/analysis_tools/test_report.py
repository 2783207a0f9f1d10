"""The page of runs, from files as mmengine and our hooks write them."""

import re
import shutil

import pytest
from dumped_config import read_dumped_config
from mmengine.config import Config
from report import main
from report_figures import shorten
from report_groups import compare
from report_runs import read_run

from tests.helpers.launcher import ROOT
from tests.helpers.report_files import (
    distillation,
    finetuning,
    write_config,
    write_lines,
)

RECORD = '{{"iter": {}, "timesteps": {}, "probabilities": {}}}\n'


def page_of(*folders, out):
    main([*map(str, folders), '--out', str(out / 'report.html')])
    return (out / 'report.html').read_text()


def test_page_holds_everything_and_asks_for_nothing(tmp_path):
    folders = [distillation(tmp_path / 'distil')]
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
        'the reward rose',
        'resnet18_toy, ann_file=train_20.txt',
        '83.00',
        '± 2.48',
        '<td class="number">82.00</td>',
        '<td>0, 1, 2</td>',
        'no <code>EnvInfoHook</code>',
        'model.policy.type',
        '180 of 180',
    ]
    for part in parts:
        assert part in page, part
    assert page.index('train_20.txt</td>') < page.index('train_100.txt</td>')


def test_names_of_files_are_shown_not_run(tmp_path):
    folder = distillation(tmp_path / 'distil')
    write_config(folder, 'repfusion_toy', note='<script>alert(1)</script>')
    page = page_of(folder, out=tmp_path)
    assert '<script>' not in page
    assert '&lt;script&gt;' in page


def test_the_page_claims_nothing_that_was_not_logged(tmp_path):
    """A short run, and one without LocalVisBackend."""
    page = page_of(distillation(tmp_path / 'a', points=8), out=tmp_path)
    assert 'the reward rose: 8 points were logged, 9 needed' in page
    for path in (tmp_path / 'a').rglob('vis_data'):
        shutil.rmtree(path)
    page = page_of(tmp_path / 'a', out=tmp_path)
    assert 'the reward rose: 0 points were logged, 9 needed' in page
    assert 'feature_relative_std was not logged' in page
    assert 'which mmengine' in page


@pytest.mark.parametrize(
    ('timesteps', 'words'),
    [([100], '100, fixed'), ([0, 1, 2], '0 to 2, uniform')],
)
def test_policies_that_do_not_learn_are_named(tmp_path, timesteps, words):
    folder = distillation(tmp_path / 'a')
    probs = [round(1 / len(timesteps), 3)] * len(timesteps)
    record = dict(iter=180, max_iters=180, timesteps=timesteps,
                  probabilities=probs, entropy=0.0)  # fmt: skip
    write_lines(folder / '1' / 'policy.jsonl', [record, record])
    page = page_of(folder, out=tmp_path)
    assert f'It does not learn: t = {words}' in page
    assert 'tries several' not in page


def test_runs_that_differ_by_seed_alone_are_one_group(tmp_path):
    runs = [
        read_run(finetuning(tmp_path / str(i), score, seed=i, ann_file=name))
        for i, (score, name) in enumerate(
            [(80, 'b_100.txt'), (90, 'b_20.txt'), (70, 'b_100.txt')]
        )
    ]
    small, large = compare(runs)
    assert small.differs == {'train_dataloader.dataset.ann_file': 'b_20.txt'}
    assert small.scores('accuracy/top1') == [90]
    assert large.scores('accuracy/top1') == [80, 70]


def test_another_initialisation_is_another_group(tmp_path):
    """Whether it is named by init_cfg or by load_from."""
    runs = [
        read_run(finetuning(tmp_path / str(i), 80, load_from=path))
        for i, path in enumerate([None, 'a/student.pth'])
    ]
    assert [group.label for group in compare(runs)] == [
        'resnet18_toy, load_from=None',
        'resnet18_toy, load_from=student.pth',
    ]


def test_groups_of_different_configs_have_their_names_alone(tmp_path):
    runs = [
        read_run(finetuning(tmp_path / name, 80, name=name, note=name))
        for name in ('one', 'two')
    ]
    assert [group.label for group in compare(runs)] == ['one', 'two']
    assert len(shorten('a' * 100)) <= 62


def test_a_folder_given_twice_counts_once(tmp_path):
    folder = finetuning(tmp_path / 'a', 80)
    (tmp_path / 'link').symlink_to(folder)
    page = page_of(folder, tmp_path / 'link', folder, out=tmp_path)
    assert '<td>0</td>' in page
    assert '<td>0, 0</td>' not in page


def test_curves_of_a_resumed_run_follow_each_other(tmp_path):
    folder = distillation(tmp_path / 'a')
    write_config(folder, 'repfusion_toy', start='2')
    first, second = (
        folder / name / 'vis_data' / 'scalars.json' for name in '12'
    )
    write_lines(first, [dict(loss=i, step=i) for i in (1, 2, 3, 4)])
    write_lines(second, [dict(loss=-i, step=i) for i in (2, 3)])
    with second.open('a') as file:
        file.write('{"loss": 4, "st')
    curve = read_run(folder).curves['loss']
    assert curve == [(1, 1), (2, -2), (3, -3)]


def test_a_later_test_does_not_change_what_the_run_was(tmp_path):
    """tools/test.py writes its own config over that of the run."""
    folder = finetuning(tmp_path / 'a', 80, note='as trained')
    write_config(folder, 'resnet18_toy', start='2', note='as tested')
    test = folder / '2' / 'vis_data' / 'scalars.json'
    write_lines(test, [{'accuracy/top1': 10.0, 'step': 0}])
    run = read_run(folder)
    assert run.settings['model.note'] == 'as trained'
    assert run.scores == {'accuracy/top1': [(10, 80)]}


def test_a_run_inside_a_work_directory_is_not_mixed_in(tmp_path):
    folder = distillation(tmp_path / 'a')
    inner = distillation(folder / 'inner', last=240)
    assert read_run(folder).records[-1]['iter'] == 180
    assert read_run(inner).records[-1]['iter'] == 240


def test_folders_that_are_no_runs_are_named(tmp_path):
    with pytest.raises(NotADirectoryError, match='got nothing'):
        read_run(tmp_path / 'nowhere')
    (tmp_path / 'file').touch()
    with pytest.raises(NotADirectoryError, match='got a file'):
        read_run(tmp_path / 'file')
    write_config(tmp_path / 'new', 'repfusion_toy')
    with pytest.raises(ValueError, match='none has logged anything'):
        read_run(tmp_path / 'new')
    lines = [dict(loss=1.0, step=10)]
    write_lines(tmp_path / 'new' / '1' / 'vis_data' / 'scalars.json', lines)
    with pytest.raises(ValueError, match=r'policy\.jsonl or validation'):
        read_run(tmp_path / 'new')


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('vis_data/scalars.json', 'garbage}\n{"loss": 1}', 'line 1 of .*sca'),
        ('vis_data/scalars.json', '{"loss": 1}\n', 'expected step in line 1'),
        ('vis_data/scalars.json', '{"loss": 1, "step": 1}\n[3]\n', 'line 2'),
        ('policy.jsonl', '{"iter": 1}\n', 'expected iter, timesteps'),
        ('policy.jsonl', 'garbage}', 'line 1 of .*policy.jsonl'),
        ('policy.jsonl', '[' * 100_000 + '}', 'line 1 of .*policy.jsonl'),
        ('policy.jsonl', RECORD.format('"a"', '[1]', '[1]'), "at iter 'a'"),
        ('policy.jsonl', RECORD.format(1, '[]', '[]'), 'as many prob.*iter 1'),
        ('policy.jsonl', RECORD.format(1, '[1, 2]', '[1]'), 'as many prob'),
        ('policy.jsonl', RECORD.format(1, '[1]', '{}'), 'as many prob'),
        (
            'policy.jsonl',
            RECORD.format(1, '[1]', '[1]')
            + RECORD.format(2, '[1, 2]', '[1, 1]'),
            r'some of \[1, 2\] timesteps',
        ),
        ('env_info.json', '{"packa', 'JSON in .*env_info.json'),
        ('env_info.json', '[1, 2]', 'expected packages in .*env_info.json'),
        ('env_info.json', '{"packages": {}}', 'expected commits in .*versio'),
        ('vis_data/config.py', 'a = {[1]: 2}', 'unhashable'),
        ('vis_data/config.py', 'model = dict(', 'closed .* at line 1'),
        ('vis_data/config.py', 'import os', 'an? import at line 1'),
        ('vis_data/config.py', 'a = dict(b=os.getcwd())', 'getcwd'),
        ('../probe.csv', 'no scores', 'first line is .*no scores'),
    ],
)
def test_a_broken_file_is_named_and_the_others_are_shown(
    tmp_path, name, text, words
):
    broken = distillation(tmp_path / 'broken')
    (broken / '1' / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        read_run(broken)
    whole = distillation(tmp_path / 'whole')
    with pytest.raises(SystemExit, match='left out'):
        page_of(broken, whole, out=tmp_path)
    page = (tmp_path / 'report.html').read_text()
    assert 'Left out.' in page
    assert 'the reward rose' in page


def test_the_page_must_be_called_html(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), '--out', str(tmp_path)])
    assert 'expected --out to end in .html' in capsys.readouterr().err


def test_a_run_that_cannot_be_shown_is_named(tmp_path):
    """It logged that it has a loss, and then none."""
    broken, whole = (distillation(tmp_path / i) for i in ('broken', 'whole'))
    scalars = broken / '1' / 'vis_data' / 'scalars.json'
    scalars.write_text('{"loss": null, "step": 1}\n')
    with pytest.raises(SystemExit, match=r'logs of a run in .*broken'):
        page_of(broken, whole, out=tmp_path)
    assert 'the reward rose' in (tmp_path / 'report.html').read_text()


CONFIGS = ['distill/*r18_digits', 'finetune/mmseg/*r18*', 'finetune/mmpose/*']


@pytest.mark.parametrize('pattern', CONFIGS)
def test_what_mmengine_writes_is_read_without_running_it(pattern, tmp_path):
    cfg = Config.fromfile(next((ROOT / 'configs').glob(f'{pattern}.py')))
    cfg.dump(tmp_path / 'config.py')
    assert read_dumped_config(tmp_path / 'config.py') == cfg.to_dict()
