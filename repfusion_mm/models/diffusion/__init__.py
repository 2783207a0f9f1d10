from .autoencoder import AutoencoderTraining
from .ddpm import DenoisingDiffusion

__all__ = ['AutoencoderTraining', 'DenoisingDiffusion']
