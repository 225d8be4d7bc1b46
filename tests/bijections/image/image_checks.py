"""What every bijection of images must fulfil, by autograd in float64."""

import torch


def randomise(bijection, seed=0, scale=0.3):
    """Move every parameter away from where it starts, as training does: zeros hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in bijection.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(scale * noise / max(1, parameter[0].numel()) ** 0.5)
    return bijection


def inputs(shape, num_features=None, rows=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, *shape, generator=generator, dtype=torch.float64)
    return x, None if num_features is None else torch.randn(
        rows, num_features, generator=generator, dtype=torch.float64
    )


def log_det(function, x, h):
    """Log |det| of each row's Jacobian, by autograd."""
    found = []
    for k in range(len(x)):
        condition = None if h is None else h[k : k + 1]
        jacobian = torch.autograd.functional.jacobian(lambda v, c=condition: function(v[None], c)[0][0].flatten(), x[k])
        found.append(torch.linalg.slogdet(jacobian.flatten(1))[1])
    return torch.stack(found)


def check(bijection, num_features=None, atol=1e-9):
    """Inverse and log-determinants in both directions, and that rows do not depend on each other."""
    bijection = bijection.double().eval()
    x, h = inputs(bijection.sample_shape, num_features)
    z, forward = bijection(x, h)
    assert z.shape == (len(x), *bijection.latent_shape)
    assert forward.shape == (len(x),)
    back, backward = bijection.inverse(z, h)
    torch.testing.assert_close(back, x, rtol=0, atol=atol)
    torch.testing.assert_close(backward, -forward, rtol=0, atol=atol)
    torch.testing.assert_close(forward, log_det(bijection, x, h), rtol=0, atol=atol)
    noise, _ = inputs(bijection.latent_shape, seed=2)
    made, log_dets = bijection.inverse(noise, h)
    assert made.shape == x.shape
    torch.testing.assert_close(log_dets, log_det(bijection.inverse, noise, h), rtol=0, atol=atol)
    alone, log_det_alone = bijection(x[:1], None if h is None else h[:1])
    torch.testing.assert_close(alone, z[:1], rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det_alone, forward[:1], rtol=0, atol=1e-11)
