"""Refuse settings that the run would not use."""

from __future__ import annotations

from mmengine.hooks import Hook

from repfusion_mm.engine.settings import (
    check_modules,
    check_names,
    check_run,
    check_values,
)
from repfusion_mm.registry import HOOKS


@HOOKS.register_module()
class UnusedSettingsHook(Hook):
    """Refuse settings that the run would not use, before the first iteration.

    mmengine accepts and ignores, for example, settings in epochs in a run by
    iterations, a schedule that no hook steps, and all names at the top level
    that it does not know.

    Raises:
        ValueError: Before training: there is such a setting. The message
            names the setting that works.
    """

    # Before hooks that use the settings.
    priority = 'HIGHEST'

    def before_run(self, runner) -> None:
        """Check what mmengine uses before ``before_train``."""
        check_modules(runner)

    def before_train(self, runner) -> None:
        """Compare the config with what was built."""
        check_names(runner.cfg)
        check_values(runner.cfg)
        check_run(runner)
