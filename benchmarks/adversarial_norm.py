"""What spectral normalization promises and keeps while weights are driven fast, and what it costs.

Run it with ``.venv/bin/python benchmarks/adversarial_norm.py`` (under a minute). ``SpectralNorm(1.0)`` promises a
largest singular value of at most 1, torch's ``spectral_norm`` one of 1.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as torchs

import paraform as pf

STEPS, SIZE = 100, 64
LAYER_SIZES = (64, 128, 256, 512, 1024)
ROUNDS = 7


def ours(layer: nn.Module, exact: bool = False) -> nn.Module:
    return pf.register_parametrization(layer, "weight", pf.SpectralNorm(1.0, exact=exact))


def plainly_decomposed(layer: nn.Module) -> nn.Module:
    class Divided(nn.Module):
        def forward(self, raw: Tensor) -> Tensor:
            return raw / torch.linalg.matrix_norm(raw, ord=2)

    return pf.register_parametrization(layer, "weight", Divided(), unsafe=True)


PEERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "torch spectral_norm": torchs,
    "paraform SpectralNorm": ours,
    "paraform SpectralNorm, exact": lambda layer: ours(layer, exact=True),
    "torch.linalg.matrix_norm": plainly_decomposed,
}


def norm_of(value: Tensor) -> float:
    return float(torch.linalg.matrix_norm(value.detach().double(), ord=2))


def attacked(make: Callable[[nn.Module], nn.Module], learning_rate: float = 1.0) -> float:
    """The layer is trained to give the response that it gives least, found by an adversary who knows its weight."""
    torch.manual_seed(0)
    layer, worst = make(nn.Linear(SIZE, SIZE, bias=False)), 0.0
    optimizer = torch.optim.SGD(layer.parameters(), lr=learning_rate)
    for _ in range(STEPS):
        value = layer.weight
        worst = max(worst, norm_of(value))
        U, _, Vh = torch.linalg.svd(value.detach())
        optimizer.zero_grad()
        (-(U[:, -1] @ value @ Vh[-1])).backward()
        optimizer.step()
    return worst


def replaced(make: Callable[[nn.Module], nn.Module]) -> float:
    """The raw weight is another random one at each read."""
    torch.manual_seed(0)
    layer, worst = make(nn.Linear(SIZE, SIZE, bias=False)), 0.0
    for _ in range(STEPS):
        with torch.no_grad():
            layer.parametrizations.weight.original.normal_()
        worst = max(worst, norm_of(layer.weight))
    return worst


def jumped(make: Callable[[nn.Module], nn.Module]) -> float:
    """A rank-one matrix is added to the raw weight at each read, as by a step with a huge gradient."""
    torch.manual_seed(0)
    layer, worst = make(nn.Linear(SIZE, SIZE, bias=False)), 0.0
    for _ in range(STEPS):
        with torch.no_grad():
            original = layer.parametrizations.weight.original
            original += norm_of(original) / SIZE * torch.outer(torch.randn(SIZE), torch.randn(SIZE))
        worst = max(worst, norm_of(layer.weight))
    return worst


def missed(size: int) -> float:
    """How far above its bound the value is at worst, over spectra that are hard to search."""
    torch.manual_seed(0)
    s = torch.linspace(0, 1, size, dtype=torch.float64)
    crowd = torch.cos(s * torch.pi / 2)
    spectra = [s, crowd, *(torch.cat([torch.tensor([1 + h]).double(), crowd[1:]]) for h in (0.001, 0.003, 0.01, 0.03))]
    weights = [torch.randn(size, size), torch.randn(4 * size, size)]
    for spectrum in spectra:
        U, V = (torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q for _ in "UV")
        weights.append((10 * (U * spectrum) @ V).float())
    return max(norm_of(pf.SpectralNorm()(weight)) for weight in weights) - 1


def times(size: int) -> dict[str, float]:
    """Seconds of a forward and backward pass of one layer at batch 64, the least of several interleaved rounds."""
    layers = {"plain": nn.Linear(size, size)} | {name: make(nn.Linear(size, size)) for name, make in PEERS.items()}
    for layer in layers.values():
        if hasattr(layer, "parametrizations"):
            nn.init.normal_(layer.parametrizations.weight.original)  # outside the bound, where there is work
    x, least = torch.randn(64, size), dict.fromkeys(layers, float("inf"))
    for _ in range(ROUNDS if size < 1024 else 3):
        for name, layer in layers.items():
            start = time.perf_counter()
            layer(x).sum().backward()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def main() -> None:
    """Print the norms that were seen, then the costs."""
    torch.set_num_threads(1)  # so that the ratios do not depend on who else is at work
    print(f"torch {torch.__version__}, one thread")
    print(f"largest true norm in {STEPS} steps of a {SIZE} x {SIZE} layer in training mode, where 1 is promised")
    print("", "adversary", "replaced", "rank-one jumps", sep="\t")
    for name in list(PEERS)[:3]:
        print(name, *(f"{case(PEERS[name]):.5f}" for case in (attacked, replaced, jumped)), sep="\t")
    print("SpectralNorm above its bound over hard spectra, at worst")
    for size in (128, 256, 512, 1024):
        print(size, f"{missed(size):.1e}", sep="\t")
    print("forward and backward at batch 64, in ms (in brackets: over torch's spectral_norm)")
    print("size", "plain", *PEERS, sep="\t")
    for size in LAYER_SIZES:
        found = times(size)
        base = found["torch spectral_norm"]
        cells = [f"{1e3 * found[name]:.2f} ({found[name] / base:.1f})" for name in PEERS]
        print(size, f"{1e3 * found['plain']:.2f}", *cells, sep="\t", flush=True)


if __name__ == "__main__":
    main()
