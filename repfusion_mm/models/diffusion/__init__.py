from .ddpm import DenoisingDiffusion

__all__ = ['DenoisingDiffusion']
