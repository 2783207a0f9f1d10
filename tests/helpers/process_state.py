"""Undo what a command line changes in its process."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading

import torch
from mmengine.runner import CheckpointLoader
from mmengine.utils import ManagerMixin


@contextlib.contextmanager
def preserved_state():
    """Restore the process-wide state on exit.

    That is the working directory, environment, import path, arguments, signal
    handlers, root logger, start method of processes, PyTorch's determinism,
    and mmengine's instances (loggers, message hubs, visualizers, default
    scope) and checkpoint loaders.
    """
    cwd, environ = os.getcwd(), dict(os.environ)
    path, argv = list(sys.path), list(sys.argv)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    signals = {s: signal.getsignal(s) for s in signal.valid_signals()}
    start_method = multiprocessing.get_start_method(allow_none=True)
    deterministic = torch.are_deterministic_algorithms_enabled()
    instances = {c: dict(c._instance_dict) for c in _managers()}
    schemes = dict(CheckpointLoader._schemes)
    try:
        yield
    finally:
        os.chdir(cwd)
        _replace(os.environ, environ)
        sys.path[:], sys.argv[:] = path, argv
        root.handlers[:] = handlers
        root.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            for number, handler in signals.items():
                if signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
        multiprocessing.set_start_method(start_method, force=True)
        torch.use_deterministic_algorithms(deterministic)
        clear_instances(instances)
        _replace(CheckpointLoader._schemes, schemes)
        if 'matplotlib.pyplot' in sys.modules:
            sys.modules['matplotlib.pyplot'].close('all')


def clear_instances(kept=None):
    """Forget mmengine's global instances, except for the ``kept`` ones."""
    for manager in _managers():
        wanted = (kept or {}).get(manager, {})
        for name, instance in manager._instance_dict.items():
            if isinstance(instance, logging.Logger) and name not in wanted:
                for handler in [*instance.handlers]:
                    if isinstance(handler, logging.FileHandler):
                        handler.close()
                        # The logger may be restored.
                        instance.removeHandler(handler)
        _replace(manager._instance_dict, wanted)


def _managers():
    pending = [ManagerMixin]
    while pending:
        manager = pending.pop()
        yield manager
        pending += manager.__subclasses__()


def _replace(mapping, content):
    if dict(mapping) != content:
        mapping.clear()
        mapping.update(content)
