import pytest

from repfusion_mm.analysis.report.comparison import compare_with_scratch
from repfusion_mm.analysis.report.figures import shorten
from repfusion_mm.analysis.report.groups import group_runs
from repfusion_mm.analysis.report.runs import read_run, set_titles
from tests.helpers.report_files import finetuning


def test_runs_that_differ_only_in_their_seed_are_one_group(tmp_path):
    runs = [
        read_run(finetuning(tmp_path / str(i), score, seed=i, ann_file=name))
        for i, (score, name) in enumerate(
            [(80, 'b_100.txt'), (90, 'b_20.txt'), (70, 'b_100.txt')]
        )
    ]
    small, large = group_runs(runs)
    assert small.differing == {'train_dataloader.dataset.ann_file': 'b_20.txt'}
    assert small.scores('accuracy/top1') == [90]
    assert large.scores('accuracy/top1') == [80, 70]


def test_another_initialization_is_another_group(tmp_path):
    runs = [
        read_run(finetuning(tmp_path / str(i), 80, load_from=path))
        for i, path in enumerate([None, 'a/student.pth'])
    ]
    assert [group.label for group in group_runs(runs)] == [
        'resnet18_toy, load_from=None',
        'resnet18_toy, load_from=student.pth',
    ]


def test_students_of_all_seeds_are_one_group_in_any_folder(tmp_path):
    runs = [
        read_run(finetuning(
            tmp_path / str(seed), 80, seed=seed,
            checkpoint=f'/data1/v2/distill_{seed}/student.pth',
        ))
        for seed in range(3)
    ]  # fmt: skip
    (group,) = group_runs(runs)
    assert len(group.runs) == 3


def test_groups_of_different_configs_are_labeled_by_name(tmp_path):
    runs = [
        read_run(finetuning(tmp_path / name, 80, name=name, note=name))
        for name in ('one', 'two')
    ]
    assert [group.label for group in group_runs(runs)] == ['one', 'two']


def test_groups_with_the_same_label_are_numbered(tmp_path):
    runs = [read_run(finetuning(tmp_path / str(i), 80)) for i in range(3)]
    for i, run in enumerate(runs):
        run.settings['model.backbone.init_cfg'] = str(i // 2)
    labels = [group.label for group in group_runs(runs)]
    assert labels == ['resnet18_toy #1', 'resnet18_toy #2']


def test_labels_with_many_settings_are_left_out(tmp_path):
    runs = [read_run(finetuning(tmp_path / str(i), 80)) for i in range(2)]
    runs[1].settings.update({f'model.{i}': 'other' for i in range(4)})
    labels = [group.label for group in group_runs(runs)]
    assert labels == ['resnet18_toy #1', 'resnet18_toy #2']


def test_long_labels_are_shortened():
    assert shorten('short') == 'short'
    assert len(shorten('a' * 100)) <= 62


def test_groups_are_named_by_what_their_folders_have_in_common(tmp_path):
    names = ['new_0', 'new_10', 'old_lr_0.1', 'r1/net', 'r2/net']
    settings = ['a', 'a', 'b', 'c', 'c']
    runs = [
        read_run(finetuning(tmp_path / name, 80, seed=seed, note=note))
        for seed, (name, note) in enumerate(zip(names, settings))
    ]
    set_titles(runs)
    assert [run.title for run in runs] == names
    labels = {group.label for group in group_runs(runs)}
    assert labels == {'new_*', 'old_lr_0.1', 'r*/net'}


def test_folders_that_do_not_tell_groups_apart_do_not_name_them(tmp_path):
    runs = [
        read_run(finetuning(tmp_path / f'run_{i}', 80, ann_file=f'{i % 2}'))
        for i in range(4)
    ]
    assert [group.label for group in group_runs(runs)] == [
        'resnet18_toy, ann_file=0',
        'resnet18_toy, ann_file=1',
    ]


def test_each_seed_may_have_a_student_of_its_own(tmp_path):
    """But the students of two timesteps are not those of two seeds."""
    paths = [('t300_0', 0), ('t300_1', 1), ('t400_0', 0), ('t400_1', 1)]
    runs = [
        read_run(finetuning(
            tmp_path / f'from_{name}', 80, seed=seed,
            checkpoint=f'work_dirs/{name}/student.pth',
        ))
        for name, seed in paths
    ]  # fmt: skip
    labels = [(g.label, len(g.runs)) for g in group_runs(runs)]
    assert labels == [('from_t300_*', 2), ('from_t400_*', 2)]


@pytest.mark.parametrize('place', ['backbone_cfg=dict(init_cfg', 'init_cfg'])
def test_the_student_may_be_inside_of_a_backbone(tmp_path, place):
    """As in BiSeNetV1, or in a list of initializers."""
    for name, score in (('scratch', 70), ('student', 80)):
        for seed in range(2):
            init = f'dict(checkpoint="students/{seed}/student.pth")'
            text = f'{place}={init})' if '(' in place else f'{place}=[{init}]'
            backbone = f'dict({text if name == "student" else ""})'
            finetuning(
                tmp_path / f'{name}_{seed}', score + seed, seed=seed,
                backbone=backbone,
            )  # fmt: skip
    groups = group_runs([read_run(path) for path in tmp_path.iterdir()])
    assert [len(group.runs) for group in groups] == [2, 2]
    (comparison,) = compare_with_scratch(groups, 'accuracy/top1')
    assert 'student_* is better than scratch_*' in comparison.text


def test_one_student_may_be_finetuned_with_several_seeds(tmp_path):
    """Also if the number of its folder is one of them."""
    runs = [
        read_run(finetuning(
            tmp_path / f'net_{seed}', 80, seed=seed,
            checkpoint='work_dirs/run_0/student.pth',
        ))
        for seed in range(3)
    ]  # fmt: skip
    (group,) = group_runs(runs)
    assert len(group.runs) == 3
