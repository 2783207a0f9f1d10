from .base import MultiLevelConnector
from .conv_connector import ConvConnector
from .feature_regressor import FeatureRegressor

__all__ = ['ConvConnector', 'FeatureRegressor', 'MultiLevelConnector']
