import pytest
import torch
from torch.utils.data import ConcatDataset, TensorDataset

from repfusion_mm.datasets.feature_cache.dataset import CachedFeaturesDataset
from repfusion_mm.datasets.image_folder import ImageFolderDataset
from repfusion_mm.datasets.samplers import ProportionalSampler
from repfusion_mm.datasets.transforms import LoadImage
from repfusion_mm.engine import hooks
from repfusion_mm.engine.checkpoint.initializers import StrictPretrained
from repfusion_mm.models import (
    connectors,
    data_preprocessors,
    decoders,
    losses,
    normalizers,
    policies,
)
from repfusion_mm.models.policies.reinforce import Baseline

INVALID_WEIGHTS = ('big', None, True, float('nan'), float('inf'), -1)
INVALID_COUNTS = ('big', True, 0, -1, 1.5)


def proportional(proportions=(1, 1), **kwargs):
    part = TensorDataset(torch.zeros(4))
    return ProportionalSampler(
        ConcatDataset([part, part]), proportions, **kwargs
    )


def policy(**kwargs):
    return policies.LearnedTimestepPolicy(10, **kwargs)


def classify(num_classes=3, **kwargs):
    return decoders.ClsDecoder(num_classes, 4, **kwargs)


def segment(num_classes=3, **kwargs):
    return decoders.SegDecoder(num_classes, 4, **kwargs)


def locate(num_keypoints=3, **kwargs):
    return decoders.KeypointDecoder(num_keypoints, 4, **kwargs)


def normalize(**kwargs):
    return normalizers.StandardizeNormalizer(4, **kwargs)


def connect(**kwargs):
    return connectors.ConvConnector(2, 4, **kwargs)


def regress(**kwargs):
    return connectors.FeatureRegressor([(2, 8, 8)], [(4, 8, 8)], **kwargs)


def cached(**kwargs):
    return CachedFeaturesDataset([], 'folder', **kwargs)


def folder(root='.', **kwargs):
    return ImageFolderDataset(root, lazy_init=True, **kwargs)


def pretrained(**kwargs):
    return StrictPretrained('a.pth', **kwargs)


#: Class or builder, argument, invalid values.
ROWS = [
    (policy, 'logits', ('steep',)),
    (policy, 'num_cosines', INVALID_COUNTS),
    (policy, 'channels', ([], [0], ['a'], 8)),
    (policy, 'baseline', ('mean',)),
    (policy, 'scale_advantage', ('no',)),
    (policy, 'entropy_weight', INVALID_WEIGHTS),
    (Baseline, 'momentum', (*INVALID_WEIGHTS, 0, 1.5)),
    (losses.HintLoss, 'loss_weight', (*INVALID_WEIGHTS, 0)),
    (losses.HintLoss, 'criterion', ('l3',)),
    (losses.HintLoss, 'pooled', ('no',)),
    (losses.AttentionTransferLoss, 'loss_weight', (*INVALID_WEIGHTS, 0)),
    (losses.RelationalLoss, 'loss_weight', (*INVALID_WEIGHTS, 0)),
    (losses.RelationalLoss, 'distance_weight', INVALID_WEIGHTS),
    (losses.RelationalLoss, 'angle_weight', INVALID_WEIGHTS),
    (losses.CosineHintLoss, 'pooled', ('no',)),
    (losses.CosineHintLoss, 'loss_weight', (*INVALID_WEIGHTS, 0)),
    (losses.TokenRelationLoss, 'temperature', (*INVALID_WEIGHTS, 0)),
    (losses.TokenRelationLoss, 'loss_weight', (*INVALID_WEIGHTS, 0)),
    (losses.SumLoss, 'losses', ([], None, dict(type='HintLoss'))),
    (normalize, 'num_images', ('big', None, True, 1, -1, 2.5)),
    (normalize, 'discard_massive', ('big', True, 1, -1, float('inf'))),
    (connect, 'kernel_size', (*INVALID_COUNTS, 2)),
    (regress, 'channels', INVALID_COUNTS),
    (regress, 'pool_scales', ([0], ['a'], 2, (1, 9))),
    (classify, 'num_classes', (*INVALID_COUNTS, 1)),
    (classify, 'hidden_channels', ([0], ['a'], 8)),
    (classify, 'multi_label', ('no',)),
    (segment, 'num_classes', (*INVALID_COUNTS, 1)),
    (segment, 'hidden_channels', ([0], ['a'], 8)),
    (segment, 'ignore_index', ('void', None)),
    (locate, 'num_keypoints', INVALID_COUNTS),
    (locate, 'hidden_channels', ([0], ['a'], 8)),
    (data_preprocessors.BatchDataPreprocessor, 'bgr_to_rgb', ('no',)),
    (data_preprocessors.BatchDataPreprocessor, 'samples_on_device', ('no',)),
    (hooks.TimestepPolicyHook, 'entropy_decay', (*INVALID_WEIGHTS, 0, 1.5)),
    (hooks.TimestepPolicyHook, 'entropy_floor', INVALID_WEIGHTS),
    (hooks.TimestepPolicyHook, 'num_records', INVALID_COUNTS),
    (hooks.TimestepPolicyHook, 'min_picture_interval', ('big', -1)),
    (hooks.SampleImagesHook, 'num_records', INVALID_COUNTS),
    (hooks.SampleImagesHook, 'min_interval', INVALID_COUNTS),
    (hooks.SampleImagesHook, 'num_images', INVALID_COUNTS),
    (hooks.SampleImagesHook, 'num_steps', INVALID_COUNTS),
    (hooks.SampleImagesHook, 'seed', ('big', -1)),
    (hooks.FiniteLossHook, 'interval', INVALID_COUNTS),
    (hooks.PreemptionHook, 'interval', INVALID_COUNTS),
    (hooks.BufferedRuntimeInfoHook, 'interval', INVALID_COUNTS),
    (hooks.ExportDiffusersHook, 'dtype', ('half',)),
    (hooks.SafeCheckpointHook, 'max_keep_ckpts', ('big', None, -2)),
    (proportional, 'proportions', ((0, 1), (1.5, 1), ('a', 1))),
    (proportional, 'num_samples', INVALID_COUNTS),
    (proportional, 'seed', ('big', -1)),
    (LoadImage, 'on_error', ('ignore',)),
    (cached, 'num_views', INVALID_COUNTS),
    (cached, 'seed', ('big', -1)),
    (folder, 'with_label', ('no',)),
    (folder, 'extensions', ('.png',)),
    (folder, 'filter_cfg', (dict(min_size=32),)),
    (pretrained, 'allow_missing', ('head.*',)),
    (pretrained, 'allow_unused', ('head.*',)),
    (pretrained, 'allow_changes', ('no',)),
]  # fmt: skip


@pytest.mark.parametrize(
    ('build', 'name', 'value'),
    [(build, name, value) for build, name, values in ROWS for value in values],
)
def test_values_outside_the_range_are_refused(build, name, value):
    with pytest.raises(ValueError, match='expected') as error:
        build(**{name: value})
    text = str(error.value)
    assert name in text
    assert 'got ' in text
    assert '; ' in text  # what to do


def test_a_standard_deviation_of_zero_is_refused():
    with pytest.raises(ValueError, match='std to be a number above 0'):
        data_preprocessors.BatchDataPreprocessor(mean=[0] * 3, std=[1, 0, 1])


def test_two_terms_without_weight_are_refused():
    with pytest.raises(ValueError, match=r'weight \+ angle_weight'):
        losses.RelationalLoss(distance_weight=0, angle_weight=0)


def test_values_within_the_range_are_accepted():
    policy(num_cosines=1, channels=(8,), entropy_weight=0)
    losses.RelationalLoss(angle_weight=0, loss_weight=1)
    classify(1, hidden_channels=[], multi_label=True)
    segment(2, ignore_index=-100)
    hooks.TimestepPolicyHook(entropy_decay=1, entropy_floor=0)
    hooks.SafeCheckpointHook(max_keep_ckpts=-1)
    proportional(num_samples=None)
    folder(extensions=['.png'], filter_cfg=None, test_mode=True)
