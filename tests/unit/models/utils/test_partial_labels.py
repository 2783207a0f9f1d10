import pytest
import torch
from mmengine.registry import MODELS

from tests.helpers.toy import batch, distiller_config

NUMBERS = dict(mean=[127.5] * 3, std=[127.5] * 3)
MIXUP = dict(augments=[dict(type='Mixup', alpha=0.8)])


def build(**arguments):
    preprocessor = dict(
        type='mmpretrain.ClsDataPreprocessor', to_rgb=True, num_classes=10,
        **NUMBERS, **arguments,
    )  # fmt: skip
    torch.manual_seed(0)
    return MODELS.build(distiller_config(data_preprocessor=preprocessor))


def losses_of(model, data):
    torch.manual_seed(1)
    return model(**model.data_preprocessor(data, training=True), mode='loss')


@pytest.mark.parametrize(
    'labels', [[0, None, 1, 2], [None, 0, 1, None], [0, -1, 1, 2]]
)
@pytest.mark.parametrize('to_onehot', [False, True])
def test_any_image_may_be_unlabeled_with_that_of_mmpretrain(labels, to_onehot):
    data = batch(labels=labels)
    torch.manual_seed(0)
    expected = losses_of(MODELS.build(distiller_config()), data)
    losses = losses_of(build(to_onehot=to_onehot), data)
    assert losses['loss_decoder'] > 0
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


def test_labeled_batches_are_mixed_and_others_are_refused():
    model = build(batch_augments=MIXUP)
    data = model.data_preprocessor(batch(labels=[0, 1, 2, 3]), training=True)
    assert all('gt_score' in sample for sample in data['data_samples'])
    for labels in ([0, None, 1, 2], [None] * 4, [-1] * 4):
        with pytest.raises(ValueError, match='set batch_augments=None'):
            model.data_preprocessor(batch(labels=labels), training=True)
        data = model.data_preprocessor(batch(labels=labels))
        assert len(data['data_samples']) == 4
