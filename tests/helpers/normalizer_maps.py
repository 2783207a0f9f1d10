"""Maps of a made-up teacher layer, for normalizers."""

import torch


def batches(num_batches=4, size=6, channels=12, seed=0):
    """Return maps whose channels differ in mean and scale and correlate."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator)
    scale = torch.logspace(-2, 1, channels)[:, None, None]
    maps = torch.randn(num_batches, size, channels, 4, 5, generator=generator)
    maps = torch.einsum('cd,bndhw->bnchw', mix, maps)
    return list(maps * scale + 7 * scale.flip(0))


def positions(maps):
    """Return all positions as a float64 numpy array, M x C."""
    maps = torch.cat(list(maps)).double()
    return maps.permute(0, 2, 3, 1).flatten(0, 2).numpy()
