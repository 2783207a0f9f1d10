"""Write checkpoints so that there is a complete one at any time."""

from __future__ import annotations

import inspect
import os
import os.path as osp
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Union

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook

from repfusion_mm.engine.checkpoint.io import load_from_address
from repfusion_mm.engine.utils import last_checkpoint, use_hooks_once
from repfusion_mm.registry import HOOKS
from repfusion_mm.utils.arguments import check_integer


class AtomicLocalBackend(LocalBackend):
    """Write local files atomically."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write ``obj`` to a file next to ``filepath``, then rename it."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + '.tmp')
        try:
            with unfinished.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise


ATOMIC = dict(backend='repfusion_mm_atomic')
register_backend(ATOMIC['backend'], AtomicLocalBackend)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Remove an old checkpoint only after the new one is complete.

    mmengine's ``CheckpointHook`` first removes the oldest checkpoint, and
    writes into the new file in place: a run that is killed in between loses
    everything with ``max_keep_ckpts=1``, or resumes from a truncated file.
    The same holds for the best checkpoint (``save_best``). Files on remote
    backends are written as these backends do.

    Args:
        args, kwargs: Those of ``CheckpointHook``.
        max_keep_ckpts: Number of checkpoints to keep, or -1 for all.

    Raises:
        ValueError: The interval is not an integer, or is zero. Before the
            run: another hook writes the same files, but at other times or
            keeps more or fewer of them; or it has a ``save_best``, too.
        TypeError: Before training: there are arguments that neither
            ``CheckpointHook`` nor ``Runner.save_checkpoint`` takes.
        OSError: The checkpoint cannot be written, e.g. on a full disk. The
            message names the last good one.
    """

    def __init__(self, *args, max_keep_ckpts: int = -1, **kwargs) -> None:
        if kwargs.get('file_client_args') == dict(backend='disk'):
            kwargs['file_client_args'] = None  # an old name of the default
        # mmengine keeps all checkpoints; this hook removes the old ones.
        super().__init__(*args, max_keep_ckpts=-1, **kwargs)
        check_integer(
            'default_hooks.checkpoint.max_keep_ckpts', max_keep_ckpts, -1
        )
        self.num_kept = max_keep_ckpts
        self._steps: List[int] = []
        #: Of the kept steps in the message hub.
        self._key = 'keep_ckpt_ids'
        self._was_read = False
        if type(self.interval) is not int or self.interval == 0:
            raise ValueError(
                'expected an interval of 1 or more, or -1 for no checkpoint '
                f'but the last one, got {self.interval!r}; correct '
                'default_hooks.checkpoint.interval'
            )

    def before_run(self, runner) -> None:
        """Use each hook once."""
        use_hooks_once(runner)

    def before_train(self, runner) -> None:
        """Check the arguments, and write local files atomically."""
        # mmengine would raise when it writes the first checkpoint.
        known = inspect.signature(runner.save_checkpoint).parameters
        for name in self.args.keys() - known.keys():
            raise TypeError(
                f'expected arguments of CheckpointHook, got {name!r}; correct '
                'its name in default_hooks.checkpoint, or leave it out'
            )
        super().before_train(runner)
        same = [h for h in runner.hooks if isinstance(h, CheckpointHook)]
        index = same.index(self)  # others may have another filename_tmpl
        self._key = f'keep_ckpt_ids_{index}' if index else 'keep_ckpt_ids'
        info = runner.message_hub.runtime_info
        self._steps = [*info.get(self._key, [])]
        is_local = type(self.file_backend) is LocalBackend
        if not runner._resume and is_main_process():
            self._warn_about_earlier(runner, is_local)
        if is_local:
            self.backend_args = dict(ATOMIC)

    def _warn_about_earlier(self, runner, is_local: bool) -> None:
        """Log that files of an earlier run will be overwritten."""
        folder, names = runner.work_dir, []
        pointer = Path(folder, 'last_checkpoint')
        if pointer.exists():
            names = [Path(pointer.read_text(encoding='utf-8')).name]
        elif is_local and self.out_dir != folder:
            folder = self.out_dir
            names = sorted(path.name for path in Path(folder).glob('*.pth'))
        if names:
            runner.logger.warning(
                f'{folder} holds checkpoints of an earlier run ({names[-1]}): '
                'this is a new run, which overwrites files of the same names '
                '(checkpoints, student.pth); use --resume to continue the '
                'earlier one, or another --work-dir to keep it'
            )

    def _save_checkpoint_with_step(
        self, runner, step: int, meta: dict
    ) -> None:
        """Write a checkpoint, then remove those that are outdated."""
        outdated = set()
        if self.num_kept > 0:
            steps = [i for i in self._steps if i != step] + [step]
            self._steps = steps[-self.num_kept :]
            runner.message_hub.update_info(self._key, self._steps)
            # Steps may share a file (filename_tmpl='latest.pth').
            outdated = {self._path(i) for i in steps}
            outdated -= {self._path(i) for i in self._steps}
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        write_checkpoint(
            runner,
            self.last_ckpt,
            meta=meta,
            file_client_args=self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not self._was_read and is_main_process():
            self._check_readable(runner)
        self._was_read = True
        for path in sorted(outdated):
            self._remove(path)

    def _check_readable(self, runner) -> None:
        """Log a warning if a checkpoint could not be read again.

        Hooks, optimizers and datasets may add any object to it.
        """
        try:
            load_from_address(self.last_ckpt)
        except (OSError, ValueError) as error:
            runner.logger.warning(
                f'{error}. The tools of repfusion_mm cannot resume or test '
                'this run'
            )

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Leave out functions of schedules, which are not read safely.

        ``OneCycleLR`` has one. A schedule that is resumed keeps its own.
        """
        parts = checkpoint.get('param_schedulers') or []
        if isinstance(parts, dict):
            parts = chain.from_iterable(parts.values())
        for state in parts:
            for name in [k for k, v in state.items() if callable(v)]:
                del state[name]

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        """Write the best checkpoint, then remove the one before it.

        mmengine's method removes the file whose path the hook holds; it is
        hidden from it meanwhile.
        """
        if not self.save_best:
            return
        before = self._best_paths()
        self._set_best_paths(dict.fromkeys(before))
        try:
            with naming_last_checkpoint(runner, 'the best checkpoint'):
                super()._save_best_checkpoint(runner, metrics)
        finally:
            after = self._best_paths()
            self._set_best_paths({i: after[i] or before[i] for i in before})
        for name, path in before.items():
            if not path or not after[name] or path in after.values():
                continue
            # A run in another folder, which this one resumes, keeps its own.
            if path == self._join(osp.basename(path)):
                self._remove(path)

    def _best_paths(self) -> Dict[str, Optional[str]]:
        """Return the path of the best checkpoint by each metric."""
        if len(self.key_indicators) == 1:  # its name may still be 'auto'
            return {'': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best_paths(self, paths: Dict[str, Optional[str]]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = paths

    def _remove(self, path: str) -> None:
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)

    def _path(self, step: int) -> str:
        return self._join(self.filename_tmpl.format(step))

    def _join(self, name: str) -> str:
        return self.file_backend.join_path(self.out_dir, name)


def write_checkpoint(runner, path: str, **kwargs) -> None:
    """Write a checkpoint, then its path into ``last_checkpoint``.

    Every process must call it. ``kwargs`` are those of
    ``Runner.save_checkpoint``.
    """
    with naming_last_checkpoint(runner, f'the checkpoint {path}'):
        runner.save_checkpoint(*osp.split(path), **kwargs)
        if is_main_process():
            pointer = Path(runner.work_dir, 'last_checkpoint')
            AtomicLocalBackend().put(path.encode(), pointer)


@contextmanager
def naming_last_checkpoint(runner, what: str) -> Iterator[None]:
    """Add the last good checkpoint to an error in writing ``what``."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f'expected to write {what}, got '
            f'{error.strerror or error}; the last good checkpoint is '
            f'{last_checkpoint(runner)}: free some space, or choose another '
            '--work-dir, and continue with --resume',
        ) from error
