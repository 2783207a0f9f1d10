from .losses import AttentionTransferLoss, HintLoss, RelationalLoss

__all__ = ['AttentionTransferLoss', 'HintLoss', 'RelationalLoss']
