"""A minimal U-Net of ADM, to test converted teachers against.

It is that of "Diffusion Models Beat GANs on Image Synthesis" (arXiv
2105.05233). Modules have the names of the published checkpoints.
"""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Residual(nn.Module):
    def __init__(self, channels, out_channels, embedding, resize=None):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, channels),
            nn.SiLU(),
            nn.Conv2d(channels, out_channels, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding, 2 * out_channels)
        )
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out_channels),
            nn.SiLU(),
            nn.Dropout(0.1),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.skip_connection = (
            nn.Identity()
            if channels == out_channels
            else nn.Conv2d(channels, out_channels, 1)
        )
        self.resize = {
            None: lambda x: x,
            'down': lambda x: F.avg_pool2d(x, 2),
            'up': lambda x: F.interpolate(x, scale_factor=2),
        }[resize]

    def forward(self, x, emb):
        h = self.resize(self.in_layers[:2](x))
        h = self.in_layers[2](h)
        scale, shift = self.emb_layers(emb)[..., None, None].chunk(2, dim=1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        return self.skip_connection(self.resize(x)) + self.out_layers[1:](h)


class SelfAttention(nn.Module):
    def __init__(self, channels, head_channels, order):
        super().__init__()
        self.heads = channels // head_channels
        self.order = order
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, emb):
        n, c, height, width = x.shape
        qkv = self.qkv(self.norm(x).reshape(n, c, -1))
        if self.order == 'new':  # [q of all heads, k of all, v of all]
            qkv = qkv.reshape(n, 3, self.heads, c // self.heads, -1)
            q, k, v = qkv.unbind(1)
        else:  # [q, k, v of head 0, q, k, v of head 1, ...]
            qkv = qkv.reshape(n, self.heads, 3, c // self.heads, -1)
            q, k, v = qkv.unbind(2)
        weights = torch.einsum('nhci,nhcj->nhij', q, k)
        weights = (weights / math.sqrt(c // self.heads)).softmax(-1)
        h = torch.einsum('nhij,nhcj->nhci', weights, v).reshape(n, c, -1)
        return x + self.proj_out(h).reshape(n, c, height, width)


class Block(nn.Sequential):
    def forward(self, x, emb):
        for module in self:
            is_conv = isinstance(module, nn.Conv2d)
            x = module(x) if is_conv else module(x, emb)
        return x


class ReferenceADM(nn.Module):
    """A U-Net of ``len(channel_mult)`` levels.

    ``order`` is that of the rows of qkv, 'new' or 'legacy'; ``num_heads``
    overrides ``head_channels``.
    """

    def __init__(
        self,
        order,
        base=32,
        channel_mult=(1, 2, 2),
        attention_levels=(False, True, True),
        num_res_blocks=2,
        head_channels=16,
        num_classes=None,
        num_heads=None,
    ):
        super().__init__()
        self.base, width = base, 4 * base
        self.time_embed = nn.Sequential(
            nn.Linear(base, width), nn.SiLU(), nn.Linear(width, width)
        )
        if num_classes:
            self.label_emb = nn.Embedding(num_classes, width)

        def attention(channels):
            size = channels // num_heads if num_heads else head_channels
            return SelfAttention(channels, size, order)

        channels = base
        self.input_blocks = nn.ModuleList(
            [Block(nn.Conv2d(3, base, 3, padding=1))]
        )
        kept = [base]
        for level, multiple in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                block = [Residual(channels, multiple * base, width)]
                channels = multiple * base
                if attention_levels[level]:
                    block.append(attention(channels))
                self.input_blocks.append(Block(*block))
                kept.append(channels)
            if level < len(channel_mult) - 1:
                down = Residual(channels, channels, width, 'down')
                self.input_blocks.append(Block(down))
                kept.append(channels)
        self.middle_block = Block(
            Residual(channels, channels, width),
            attention(channels),
            Residual(channels, channels, width),
        )
        self.output_blocks = nn.ModuleList()
        for level, multiple in reversed(list(enumerate(channel_mult))):
            for i in range(num_res_blocks + 1):
                width_in = channels + kept.pop()
                block = [Residual(width_in, multiple * base, width)]
                channels = multiple * base
                if attention_levels[level]:
                    block.append(attention(channels))
                if level and i == num_res_blocks:
                    up = Residual(channels, channels, width, 'up')
                    block.append(up)
                self.output_blocks.append(Block(*block))
        self.out = nn.Sequential(
            nn.GroupNorm(32, channels),
            nn.SiLU(),
            nn.Conv2d(channels, 6, 3, padding=1),
        )

    def forward(self, x, timesteps, labels=None):
        half = self.base // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half) / half)
        angles = timesteps[:, None].float() * rates
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        emb = self.time_embed(waves)
        if labels is not None:
            emb = emb + self.label_emb(labels)
        kept = []
        for block in self.input_blocks:
            x = block(x, emb)
            kept.append(x)
        x = self.middle_block(x, emb)
        for block in self.output_blocks:
            x = block(torch.cat([x, kept.pop()], dim=1), emb)
        return self.out(x)


def guided_alphas_cumprod(schedule, steps):
    """Return alphas_cumprod of guided-diffusion's schedules, in float64."""
    if schedule == 'linear':
        scale = 1000 / steps
        betas = np.linspace(scale * 0.0001, scale * 0.02, steps)
    else:
        t = np.arange(steps + 1) / steps
        alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    return np.cumprod(1 - betas)
