import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.runner import Runner

from repfusion_mm.engine.hooks import TimestepPolicyHook
from repfusion_mm.visualization import read_records
from tests.helpers.memory_run import LABELS, config
from tests.helpers.ranks import run_on_ranks
from tests.helpers.toy import batch


def entropy_weights(runner):
    log = runner.message_hub.get_scalar('train/entropy_weight')
    return list(log.data[0])


def test_entropy_weight_decays_linearly_also_when_resumed(tmp_path):
    """In the reference implementation the decay restarts on resume."""
    hook = dict(
        type='repfusion_mm.TimestepPolicyHook',
        entropy_decay=0.75,
        entropy_floor=0.01,
    )
    reference = Runner.from_cfg(config(tmp_path / 'reference', [hook]))
    reference.train()
    expected = [max(0.1 * (1 - i / 6), 0.01) for i in range(8)]
    assert entropy_weights(reference) == pytest.approx(expected)
    cfg = config(tmp_path / 'resumed', [hook])
    cfg.resume = True
    cfg.load_from = str(tmp_path / 'reference' / 'epoch_3.pth')
    resumed = Runner.from_cfg(cfg)
    resumed.train()
    assert entropy_weights(resumed)[-2:] == pytest.approx(expected[-2:])
    assert resumed.model.policy.entropy_weight == 0.01
    assert TimestepPolicyHook(entropy_floor=0.2).entropy_weight(0.1, 1) == 0.1


def test_policy_is_recorded_in_lines_and_pictures(tmp_path):
    hook = dict(
        type='repfusion_mm.TimestepPolicyHook',
        num_records=4,
        min_picture_interval=4,
    )
    runner = Runner.from_cfg(config(tmp_path, [hook]))
    runner.train()
    lines = Path(runner.log_dir, 'policy.jsonl').read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r['iter'] for r in records] == [2, 4, 6, 8]
    for record in records:
        assert record['timesteps'] == list(range(1000))
        assert sum(record['probabilities']) == pytest.approx(1, abs=1e-2)
        assert 0 < record['entropy'] <= math.log(1000) + 1e-3
        assert record['reward'] < 0 < record['advantage_std']
        # Two batches of four images, of which two of eight have no label.
        assert sum(record['num_rewards']) == 6
        assert sum(record['excess_rewards']) == pytest.approx(0, abs=1e-4)
        assert np.trace(record['excess_covariance']) > 0
    pictures = sorted(Path(runner.log_dir).rglob('policy_*.png'))
    assert [p.stem for p in pictures] == ['policy_4', 'policy_8']
    assert cv2.imread(str(pictures[0])).std() > 0


def test_a_record_covers_the_batches_of_all_ranks(tmp_path):
    batches = [batch(), batch()]
    batches[1]['inputs'] = [image // 8 for image in batches[1]['inputs']]

    def record(rank):
        runner = Runner.from_cfg(config(tmp_path / str(rank), []))
        model = runner.model
        torch.nn.init.constant_(model.policy.head.weight, 0.5)
        torch.nn.init.normal_(model.policy.trunk[0].weight)
        runner.train_loop  # noqa: B018  builds it, for the hook
        TimestepPolicyHook().record(runner, batches[rank])
        inputs = model.data_preprocessor(batches[rank], False)['inputs']
        pi = model.policy(model.images(inputs))
        return pi.probs.mean(0).tolist(), str(runner.log_dir)

    ranks = run_on_ranks(record)
    expected = sum(torch.tensor(probs) for probs, _ in ranks) / 2
    (line,) = Path(ranks[0][1], 'policy.jsonl').read_text().splitlines()
    actual = torch.tensor(json.loads(line)['probabilities'])
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=0)
    assert (actual - torch.tensor(ranks[0][0])).norm() > 1e-2 * actual.norm()
    assert not list((tmp_path / '1').rglob('policy.jsonl'))


def test_a_policy_that_learned_nothing_is_a_warning_at_the_end(tmp_path):
    hook = dict(type='repfusion_mm.TimestepPolicyHook')
    runner = Runner.from_cfg(config(tmp_path, [hook], max_epochs=1))
    runner.train()
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    (line,) = [i for i in log.splitlines() if 'learned nothing' in i]
    assert 'WARNING' in line
    assert 'probe_timesteps.py' in line


def test_a_static_policy_is_not_said_to_have_learned_nothing(tmp_path):
    hook = dict(type='repfusion_mm.TimestepPolicyHook')
    policy = dict(type='repfusion_mm.UniformTimestepPolicy')
    cfg = config(tmp_path, [hook], max_epochs=1, policy=policy)
    runner = Runner.from_cfg(cfg)
    runner.train()
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert 'learned nothing' not in log
    records = Path(runner.log_dir, 'policy.jsonl').read_text()
    assert 'num_rewards' not in records


def test_what_the_student_explains_is_recorded_and_logged_at_the_end(tmp_path):
    hook = dict(type='repfusion_mm.TimestepPolicyHook')
    runner = Runner.from_cfg(config(tmp_path, [hook], max_epochs=6))
    runner.train()
    history = runner.message_hub.get_scalar('train/explained_variance').data[0]
    records = read_records(str(tmp_path))
    # The last tenth of 12 steps are two.
    share = records[-1]['explained_variance']
    assert share == pytest.approx(history[-2:].mean())
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert f'student explains {max(share, 0):.0%} of the variance' in log


def test_a_resumed_run_continues_to_count_rewards(tmp_path):
    """The checkpoint is between two records."""
    hooks = [
        dict(type='repfusion_mm.ExactResumeHook'),
        dict(type='repfusion_mm.TimestepPolicyHook', num_records=2),
    ]
    reference = Runner.from_cfg(config(tmp_path / 'reference', hooks))
    reference.train()
    cfg = config(tmp_path / 'resumed', hooks)
    cfg.resume = True
    cfg.load_from = str(tmp_path / 'reference' / 'epoch_3.pth')
    resumed = Runner.from_cfg(cfg)
    resumed.train()
    first, second = (
        Path(runner.log_dir, 'policy.jsonl').read_text().splitlines()
        for runner in (reference, resumed)
    )
    expected, (actual,) = json.loads(first[-1]), map(json.loads, second)
    assert (expected.pop('start'), actual.pop('start')) == (0, 6)
    assert expected == actual
    assert sum(actual['num_rewards']) == 12


def test_statistics_are_logged(tmp_path):
    runner = Runner.from_cfg(config(tmp_path, [], max_epochs=1))
    runner.train()
    scalars = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text()
    names = set(json.loads(scalars.splitlines()[-1]))
    assert {'reward', 'policy_entropy', 'advantage_std', 'timestep_mean'} <= (
        names
    )
    assert 'feature_relative_std' in names


@pytest.mark.parametrize(
    ('labels', 'model', 'message'),
    [
        ([None] * 8, {}, 'SeededConcatDataset with no labels'),
        (
            LABELS,
            dict(decoder=dict(type='repfusion_mm.SegDecoder', num_classes=7)),
            'SegDecoder reads, got SeededConcatDataset with gt_label, which',
        ),
        (
            LABELS,
            dict(decoder=dict(type='repfusion_mm.ClsDecoder', num_classes=7)),
            r'num_classes=7, .* got \[7\]',
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_the_first_iteration(
    tmp_path, labels, model, message
):
    hook = dict(type='repfusion_mm.TimestepPolicyHook')
    runner = Runner.from_cfg(config(tmp_path, [hook], labels, **model))
    with pytest.raises(ValueError, match=message):
        runner.train()
    assert runner.iter == 0


def test_policies_that_are_not_trained_need_no_labels(tmp_path):
    hook = dict(type='repfusion_mm.TimestepPolicyHook', num_records=1)
    policy = dict(type='repfusion_mm.FixedTimestepPolicy', timestep=9)
    cfg = config(tmp_path, [hook], [None] * 8, 1, policy=policy, decoder=None)
    runner = Runner.from_cfg(cfg)
    runner.train()
    (record,) = Path(runner.log_dir, 'policy.jsonl').read_text().splitlines()
    assert json.loads(record)['timesteps'] == [9]


def test_batches_that_a_connector_cannot_use_are_refused(tmp_path):
    hook = dict(type='repfusion_mm.TimestepPolicyHook')
    connector = dict(
        type='repfusion_mm.FeatureRegressor', channels=8, pool_scales=(1,)
    )
    cfg = config(tmp_path, [hook], connector=connector)
    cfg.train_dataloader.batch_size = 1
    cfg.model.policy = dict(type='repfusion_mm.UniformTimestepPolicy')
    runner = Runner.from_cfg(cfg)
    runner.model.train_step = None  # not reached
    with pytest.raises(ValueError, match='two images or more for batch norm'):
        runner.train()


def test_a_second_hook_is_refused(tmp_path):
    hook = dict(type='repfusion_mm.TimestepPolicyHook')
    other = dict(hook, num_records=3)
    runner = Runner.from_cfg(config(tmp_path, [hook, other]))
    with pytest.raises(ValueError, match='expected one TimestepPolicyHook'):
        runner.train()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_records=0), 'num_records to be an integer of 1'),
        (dict(entropy_decay=0), 'entropy_decay'),
        (dict(entropy_decay=1.5), 'entropy_decay'),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TimestepPolicyHook(**arguments)


@given(st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 0.2))
@settings(max_examples=40, deadline=None)
def test_the_entropy_weight_never_increases(initial, decay, floor):
    hook = TimestepPolicyHook(decay, floor)
    weights = [hook.entropy_weight(initial, i / 20) for i in range(21)]
    assert weights[0] == pytest.approx(initial)
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == pytest.approx(min(floor, initial), abs=1e-9)
