"""Call a function through torch.compile, if it compiles."""

from __future__ import annotations

import logging
from typing import Any, Callable, Optional

import torch
from mmengine.logging import print_log


class CompiledFunction:
    """A function that ``torch.compile`` compiles for each shape of its inputs.

    If compilation fails, the reason is logged, and the function runs
    uncompiled from then on. An error of the backward pass, which is compiled
    when it first runs, is raised.

    Args:
        function: The function. Modules that it runs are best arguments: a
            copy of a module would otherwise run the original one.
        name: What runs uncompiled, for the log.
        fullgraph: Refuse functions that compile only in parts.
    """

    def __init__(
        self, function: Callable, name: str, fullgraph: bool = False
    ) -> None:
        self.function = function
        self.name = name
        #: None if compilation has failed.
        self.compiled: Optional[Callable] = torch.compile(
            function, fullgraph=fullgraph, dynamic=False
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function with these arguments."""
        if self.compiled is None:
            return self.function(*args, **kwargs)
        try:
            return self.compiled(*args, **kwargs)
        except Exception as error:
            # If the input is wrong, this raises the function's own error.
            outputs = self.function(*args, **kwargs)
            self.compiled = None
            print_log(
                f'torch.compile failed, and the {self.name} runs uncompiled: '
                f'same features, less speed ({type(error).__name__}: {error})',
                logger='current',
                level=logging.WARNING,
            )
            return outputs
