import pytest
import torch

from repfusion_mm.models import LearnedTimestepPolicy
from repfusion_mm.models.policies.learned import cosine_basis

IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ALL = torch.ones(5, dtype=torch.bool)


@pytest.mark.parametrize('logits', ['smooth', 'free'])
def test_learned_policy_starts_uniform_at_any_image_size(logits):
    policy = LearnedTimestepPolicy(1000, stride=5, logits=logits)
    for side in (8, 33):
        pi = policy(torch.rand(2, 3, side, side))
        assert pi.probs.shape == (2, 200)
        torch.testing.assert_close(pi.probs, torch.full((2, 200), 0.005))


def test_smooth_logits_change_neighboring_timesteps_too():
    policy = LearnedTimestepPolicy(1000)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    (-policy(IMAGES).log_prob(torch.full((5,), 400)).mean()).backward()
    optimizer.step()
    gain = policy(IMAGES).probs[0].detach() * 1000 - 1
    assert gain[400] > 0.1
    assert gain[390] > 0.8 * gain[400]
    assert gain[700] < 0.2 * gain[400]


def test_cosines_are_orthogonal_and_sum_to_zero():
    basis = cosine_basis(16, 1000)
    gram = basis @ basis.T
    torch.testing.assert_close(gram, 500 * torch.eye(16), atol=0.1, rtol=0)
    assert basis.sum(1).abs().max() < 1e-2


def test_policy_computes_in_float32_under_autocast():
    policy = LearnedTimestepPolicy(1000)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert policy(IMAGES).logits.dtype == torch.float32


@pytest.mark.parametrize('scale', [True, False])
def test_loss_is_reinforce_with_entropy(scale):
    policy = LearnedTimestepPolicy(
        10, entropy_weight=0.3, scale_advantage=scale
    )
    torch.nn.init.normal_(policy.head.weight)
    pi = policy(IMAGES)
    actions = torch.tensor([0, 3, 9, 5, 5])
    reward = torch.randn(5)
    losses = policy.loss(pi, actions, reward, ALL)
    advantage = reward - (reward.sum() - reward) / 4
    spread = advantage.std(unbiased=False) if scale else 1
    log_prob = pi.probs.log()[range(5), actions]
    entropy = -(pi.probs * pi.probs.log()).sum(1)
    expected = -(advantage / spread * log_prob + 0.3 * entropy).mean()
    torch.testing.assert_close(losses['loss_policy'], expected)
    torch.testing.assert_close(
        losses['policy_entropy'], entropy.mean().detach()
    )


@pytest.mark.parametrize('scale', [1e3, 1e-3])
def test_loss_does_not_depend_on_the_scale_of_rewards(scale):
    """The losses of keypoints are a hundredth of those of classes."""
    policy = LearnedTimestepPolicy(10)
    pi, actions = policy(IMAGES), torch.tensor([0, 3, 9, 5, 5])
    reward = torch.tensor([1.0, 2.0, -1.0, 0.5, 3.0])
    losses = [
        policy.loss(pi, actions, reward * factor, ALL)['loss_policy']
        for factor in (1.0, scale)
    ]
    torch.testing.assert_close(*losses)


def test_unlabeled_images_contribute_no_gradient():
    policy = LearnedTimestepPolicy(10)
    torch.nn.init.normal_(policy.head.weight)
    mask = torch.tensor([True, True, False, False, False])

    def gradient(images, reward, mask):
        policy.zero_grad()
        pi = policy(images)
        actions = torch.arange(len(images))
        policy.loss(pi, actions, reward, mask)['loss_policy'].backward()
        return policy.head.weight.grad.clone()

    reward = torch.randn(5)
    torch.testing.assert_close(
        gradient(IMAGES, reward, mask),
        gradient(IMAGES[:2], reward[:2], mask[:2]),
    )
    assert gradient(IMAGES, reward, ~ALL).abs().max() == 0


def test_advantage_statistics_are_those_of_rewarded_images():
    policy = LearnedTimestepPolicy(10, baseline='none')
    pi = policy(IMAGES)
    mask = torch.tensor([True, True, False, False, False])
    reward = torch.tensor([1.0, 3.0, 9.0, 9.0, 9.0])
    losses = policy.loss(pi, pi.sample(), reward, mask)
    assert losses['advantage_mean'] == 2
    assert losses['advantage_std'] == 1
