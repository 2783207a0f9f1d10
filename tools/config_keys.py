"""Find settings that nothing reads: mmengine ignores them without a word."""

from __future__ import annotations

import difflib
import inspect
from typing import Iterable, List

from mmengine.config import Config
from mmengine.runner import Runner

#: What ``Runner.from_cfg`` takes, and what a runner reads of its config.
SETTINGS = {
    *list(inspect.signature(Runner.__init__).parameters)[1:],
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'probe_dataset',  # of tools/analysis/probe_timesteps.py
    'sync_bn',
} - {'cfg'}


def check_names(cfg: Config) -> None:
    """Refuse a name at the top of a config that is nearly a setting.

    Other names are variables of the config, and all right.

    Raises:
        ValueError: There is one.
    """
    for name in cfg:
        meant = _nearest(name, SETTINGS)
        if name not in SETTINGS and meant:
            raise ValueError(
                f"expected settings of mmengine's Runner in {cfg.filename}, "
                f'got {name!r}, which nothing would read; did you mean '
                f'{meant[0]!r}? If not, call it otherwise'
            )


def check_options(cfg: Config, options: Iterable[str]) -> None:
    """Refuse options of the command line that nothing would read.

    Args:
        cfg: The config before they are merged into it.
        options: Their keys, as ``train_dataloader.batch_size``.

    Raises:
        ValueError: One sets what is no setting, or a variable, of which the
            settings were already made.
    """
    for key in options:
        name = key.split('.')[0]
        if name in SETTINGS:
            continue
        wrong = f'expected a setting in --cfg-options, got {key!r}'
        if name in cfg:
            raise ValueError(
                f'{wrong}, a variable of {cfg.filename}, of which its '
                'settings were already made; set those, as '
                'train_dataloader.dataset.data_root, or edit the config'
            )
        meant = _nearest(name, SETTINGS)
        raise ValueError(
            f'{wrong}, which nothing would read; '
            + (
                f'did you mean {meant[0]}?'
                if meant
                else f'set one of {", ".join(sorted(SETTINGS))}'
            )
        )


def _nearest(name: str, names: Iterable[str]) -> List[str]:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.85)
