from .attention_transfer_loss import AttentionTransferLoss
from .base import DistillLoss
from .cosine_hint_loss import CosineHintLoss
from .hint_loss import HintLoss
from .relational_loss import RelationalLoss
from .sum_loss import SumLoss
from .token_relation_loss import TokenRelationLoss

__all__ = [
    'AttentionTransferLoss',
    'CosineHintLoss',
    'DistillLoss',
    'HintLoss',
    'RelationalLoss',
    'SumLoss',
    'TokenRelationLoss',
]
