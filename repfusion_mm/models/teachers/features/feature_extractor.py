"""Run a module up to the last of some layers, and return their outputs."""

from __future__ import annotations

import contextlib
import logging
from typing import Callable, Dict, Iterator, Optional, Sequence

import torch
import torch.nn as nn
from mmengine.logging import print_log


class _LastLayerReached(Exception):
    """Ends a forward pass whose remaining outputs are not needed."""


class FeatureExtractor:
    """Run a module, and return the outputs of some of its layers.

    Hooks are registered for the duration of one call, and outputs are not
    kept after it.

    Args:
        module: The module to run.
        layers: Paths of sub-modules, as in ``named_modules()``.
        early_stop: Exit as soon as every layer has run. The outputs are
            bit-identical to those of the full pass.
        compile: Run the pass through ``torch.compile``, which compiles once
            for each shape of the input. If compilation fails, the reason is
            logged, and the pass runs uncompiled from then on.
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
        # The same function objects in every call: torch.compile would
        # recompile for new ones.
        self._recorders = [
            (module.get_submodule(name), self._make_recorder(name))
            for name in layers
        ]
        self._outputs: Dict[str, torch.Tensor] = {}
        self.compile = compile
        #: None if the pass is not compiled, or compilation has failed.
        self.compiled: Optional[Callable] = None
        if compile:
            self.compiled = torch.compile(
                self._run, fullgraph=True, dynamic=False
            )

    def __call__(self, *args, **kwargs) -> Dict[str, torch.Tensor]:
        """Run the module with these arguments, and return the outputs."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._outputs.clear)
            for layer, recorder in self._recorders:
                stack.enter_context(layer.register_forward_hook(recorder))
            if self.compiled is None:
                return self._run(*args, **kwargs)
            return self._run_compiled(self.compiled, *args, **kwargs)

    @contextlib.contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Run the pass uncompiled inside the context."""
        compiled, self.compiled = self.compiled, None
        try:
            yield
        finally:
            self.compiled = compiled

    def _run(self, *args, **kwargs) -> Dict[str, torch.Tensor]:
        try:  # noqa: SIM105  # torch.compile does not support suppress()
            self.module(*args, **kwargs)
        except _LastLayerReached:
            pass
        return {name: self._outputs[name] for name in self.layers}

    def _run_compiled(
        self, compiled: Callable, *args, **kwargs
    ) -> Dict[str, torch.Tensor]:
        try:
            return compiled(*args, **kwargs)
        except Exception as error:
            self._outputs.clear()
            # If the input is wrong, this raises the module's own error.
            outputs = self._run(*args, **kwargs)
            self.compiled = None
            print_log(
                'torch.compile failed, and the teacher runs uncompiled: same '
                f'features, less speed ({type(error).__name__}: {error})',
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
