"""Read the output of named layers, and stop where the last one has spoken."""

from __future__ import annotations

import contextlib
import logging
from typing import Callable, Dict, Iterator, Optional, Sequence

import torch
import torch.nn as nn
from mmengine.logging import print_log

from repfusion_mm.models.teachers.layers import find_layers


class _LastLayerReached(Exception):
    """Ends a forward pass whose remainder nobody reads."""


class FeatureExtractor:
    """Run a module, and return what some of its layers give.

    The outputs are handed over by the call that made them: no hook and no
    feature outlives it.

    Args:
        module: The module to run.
        layers: Paths of sub-modules, as in ``named_modules()``.
        early_stop: Abandon the pass as soon as every layer has spoken. The
            outputs are the same to the bit.
        compile: Run the pass, up to where it is abandoned, through
            ``torch.compile``, once for each shape of its input. Where that
            fails the pass runs uncompiled from then on, and the log says why.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str],
        early_stop: bool = True,
        compile: bool = False,
    ) -> None:
        self.module = module
        self.layers = tuple(layers)
        self.early_stop = early_stop
        # The same functions at every call, which torch.compile would
        # otherwise compile anew.
        self._recorders = [
            (layer, self._make_recorder(name))
            for name, layer in zip(layers, find_layers(module, layers))
        ]
        self._outputs: Dict[str, torch.Tensor] = {}
        self.compile = compile
        self._compiled: Optional[Callable] = None
        if compile:
            self._compiled = torch.compile(
                self._run, fullgraph=True, dynamic=False
            )

    def __call__(self, *args, **kwargs) -> Dict[str, torch.Tensor]:
        """Run the module on these arguments.

        Returns:
            The output of each layer.
        """
        hooks = [
            layer.register_forward_hook(recorder)
            for layer, recorder in self._recorders
        ]
        try:
            if self._compiled is None:
                return self._run(*args, **kwargs)
            return self._run_compiled(*args, **kwargs)
        finally:
            self._outputs.clear()
            for hook in hooks:
                hook.remove()

    @property
    def is_compiled(self) -> bool:
        """Whether the pass is compiled; not so where that failed."""
        return self._compiled is not None

    @contextlib.contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Run the pass as it is while the context lasts."""
        compiled, self._compiled = self._compiled, None
        try:
            yield
        finally:
            self._compiled = compiled

    def _run(self, *args, **kwargs) -> Dict[str, torch.Tensor]:
        try:  # noqa: SIM105  # torch.compile does not see through suppress()
            self.module(*args, **kwargs)
        except _LastLayerReached:
            pass
        return {name: self._outputs[name] for name in self.layers}

    def _run_compiled(self, *args, **kwargs) -> Dict[str, torch.Tensor]:
        try:
            return self._compiled(*args, **kwargs)
        except Exception as error:
            self._outputs.clear()
            outputs = self._run(*args, **kwargs)  # its own error, if any
            self._compiled = None
            print_log(
                'torch.compile failed and is left out, which costs speed '
                f'alone: {type(error).__name__}: {error}',
                logger='current',
                level=logging.WARNING,
            )
            return outputs

    def _make_recorder(self, name: str) -> Callable:
        def record(_module, _inputs, output):
            self._outputs[name] = output
            if self.early_stop and len(self._outputs) == len(self.layers):
                raise _LastLayerReached

        return record
