"""Settings of runners that are built in Python."""

import pytest

from tests.helpers import tiny_run


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(bias_lr_mult=2.0, bypass_duplicate=True), None),
        (dict(custom_keys=dict(weight=dict(lr_mult=0.1))), None),
        (dict(norm_decay_mul=0.0), "got ['norm_decay_mul'], which the constr"),
        (
            dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
            "such as 'weight', got ['backbone'], which change nothing",
        ),
    ],
)
def test_unread_keys_of_paramwise_cfg_are_logged(tmp_path, settings, said):
    cfg = tiny_run.config(
        tmp_path,
        f'{tmp_path.name}-{len(str(settings))}',
        custom_hooks=[dict(type='repfusion_mm.UnusedSettingsHook')],
        log_level='WARNING',
    )
    cfg['optim_wrapper']['paramwise_cfg'] = settings
    tiny_run.build(cfg).train()
    text = next(tmp_path.glob('*/*.log')).read_text()
    assert (said or '') in text
    assert ('paramwise_cfg' in text) == (said is not None)


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(env_cfg=dict(dist_cfg=dict(timeoutt=3))), "mean 'timeout'"),
        (dict(sync_bn='x'), "sync_bn='torch' or 'mmcv'"),
        (
            dict(
                by_epoch=False,
                param_scheduler=[
                    dict(type='StepLR', step_size=2, by_epoch=False),
                    dict(type='ConstantLR', end=2),
                ],
            ),
            r'set param_scheduler\.1\.by_epoch=False;',
        ),
    ],
)
def test_settings_are_refused_before_training(tmp_path, settings, said):
    cfg = tiny_run.config(
        tmp_path,
        tmp_path.name,
        custom_hooks=[dict(type='repfusion_mm.UnusedSettingsHook')],
        **settings,
    )
    with pytest.raises(ValueError, match=said):
        tiny_run.build(cfg).train()
