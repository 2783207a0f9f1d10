import math

import pytest
import torch

from repfusion_mm.models import (
    FixedTimestepPolicy,
    LearnedTimestepPolicy,
    UniformTimestepPolicy,
)
from repfusion_mm.models.policies.learned import cosine_basis
from repfusion_mm.models.policies.reinforce import (
    Baseline,
    mean_over_ranks,
    scale_over_ranks,
)

IMAGES = torch.rand(5, 3, 8, 8)
ALL = torch.ones(5, dtype=torch.bool)


def draw(policy, images=IMAGES):
    return policy.timesteps[policy(images).sample()]


def test_fixed_policy_samples_its_timestep():
    policy = FixedTimestepPolicy(1000, timestep=37)
    assert draw(policy).tolist() == [37] * 5
    assert policy(IMAGES).entropy().tolist() == [0.0] * 5


def test_uniform_policy_samples_its_range_evenly():
    policy = UniformTimestepPolicy(1000, low=100, high=199, stride=10)
    pi = policy(torch.rand(4000, 3, 1, 1))
    drawn = policy.timesteps[pi.sample()]
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == list(range(100, 200, 10))
    assert counts.min() > 320
    assert pi.entropy()[0] == pytest.approx(math.log(10))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(low=-1),
        dict(high=1000),
        dict(low=5, high=4),
        dict(stride=0),
    ],
)
def test_timesteps_outside_the_schedule_are_refused(arguments):
    with pytest.raises(ValueError, match='within the schedule'):
        UniformTimestepPolicy(1000, **arguments)


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


def test_batch_baseline_is_the_mean_of_the_others():
    reward = torch.tensor([1.0, 2.0, 4.0, 9.0, float('nan')])
    mask = torch.tensor([True, True, True, True, False])
    advantage = Baseline('batch').advantage(reward, mask)
    expected = [1 - 15 / 3, 2 - 14 / 3, 4 - 12 / 3, 9 - 7 / 3, 0]
    torch.testing.assert_close(advantage, torch.tensor(expected))


def test_advantage_of_a_single_reward_is_zero_with_the_batch_baseline():
    mask = torch.tensor([False, True])
    advantage = Baseline('batch').advantage(torch.tensor([5.0, -3.0]), mask)
    assert advantage.tolist() == [0.0, 0.0]


def test_advantage_without_a_baseline_is_the_reward():
    reward = torch.tensor([1.0, -2.0])
    mask = torch.tensor([True, True])
    assert torch.equal(Baseline('none').advantage(reward, mask), reward)


def test_ema_baseline_averages_past_batches_and_is_saved():
    baseline = Baseline('ema', momentum=0.5)
    mask = torch.tensor([True, True])
    none = torch.tensor([False, False])
    first = baseline.advantage(torch.tensor([1.0, 3.0]), mask)
    assert first.tolist() == [-1.0, 1.0]
    baseline.advantage(torch.tensor([7.0, 7.0]), none)
    baseline.advantage(torch.tensor([4.0, 4.0]), mask)
    resumed = Baseline('ema', momentum=0.5)
    resumed.load_state_dict(baseline.state_dict())
    third = resumed.advantage(torch.tensor([3.0, 3.0]), mask)
    assert third.tolist() == [0.0, 0.0]


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match='baseline to be one of'):
        LearnedTimestepPolicy(1000, baseline='mean')
    with pytest.raises(ValueError, match='logits to be one of'):
        LearnedTimestepPolicy(1000, logits='rough')


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


@pytest.mark.parametrize('scale', [1.0, 1e-3])
def test_loss_does_not_depend_on_the_scale_of_rewards(scale):
    """The losses of key points are a hundredth of those of classes."""
    policy = LearnedTimestepPolicy(10)
    pi, actions = policy(IMAGES), torch.tensor([0, 3, 9, 5, 5])
    reward = torch.tensor([1.0, 2.0, -1.0, 0.5, 3.0])
    losses = [
        policy.loss(pi, actions, reward * factor, ALL)['loss_policy']
        for factor in (1.0, scale)
    ]
    torch.testing.assert_close(*losses)


def test_advantage_of_equal_rewards_is_zero():
    advantage = Baseline('batch').advantage(torch.full((5,), -2.0), ALL)
    assert scale_over_ranks(advantage, ALL).tolist() == [0.0] * 5
    none = torch.zeros(5, dtype=torch.bool)
    assert scale_over_ranks(advantage, none).tolist() == [0.0] * 5


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


def test_mean_over_ranks_is_zero_with_a_graph_without_labels():
    values = torch.randn(5, requires_grad=True)
    mean_over_ranks(values, ~ALL).backward()
    assert values.grad.tolist() == [0.0] * 5
