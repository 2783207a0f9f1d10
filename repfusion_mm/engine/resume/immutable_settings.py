"""Settings that a run cannot change when it is resumed."""

from __future__ import annotations

from typing import Dict

from mmengine.dist import get_world_size

#: What the checkpoint brings along, whatever the config says, and what decides
#: which images are in which batch.
KEPT = (
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'train_dataloader.batch_size',
    'train_dataloader.batch_sampler',
    'train_dataloader.sampler',
)


def immutable_settings(runner) -> Dict[str, str]:
    """Return those settings of a run, flat."""
    flat = flatten(runner.cfg.to_dict())
    kept = {k: v for k, v in flat.items() if k.startswith(KEPT)}
    kept['processes'] = str(get_world_size())
    return kept


def check_immutable_settings(runner, meta: dict) -> None:
    """Compare a run with the one that it goes on with.

    Args:
        runner: The runner of the resumed run.
        meta: ``meta`` of the checkpoint, with ``immutable_settings``, and
            with the ``seed`` that mmengine wrote.

    Raises:
        ValueError: They differ. It names each setting.
    """
    before, now = meta.get('immutable_settings'), immutable_settings(runner)
    if before is None:  # written by other tools than ours
        return
    seed = runner.cfg.get('randomness', {}).get('seed')
    if seed is not None:  # else the checkpoint's is taken
        before = {**before, 'randomness.seed': str(meta.get('seed'))}
        now['randomness.seed'] = str(seed)
    differ = [
        f'{name}={before.get(name)} (now {now.get(name)})'
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if differ:
        raise ValueError(
            'expected the settings of the run that wrote the checkpoint, '
            f'{", ".join(differ)}: it goes on with what it began with; '
            'resume with the same settings, or start a new run with '
            'load_from=CHECKPOINT'
        )


def flatten(value, prefix: str = '') -> Dict[str, str]:
    """Return nested settings as ``{'a.b.0': 'value'}``."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)) and any(
        isinstance(item, dict) for item in value
    ):
        items = list(enumerate(value))
    else:
        return {prefix: str(value)}
    flat: Dict[str, str] = {}
    for key, item in items:
        flat.update(flatten(item, f'{prefix}.{key}' if prefix else str(key)))
    return flat
