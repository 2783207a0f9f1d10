"""What differs between the classes of denoisers."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch

from repfusion_mm.registry import DENOISER_FAMILIES

#: A grid of positions: height and width.
Grid = Tuple[int, int]
#: Tensors for one image that a denoiser is conditioned on, by name.
Condition = Dict[str, torch.Tensor]


class DenoiserFamily(ABC):
    """The interface between a teacher and one class of denoisers.

    To add a class of denoisers, register a subclass under the name of the
    diffusers class::

        @DENOISER_FAMILIES.register_module('MyTransformer2DModel')
        class MyFamily(DenoiserFamily):
            ...

    Args:
        config: The config of the denoiser.

    Raises:
        ValueError: This variant of the denoiser is not supported.
    """

    #: Whether the denoiser is latent; else it may also be pixel-space.
    needs_latents = True
    #: Whether x_t is that of flow matching, or else that of DDPM.
    flow_matching = False
    #: Whether the denoiser runs on any multiple of its patches, or on squares
    #: only.
    only_squares = False
    #: Whether text precedes the image in streams that hold both.
    text_first = True
    #: The component of a pipeline that is the denoiser.
    component = 'transformer'
    #: The index of the class that means no class, if there are classes. None:
    #: the denoiser runs without its class embedding.
    null_class: Optional[int] = None
    #: Number of text tokens of a prompt, if the pipeline pads them.
    num_tokens = 77
    #: Tensors in published files that diffusers does not use.
    unused_weights: Tuple[str, ...] = ()
    #: Side in image pixels of a pixel of x_t; set by the teacher.
    latent_factor = 1

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    @property
    def patch_size(self) -> int:
        """Side of the squares that become one token, in latent pixels."""
        return self.config.get('patch_size') or 1

    @property
    def in_channels(self) -> int:
        """Number of channels of x_t."""
        return self.config['in_channels']

    @property
    def latent_channels(self) -> int:
        """Number of channels of the image encoder's latents."""
        return self.in_channels

    @property
    def sample_size(self) -> Optional[object]:
        """Side of x_t that the denoiser is made for, or None."""
        return self.config.get('sample_size')

    @property
    def max_size(self) -> Optional[int]:
        """Largest side of x_t that the denoiser runs on, or None."""
        return None

    @property
    def num_classes(self) -> int:
        """Number of classes that the denoiser is conditioned on."""
        return 0

    def grids(self, size: Grid) -> List[Grid]:
        """Return the grids that maps and tokens may have, for x_t of a size.

        Args:
            size: Height and width of x_t.
        """
        height, width = size
        return [(height // self.patch_size, width // self.patch_size)]

    def scale_timesteps(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Convert N timesteps in [0, T - 1] to the denoiser's ``timestep``."""
        return timesteps

    @abstractmethod
    def forward_kwargs(
        self,
        x_t: torch.Tensor,
        model_timesteps: torch.Tensor,
        condition: Condition,
    ) -> Dict[str, Any]:
        """Return the keyword arguments of the denoiser's forward.

        Args:
            x_t: N x C x H x W; x_0 if the teacher adds no noise.
            model_timesteps: N values of ``scale_timesteps``.
            condition: Tensors of N images, as ``encode_prompt`` returns them
                for one, and ``class_labels`` if there are classes.
        """

    def zero_condition(self, num_tokens: int) -> Condition:
        """Return zeros of the shapes that ``encode_prompt`` returns.

        They condition a denoiser of random weights. The shapes are those of
        one image and ``num_tokens`` text tokens. Without text, it is empty.
        """
        return {}

    def num_text_tokens(self, condition: Condition) -> int:
        """Return the number of text tokens of a condition."""
        prompt = condition.get('prompt_embeds')
        return 0 if prompt is None else prompt.shape[1]

    def unconditional(
        self, pipeline: Mapping[str, Any]
    ) -> Optional[Condition]:
        """Return the unconditional input if it needs no text encoder.

        Args:
            pipeline: The ``model_index.json`` of the pipeline.
        """
        return None

    def encode_prompt(self, pipeline: Any, prompt: str) -> Condition:
        """Return what the pipeline conditions one image on.

        Args:
            pipeline: A diffusers pipeline with its text encoders. Its
                denoiser has no weights, and it has no image encoder.
            prompt: The text; an empty one is the unconditional input.
        """
        raise NotImplementedError


def find_family(cls: type, config: Mapping[str, Any]) -> DenoiserFamily:
    """Return the family of a denoiser.

    Args:
        cls: Its diffusers class.
        config: Its config; other arguments have their defaults.

    Raises:
        ValueError: No family has this class, or not this variant of it.
    """
    name = cls.__name__
    family = DENOISER_FAMILIES.get(name)
    if family is None:
        raise ValueError(
            'expected a denoiser of one of the classes '
            f'{sorted(DENOISER_FAMILIES.module_dict)}, got {name}; choose '
            'another teacher, or register a family for it (docs/teachers.md)'
        )
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is not parameter.empty
    }
    return family({**defaults, **config})
