from .attention_transfer_loss import AttentionTransferLoss
from .base import DistillLoss
from .hint_loss import HintLoss
from .relational_loss import RelationalLoss

__all__ = [
    'AttentionTransferLoss',
    'DistillLoss',
    'HintLoss',
    'RelationalLoss',
]
