import copy

import numpy as np
import pytest
import torch

from dualpixel.recipes.optimizers import KerasAdam


def keras_adam(parameter, gradients, rate, beta1=0.9, beta2=0.999, epsilon=1e-7):
    """Keras 2's update (`keras.optimizers.Adam.get_updates`), line by line."""
    m, v = np.zeros_like(parameter), np.zeros_like(parameter)
    for iteration, gradient in enumerate(gradients):
        t = iteration + 1
        rate_t = rate * (np.sqrt(1 - beta2**t) / (1 - beta1**t))
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        parameter = parameter - rate_t * m / (np.sqrt(v) + epsilon)
    return parameter


def gradients(steps=20):
    random = np.random.default_rng(0)
    # around the epsilon, where its place matters
    return random.standard_normal((steps, 7)) * 10.0 ** random.integers(-9, -4, size=7)


def run(optimizer, parameter, some):
    for gradient in some:
        parameter.grad = torch.from_numpy(gradient.copy()).to(parameter.dtype)
        optimizer.step()


@pytest.mark.parametrize("foreach", [False, True])
def test_update_is_that_of_keras(foreach):
    parameter = torch.nn.Parameter(torch.linspace(-1, 1, 7, dtype=torch.float64))
    wanted = keras_adam(parameter.detach().numpy().copy(), gradients(), rate=1e-3)
    plain = torch.nn.Parameter(parameter.detach().clone())
    run(KerasAdam([parameter], lr=1e-3, foreach=foreach), parameter, gradients())
    run(torch.optim.Adam([plain], lr=1e-3, eps=1e-7), plain, gradients())
    np.testing.assert_allclose(parameter.detach().numpy(), wanted, rtol=0, atol=1e-14)
    assert np.abs(plain.detach().numpy() - wanted).max() > 1e-4


def test_resume_is_bit_identical():
    start = torch.linspace(-1, 1, 7)
    whole = torch.nn.Parameter(start.clone())
    run(KerasAdam([whole]), whole, gradients())

    halted = torch.nn.Parameter(start.clone())
    first = KerasAdam([halted])
    run(first, halted, gradients()[:8])
    state = copy.deepcopy(first.state_dict())
    assert state["param_groups"][0]["eps"] == 1e-7
    second = KerasAdam([halted], eps=1e-3)
    second.load_state_dict(state)
    run(second, halted, gradients()[8:])
    assert torch.equal(halted, whole)


def test_the_state_of_plain_adam_is_taken_over():
    parameter = torch.nn.Parameter(torch.ones(7))
    plain = torch.optim.Adam([parameter], eps=1e-7)
    run(plain, parameter, gradients()[:5])
    optimizer = KerasAdam([parameter])
    optimizer.load_state_dict(plain.state_dict())
    assert optimizer.param_groups[0]["updates"] == 5


def test_a_copy_goes_on_as_the_original():
    parameter = torch.nn.Parameter(torch.ones(7))
    optimizer = KerasAdam([parameter])
    run(optimizer, parameter, gradients()[:5])
    twin = copy.deepcopy(optimizer)
    run(optimizer, parameter, gradients()[5:])
    run(twin, twin.param_groups[0]["params"][0], gradients()[5:])
    assert torch.equal(parameter, twin.param_groups[0]["params"][0])


def test_gradients_may_come_from_the_closure_and_the_setting_survives_an_error():
    parameter = torch.nn.Parameter(torch.full((1,), 3e-9, dtype=torch.float64))
    optimizer = KerasAdam([parameter], lr=1e-3)

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9e-18
    wanted = keras_adam(np.array([3e-9]), [np.array([6e-9])], rate=1e-3)
    assert parameter.item() == pytest.approx(wanted.item(), rel=1e-9)

    def fails():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(fails)
    assert optimizer.param_groups[0]["eps"] == 1e-7


def test_groups_are_counted_apart():
    early, late = torch.nn.Parameter(torch.ones(7)), torch.nn.Parameter(torch.ones(7))
    optimizer = KerasAdam([{"params": [early]}, {"params": [late], "eps": 1e-5}])
    run(optimizer, early, gradients()[:4])
    late.grad = torch.from_numpy(gradients()[0]).float()
    optimizer.step()
    assert [group["updates"] for group in optimizer.param_groups] == [5, 1]
    wanted = keras_adam(np.ones(7), gradients()[:1], rate=1e-3, epsilon=1e-5)
    np.testing.assert_allclose(late.detach().numpy(), wanted, atol=1e-7)
