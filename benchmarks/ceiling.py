"""Where matching without signs has its ceiling, and what of a direction permutation alone keeps.

Simulated: 128 coordinates, a gauge with a planted fraction of positive signs, a noisy target.
Coordinates are correlated by one common factor or by eight; or they are not, but those of the
target are mixtures of the source's. Correlations as they are, or of 64 tokens. Then SmolLM2 and
itself with noise on its weights: each ceiling beside the correlations between its coordinates. The
kept share of a steering direction by its formula, and measured in SmolLM2. Rows go to
results/ceiling.csv.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks import report, results
from benchmarks.interval import Interval
from bmatch import SignedPermutation
from bmatch.matching import gauge_of

DIM, NOISE, SEEDS = 128, 0.5, 8
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98)
STRUCTURES = {"1 factor": 1, "8 factors": 8, "mixed": 0}
TOKENS = 64

SITES = (5, 15, 29)
REAL_TOKENS, REAL_NOISE, REAL_SEEDS = 2048, 0.1, 4

GAUGES = 400
STEERED, STEERING_SITE, STEERING_TOKENS = 16, 15, 128
STEERING_NORM = 4.0
STEERING_FRACTIONS = (0.2, 0.5, 0.8)

Array = npt.NDArray[np.float64]


def planted(dim: int, fraction: float, rng: np.random.Generator) -> SignedPermutation:
    """A random gauge with exactly this fraction of positive signs, rounded to a coordinate."""
    sign = np.where(np.arange(dim) < round(fraction * dim), 1, -1)
    return SignedPermutation(rng.permutation(dim), rng.permutation(sign))


def factor_model(dim: int, factors: int, strength: float, rng: np.random.Generator) -> Array:
    """Correlations of coordinates that have a share of their variance in common, [d, d]."""
    loadings = rng.normal(size=(dim, factors))
    loadings /= np.linalg.norm(loadings, axis=1, keepdims=True)
    shared: Array = strength * loadings @ loadings.T
    np.fill_diagonal(shared, 1)
    return shared


def mixed(dim: int, strength: float, rng: np.random.Generator) -> Array:
    """Target coordinates that share variance with all of the source's, [target, source]."""
    other = rng.normal(size=(dim, dim)) / math.sqrt(dim)
    found: Array = math.sqrt(1 - strength) * np.eye(dim) + math.sqrt(strength) * other
    unit: Array = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def exact(shared: Array, mix: Array) -> Array:
    """Correlations of ``mix @ source`` plus noise with the source, [d, d]."""
    covariance = mix @ shared
    spread = np.sqrt(np.einsum("ij,ij->i", covariance, mix) + NOISE**2)
    found: Array = covariance / spread[:, None]
    return found


def sampled(shared: Array, mix: Array, tokens: int, rng: np.random.Generator) -> Array:
    """The same over so many tokens."""
    dim = len(shared)
    root = np.linalg.cholesky(shared + 1e-9 * np.eye(dim))
    source = rng.normal(size=(tokens, dim)) @ root.T
    target = source @ mix.T + NOISE * rng.normal(size=source.shape)
    found: Array = np.corrcoef(target.T, source.T)[:dim, dim:]
    return found


def diagnostic(correlation: Array) -> tuple[float, float]:
    """Mean |off-diagonal|, and the mean of the rows' maxima of it."""
    magnitude = np.abs(correlation) * ~np.eye(len(correlation), dtype=bool)
    return float(magnitude.sum() / (magnitude.size - len(magnitude))), float(
        magnitude.max(axis=1).mean()
    )


class Found(NamedTuple):
    """Shares of coordinates, of one matching problem."""

    raw: float  # index right, matched on C
    signed: float  # index and sign right, matched on |C|
    off_diagonal: float
    row_maximum: float


def matched(at_home: Array, among: Array, gauge: SignedPermutation) -> Found:
    """Match correlations, given in the source's gauge, after a gauge was planted in the target."""
    correlation = np.asarray(gauge.apply(at_home, 0))
    raw = gauge_of(correlation, "permutation")
    signed = gauge_of(correlation, "signed_permutation")
    right = float(np.mean(raw.perm == gauge.perm))
    return Found(right, signed.agreement(gauge), *diagnostic(among))


def simulated(seed: int) -> Iterator[tuple[str, dict[str, Any], list[Found]]]:
    """Every case of the simulation, with what each draw gave."""
    for structure, strength, tokens, fraction in itertools.product(
        STRUCTURES, STRENGTHS, (0, TOKENS), FRACTIONS
    ):
        drawn = []
        for k in range(SEEDS):
            rng = np.random.default_rng((seed, k, int(100 * strength)))
            shared = mix = np.eye(DIM)
            if structure == "mixed":
                mix = mixed(DIM, strength, rng)
            else:
                shared = factor_model(DIM, STRUCTURES[structure], strength, rng)
            gauge = planted(DIM, fraction, rng)
            home = sampled(shared, mix, tokens, rng) if tokens else exact(shared, mix)
            drawn.append(matched(home, mix if structure == "mixed" else shared, gauge))
        told = {
            **{"structure": structure, "strength": strength, "tokens": tokens},
            **{"f": round(fraction * DIM) / DIM, "dim": DIM, "noise": NOISE},
        }
        yield f"simulated {structure} {strength} {tokens} {fraction}", told, drawn


def streams(model: Any, batches: Sequence[Any]) -> Array:
    """Every site's stream as blocks read it, each token at root mean square 1, [sites, T, D]."""
    import torch

    from bmatch.models.activations import Reader, counted_tokens, run

    reader = Reader.of(model)
    sites = range(reader.axes.num_layers + 1)
    kept: dict[int, list[Any]] = {site: [] for site in sites}
    for batch in batches:
        counted = counted_tokens(batch)

        def receive(site: int, stream: Any, counted: Any = counted) -> None:
            kept[site].append(torch.nn.functional.rms_norm(stream, stream.shape[-1:])[counted])

        run(reader, batch, sites, receive)
    return np.stack([torch.cat(kept[site]).numpy() for site in sites])


def by_site(target: Array, source: Array) -> dict[str, Array]:
    """Correlations at single sites, and their mean over all, [D, D] each."""
    dim = source.shape[-1]
    pairs = zip(target, source, strict=True)
    found = np.stack([np.corrcoef(y.T, x.T)[:dim, dim:] for y, x in pairs])
    return {f"block {site}": found[site] for site in SITES} | {"all": found.mean(0)}


def on_smollm2(seed: int) -> Iterator[tuple[str, dict[str, Any], list[Found]]]:
    """The same of real activations: at single blocks, and averaged over all."""
    from benchmarks.relatives import noisy
    from bmatch.models.smollm2 import read_smollm2
    from bmatch.models.text import default_text, token_batches

    model, tokenizer = read_smollm2()
    model.eval()
    batches = token_batches(tokenizer, default_text(), REAL_TOKENS, 257)
    source = streams(model, batches)
    among = by_site(source, source)
    home = [
        by_site(streams(noisy(model, REAL_NOISE, seed + k), batches), source)
        for k in range(REAL_SEEDS)
    ]
    for name, fraction in itertools.product(among, FRACTIONS):
        dim = len(among[name])
        drawn = [
            matched(c[name], among[name], planted(dim, fraction, np.random.default_rng((seed, k))))
            for k, c in enumerate(home)
        ]
        told = {
            **{"site": name, "tokens": REAL_TOKENS, "f": round(fraction * dim) / dim},
            **{"dim": dim, "noise": REAL_NOISE},
        }
        yield f"SmolLM2 {name} {fraction}", told, drawn


def products(seed: int) -> dict[str, Array]:
    """Entries v g of directions and gradients, by how they are spread over coordinates, [576]."""
    rng = np.random.default_rng(seed)
    gradient = rng.normal(size=576)
    other = rng.normal(size=576)
    other -= gradient * (gradient @ other) / (gradient @ gradient)
    other *= np.linalg.norm(gradient) / np.linalg.norm(other)

    def at(cosine: float) -> Array:
        found: Array = gradient * (cosine * gradient + math.sqrt(1 - cosine**2) * other)
        return found

    return {
        "cosine 1": at(1.0),
        "cosine 0.3": at(0.3),
        "cosine 0.1": at(0.1),
        "a few coordinates": np.exp(3.0 * rng.normal(size=576)),
    }


def effective(product: Array) -> float:
    """Over how many coordinates the effect is spread: (sum w)^2 / sum w^2."""
    return float(product.sum() ** 2 / (product**2).sum())


def foretold_spread(product: Array, fraction: float) -> float:
    """Standard deviation of the kept share over gauges (docs/theorem.md, theorem 4)."""
    spread, dim = effective(product), len(product)
    return math.sqrt(4 * fraction * (1 - fraction) / spread * (dim - spread) / (dim - 1))


def kept_shares(product: Array, fraction: float, count: int, rng: np.random.Generator) -> Array:
    """What permutation alone keeps in so many gauges, by the formula: sum s v g / sum v g."""
    signs = np.stack([planted(len(product), fraction, rng).sign for _ in range(count)])
    shares: Array = signs @ product / product.sum()
    return shares


class Steering(NamedTuple):
    """A direction in SmolLM2, and what its copies without signs do."""

    product: Array  # v g, [D]
    cosine: float
    effect: float  # odd part of the direction itself, nats a token
    measured: dict[float, Array]  # by fraction: kept shares of odd parts
    foretold: dict[float, Array]  # of the same gauges, by the formula


def steering(seed: int) -> dict[str, Steering]:
    """Steer towards prose: by the difference of mean streams of prose and of Python sources, and by
    the gradient of other prose's log-probability.

    Of a model in another gauge, steered with what permutation alone carried, the model at home
    shows the same when it is steered with the direction with those signs flipped.
    """
    import contextlib
    from pathlib import Path

    import torch

    from bmatch.audit.measures import activation
    from bmatch.models.activations import Reader, replaced_stream
    from bmatch.models.smollm2 import read_smollm2
    from bmatch.models.text import default_text, file_text, token_batches

    model, tokenizer = read_smollm2()
    reader = Reader.of(model.eval())
    sources = sorted(Path(contextlib.__file__).parent.glob("[a-h]*.py"))
    prose, code = (
        token_batches(tokenizer, text, 4 * STEERING_TOKENS, STEERING_TOKENS + 1, 1)
        for text in (default_text(), file_text(sources))
    )
    *learnt, scored = prose

    def score(added: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Mean log-probability, nats a token."""
        with replaced_stream(reader, STEERING_SITE, lambda stream: stream + added):
            logits = model(tokens, use_cache=False).logits
        return -torch.nn.functional.cross_entropy(logits[0, :-1], tokens[0, 1:])

    def gradient(tokens: torch.Tensor) -> Array:
        zero = torch.zeros(reader.axes.dim, requires_grad=True)
        found: Array = torch.autograd.grad(score(zero, tokens), zero)[0].double().numpy()
        return found

    def odd(vector: Array) -> float:
        with torch.inference_mode():
            up, down = (score(torch.from_numpy(sign * vector).float(), scored) for sign in (1, -1))
        return float(up - down) / 2

    slope = gradient(scored)
    there, elsewhere = (activation(reader, read, STEERING_SITE, 0) for read in (learnt, code))
    directions = {
        "difference of means": there - elsewhere,
        "gradient of other prose": np.sum([gradient(tokens) for tokens in learnt], axis=0),
    }
    found = {}
    for name, direction in directions.items():
        direction *= STEERING_NORM / np.linalg.norm(direction)
        product, whole = direction * slope, odd(direction)
        rng = np.random.default_rng(seed)
        measured, foretold = {}, {}
        for fraction in STEERING_FRACTIONS:
            signs = [planted(len(direction), fraction, rng).sign for _ in range(STEERED)]
            measured[fraction] = np.array([odd(sign * direction) / whole for sign in signs])
            foretold[fraction] = np.stack(signs) @ product / product.sum()
        cosine = float(product.sum()) / (STEERING_NORM * float(np.linalg.norm(slope)))
        found[name] = Steering(product, cosine, whole, measured, foretold)
    return found


def main(arguments: list[str]) -> None:
    """Draws, matches, steers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ceiling", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-smollm2", action="store_true", help="the simulations alone")
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("ceiling")
    with results.appending("ceiling", options) as out:
        _ceilings(out, simulated(options.seed))
        for name, product in products(options.seed).items():
            rng = np.random.default_rng(options.seed)
            shares = {f: kept_shares(product, f, GAUGES, rng) for f in FRACTIONS}
            _kept(out, name, product, shares)
        if not options.no_smollm2:
            _ceilings(out, on_smollm2(options.seed))
            for name, found in steering(options.seed).items():
                kept, formula = (
                    np.concatenate(list(shares.values()))
                    for shares in (found.measured, found.foretold)
                )
                told = {
                    "direction": name,
                    "cosine": round(found.cosine, 4),
                    "effect_nats": round(found.effect, 5),
                    "correlation_with_formula": round(float(np.corrcoef(kept, formula)[0, 1]), 4),
                }
                _kept(out, f"SmolLM2, {name}", found.product, found.measured, told)
                _kept(out, f"SmolLM2, {name}, formula", found.product, found.foretold, told)
    if options.out is None:
        report.write("ceiling")


def _ceilings(
    out: results.Writer, cases: Iterator[tuple[str, dict[str, Any], list[Found]]]
) -> None:
    for case, told, drawn in cases:
        columns = {name: [getattr(found, name) for found in drawn] for name in Found._fields}
        told = {
            **told,
            "draws": len(drawn),
            "mean_abs_off_diagonal": round(float(np.mean(columns["off_diagonal"])), 5),
            "row_maximum": round(float(np.mean(columns["row_maximum"])), 5),
        }
        for provider in ("raw", "signed"):
            mean = Interval.of(columns[provider])
            limits = {"low": round(mean.low, 5), "high": round(mean.high, 5)}
            most = {"most": max(columns[provider])}
            out.add(case, provider, "recovered", "", mean.mean, {**told, **limits, **most})
    print("ceilings are measured", flush=True)


def _kept(
    out: results.Writer,
    name: str,
    product: Array,
    shares: dict[float, Array],
    more: dict[str, Any] | None = None,
) -> None:
    for fraction, drawn in shares.items():
        mean, exact_f = Interval.of(drawn), round(fraction * len(product)) / len(product)
        told = {
            **{"f": round(exact_f, 4), "gauges": len(drawn)},
            "sd": round(float(drawn.std(ddof=1)), 5),
            **{"low": round(mean.low, 5), "high": round(mean.high, 5)},
            "reversed": int((drawn < 0).sum()),
            "effective_coordinates": round(effective(product), 2),
            "sd_foretold": round(foretold_spread(product, exact_f), 5),
            **(more or {}),
        }
        out.add(f"{name} {fraction}", name, "kept share", "", mean.mean, told)
    print(f"kept shares of {name}", flush=True)
