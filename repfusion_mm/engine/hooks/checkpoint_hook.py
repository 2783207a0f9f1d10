"""Write checkpoints so that there always is a whole one."""

from __future__ import annotations

import inspect
import os
import os.path as osp
from pathlib import Path
from typing import Dict, Iterable, Optional, Union

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook

from repfusion_mm.registry import HOOKS


class AtomicLocalBackend(LocalBackend):
    """Write a file wholly or not at all."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write ``obj`` beside ``filepath``, and then in its place.

        Raises:
            OSError: It cannot be written. What was there is untouched.
        """
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
    """Remove an old checkpoint only when the new one is whole.

    mmengine's ``CheckpointHook`` removes the oldest first and then writes into
    the new file itself. A run that dies in between, with ``max_keep_ckpts=1``,
    has lost everything; one that dies while writing resumes from a torn file.
    So it is with the best one (``save_best``). All arguments are those of
    ``CheckpointHook``. Files that are not local are written as their backend
    does.

    Raises:
        OSError: The checkpoint cannot be written, as on a full disk. It says
            which one is the last good one.
        TypeError: It was given arguments that neither it nor the runner's
            ``save_checkpoint`` takes.
    """

    def __init__(self, *args, max_keep_ckpts: int = -1, **kwargs) -> None:
        super().__init__(*args, max_keep_ckpts=-1, **kwargs)
        self.num_kept = max_keep_ckpts

    def before_train(self, runner) -> None:
        """Write to local folders through ``AtomicLocalBackend``."""
        # mmengine would find them out when the first checkpoint is written.
        taken = inspect.signature(runner.save_checkpoint).parameters
        for name in self.args.keys() - taken.keys():
            raise TypeError(
                f'expected arguments of CheckpointHook, got {name!r}; correct '
                'its name in default_hooks.checkpoint, or leave it out'
            )
        super().before_train(runner)
        if type(self.file_backend) is LocalBackend:
            self.backend_args = dict(ATOMIC)

    def _save_checkpoint_with_step(self, runner, step: int, meta) -> None:
        info = runner.message_hub.runtime_info
        outdated = []
        if self.num_kept > 0:
            steps = [i for i in info.get('keep_ckpt_ids', []) if i != step]
            steps.append(step)
            outdated = steps[: -self.num_kept]
            kept = steps[-self.num_kept :]
            runner.message_hub.update_info('keep_ckpt_ids', kept)
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
        self._remove(map(self._path, outdated))

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        if not self.save_best:
            return
        before = self._best_paths()
        self._set_best_paths(dict.fromkeys(before))  # it removes these first
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            after = self._best_paths()
            self._set_best_paths({i: after[i] or before[i] for i in before})
        replaced = [before[i] for i in before if after[i] and before[i]]
        self._remove(i for i in replaced if i not in after.values())

    def _best_paths(self) -> Dict[str, Optional[str]]:
        """Return where the best checkpoint by each metric is."""
        if len(self.key_indicators) == 1:  # its name may still be 'auto'
            return {'': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best_paths(self, paths: Dict[str, Optional[str]]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = paths

    def _remove(self, paths: Iterable[str]) -> None:
        """Remove those that are there."""
        for path in paths:
            if is_main_process() and self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def _path(self, step: int) -> str:
        name = self.filename_tmpl.format(step)
        return self.file_backend.join_path(self.out_dir, name)


def write_checkpoint(runner, path: str, **kwargs) -> None:
    """Write a checkpoint, and then that it is the one to resume from.

    Args:
        runner: The runner, on every process; the main one writes.
        path: Where to write it.
        kwargs: Those of ``Runner.save_checkpoint``.

    Raises:
        OSError: It cannot be written.
    """
    pointer = Path(runner.work_dir, 'last_checkpoint')
    try:
        runner.save_checkpoint(*osp.split(path), **kwargs)
        if is_main_process():
            AtomicLocalBackend().put(path.encode(), pointer)
    except OSError as error:
        last = pointer.read_text() if pointer.exists() else 'none'
        raise OSError(
            error.errno,
            f'expected to write the checkpoint {path}, got '
            f'{error.strerror or error}; the last good checkpoint is {last}: '
            'make room, or choose another --work-dir, and go on with --resume',
        ) from error
