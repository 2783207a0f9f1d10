"""Run a module up to the last of some layers, and return their outputs."""

from __future__ import annotations

import contextlib
from typing import Callable, Dict, Iterator, Sequence

import torch
import torch.nn as nn

from repfusion_mm.models.utils.compiled import CompiledFunction


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
        self.run: Callable = self._run
        if compile:
            self.run = CompiledFunction(self._run, 'teacher', fullgraph=True)

    def __call__(self, *args, **kwargs) -> Dict[str, torch.Tensor]:
        """Run the module with these arguments, and return the outputs."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._outputs.clear)
            for layer, recorder in self._recorders:
                stack.enter_context(layer.register_forward_hook(recorder))
            return self.run(*args, **kwargs)

    @contextlib.contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Run the pass uncompiled inside the context."""
        run, self.run = self.run, self._run
        try:
            yield
        finally:
            self.run = run

    def _run(self, *args, **kwargs) -> Dict[str, torch.Tensor]:
        self._outputs.clear()  # of a pass that failed
        try:  # noqa: SIM105  # torch.compile does not support suppress()
            self.module(*args, **kwargs)
        except _LastLayerReached:
            pass
        return {name: self._outputs[name] for name in self.layers}

    def _make_recorder(self, name: str) -> Callable:
        def record(_module, _inputs, output):
            self._outputs[name] = output
            if self.early_stop and len(self._outputs) == len(self.layers):
                raise _LastLayerReached

        return record
