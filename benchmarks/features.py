"""Features of two dictionaries, matched: planted ones, and two that SAELens trains on SmolLM2.

Partners are planted among strangers and among kin: in families of eight, directions lie as close to
each other as those of split features do. Beside ours, what people do by hand: pairs that are each
other's closest, and the best assignment of all by SciPy, both from a cosine of 0.7 on. Rows go to
results/features.csv, or below --out; memory is that of the whole process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

import bmatch
from benchmarks import relatives, report, results
from benchmarks.peers import OURS
from bmatch.features import ActivationSketch
from bmatch.jobs.phases import Phase, phase

THRESHOLD = 0.7
NEAREST = "each other's closest"
SCIPY = "scipy, all pairs"
FAMILY = 8
MOST_FOR_SCIPY = 5000  # rows, of which a dense matrix of float64 is made

Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


class Planted(NamedTuple):
    """Directions, and the source feature that each of the target's is, or -1."""

    target: torch.Tensor
    source: torch.Tensor
    truth: npt.NDArray[np.int64]


def planted(
    n: int, m: int, terms: int, shared: int, noise: float, kin: float, seed: int
) -> Planted:
    """`kin` is the cosine of two directions of a family."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    middles = normal(-(-(n + m) // FAMILY), terms)
    own = kin**0.5 * middles.repeat_interleave(FAMILY, 0)[: n + m]
    every = own + (1 - kin) ** 0.5 * normal(n + m, terms)
    target, source = every[:n].clone(), every[n:].clone()
    at = torch.randperm(n, generator=generator)[:shared]
    other = torch.randperm(m, generator=generator)[:shared]
    source[other] = target[at] + noise * normal(shared, terms)
    truth = np.full(n, -1)
    truth[at.numpy()] = other.numpy()
    return Planted(target, source, truth)


CASES = {
    "strangers, 2048 of 4096 x 4096": (4096, 4096, 256, 2048, 0.7, 0.0),
    "kin, 2048 of 4096 x 4096": (4096, 4096, 256, 2048, 0.7, 0.5),
    "strangers, noisier, 2048 of 4096 x 4096": (4096, 4096, 64, 2048, 1.2, 0.0),
    "close kin, 2048 of 4096 x 4096": (4096, 4096, 64, 2048, 0.7, 0.8),
    "strangers, none of 4096 x 4096": (4096, 4096, 256, 0, 0.7, 0.0),
    "strangers, 8192 of 16384 x 24576": (16384, 24576, 768, 8192, 0.7, 0.0),
    "strangers, 50000 of 100000 x 100000": (100_000, 100_000, 64, 50_000, 0.5, 0.0),
}
"""Features, terms, partners, noise, and the cosine inside of families."""


def ours(dictionaries: Planted) -> Pairs:
    """As it comes."""
    found = bmatch.match_features(dictionaries.target, dictionaries.source)
    return found.target_ind, found.source_ind


def each_others_closest(dictionaries: Planted) -> Pairs:
    """By blocks, as `ours` has them."""
    one, other = (torch.nn.functional.normalize(side, dim=1) for side in dictionaries[:2])
    best = torch.full((len(other),), -2.0)
    best_row = torch.zeros(len(other), dtype=torch.int64)
    closest, cosine = [], []
    for start in range(0, len(one), 1024):
        block = one[start : start + 1024] @ other.T
        row = block.max(1)
        closest.append(row.indices)
        cosine.append(row.values)
        col = block.max(0)
        better = col.values > best
        best_row = torch.where(better, col.indices + start, best_row)
        best = torch.maximum(best, col.values)
    partner, near = torch.cat(closest), torch.cat(cosine)
    kept = (best_row[partner] == torch.arange(len(one))) & (near > THRESHOLD)
    rows = torch.nonzero(kept).flatten()
    return rows.numpy(), partner[rows].numpy()


def by_scipy(dictionaries: Planted) -> Pairs:
    """The whole matrix of cosines."""
    from scipy.optimize import linear_sum_assignment

    one, other = (torch.nn.functional.normalize(side, dim=1) for side in dictionaries[:2])
    cosine = (one @ other.T).double().numpy()
    row, col = linear_sum_assignment(cosine, maximize=True)
    kept = cosine[row, col] > THRESHOLD
    return row[kept], col[kept]


PROVIDERS: dict[str, Callable[[Planted], Pairs]] = {
    OURS: ours,
    NEAREST: each_others_closest,
    SCIPY: by_scipy,
}


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown."""
    kept = results.newest(rows)
    told = [row for row in kept if row.metric == "found"]
    lines = [
        f"{kept[-1].origin} float32, one thread.",
        "",
        "| partners | by | found | wrong pairs | s | the process, MB |",
        "|---|---|---|---|---|---|",
    ]
    by_key = {(row.case, row.provider, row.metric): row.value for row in kept}
    for row in told:
        key = row.case, row.provider
        lines.append(
            f"| {row.case} | {row.provider} | {row.value:.2%} | {by_key[*key, 'wrong']:.0f} | "
            f"{by_key[*key, 'time']:.3g} | {by_key[*key, 'memory'] / 1e6:.0f} |"
        )
    real = [row for row in kept if row.metric == "pairs"]
    if real:
        lines += ["", "| two dictionaries on SmolLM2's stream | pairs | the same as by decoder |"]
        lines += ["|---|---|---|"]
        for row in real:
            same = row.extra.get("same")
            lines.append(f"| {row.case} | {row.value:.0f} | {'' if same is None else same} |")
    return lines


def main(arguments: list[str]) -> None:
    """Plants and matches; with --real, trains two dictionaries in some minutes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks features", description=__doc__)
    parser.add_argument("--case", action="append", choices=CASES, help="repeatable; default: all")
    parser.add_argument("--real", action="store_true", help="dictionaries of SAELens alone")
    parser.add_argument("--seed", type=int, default=1)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("features")
    with results.appending("features", options) as out:
        if options.real:
            for case, count, same in real(options.seed):
                extra = {} if same is None else {"same": same}
                out.add(case, OURS, "pairs", "", count, {**extra, "seed": options.seed})
                print(f"{case}: {count} pairs, {same} as by decoder")
        else:
            for case in options.case or CASES:
                measure(case, options.seed, out)
    if options.out is None:
        report.write("features")


def measure(case: str, seed: int, out: results.Writer) -> None:
    """One case by everybody who can."""
    dictionaries = planted(*CASES[case], seed)
    for provider, match in PROVIDERS.items():
        if provider == SCIPY and len(dictionaries.target) > MOST_FOR_SCIPY:
            continue
        phases: list[Phase] = []
        with phase("match", phases):
            row, col = match(dictionaries)
        right = int((dictionaries.truth[row] == col).sum())
        partners = int((dictionaries.truth >= 0).sum())
        wrong = len(row) - right
        extra = {"seed": seed}
        out.add(case, provider, "found", "", right / partners if partners else 1.0, extra)
        out.add(case, provider, "wrong", "", wrong, extra)
        out.add(case, provider, "time", "s", phases[0].seconds, extra)
        out.add(case, provider, "memory", "B", phases[0].peak_bytes, extra)
        print(f"{case}, {provider}: {right} right, {wrong} wrong, {phases[0].seconds:.3g} s")


def real(seed: int) -> Iterator[tuple[str, int, int | None]]:
    """Two TopK dictionaries of other seeds, one of them on a re-gauged copy."""
    import sae_lens

    from benchmarks.objects import ACTIVE, FEATURES, HELD_OUT, SEQUENCE, TOKENS, streams, train
    from bmatch.models.smollm2 import read_smollm2
    from bmatch.models.text import default_text, token_batches

    model, tokenizer = read_smollm2()
    gauge = bmatch.SignedPermutation.random(model.config.hidden_size, seed=seed)
    batches = list(token_batches(tokenizer, default_text(), TOKENS + HELD_OUT, SEQUENCE, 4))
    made: list[tuple[Any, torch.Tensor]] = []
    for number, on in enumerate((model, relatives.in_gauge(model, gauge))):
        stream = streams(on, batches).after
        torch.manual_seed(seed + number)
        config = sae_lens.TopKTrainingSAEConfig(
            d_in=model.config.hidden_size, d_sae=FEATURES, k=ACTIVE
        )
        dictionary = sae_lens.TopKTrainingSAE(config)
        train(dictionary, stream, stream)
        made.append((dictionary, stream))
    (source, here), (target, there) = made
    decoders = [dictionary.W_dec.detach() for dictionary in (target, source)]
    encoders = [dictionary.W_enc.detach().T for dictionary in (target, source)]
    sketches = []
    for dictionary, stream in ((target, there), (source, here)):
        sketch = ActivationSketch(FEATURES)
        with torch.no_grad():
            sketch.update(dictionary.encode(stream))
        sketches.append(sketch.directions())
    by_decoder = bmatch.match_features(decoders[0], gauge.apply(decoders[1], 1))
    partner = by_decoder.source_of_target
    yield "by decoder, carried by the gauge", len(by_decoder.target_ind), None
    for case, sides in {
        "by decoder, not carried": decoders,
        "by encoder, carried by the gauge": [encoders[0], gauge.apply(encoders[1], 1)],
        "by activations": sketches,
    }.items():
        found = bmatch.match_features(*sides)
        same = int((partner[found.target_ind] == found.source_ind).sum())
        yield case, len(found.target_ind), same
