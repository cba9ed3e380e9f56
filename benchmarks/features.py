"""Features of two dictionaries, matched: planted ones, and two that SAELens trains on SmolLM2.

Partners are planted among strangers and among kin: in families, directions lie as close to each
other as those of split features do. Features without a partner have relatives in the other
dictionary where those have a partner, and in `mixed` families also where they have none. Of the
trained ones, two of other seeds are matched, and one with itself under two gauges, as it is carried
to two copies of the model: there all of it ought to be found. Beside ours, what people do by hand:
pairs that are each other's closest, and the best assignment of all by SciPy, both from a cosine of
0.7 on. Rows go to results/features.csv, or below --out. Each figure of planted ones is of a process
of its own, or memory that one way leaves behind would count for the next; its memory is the most
while it matched, dictionaries and libraries included.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

import bmatch
from benchmarks import harness, objects, relatives, report, results
from benchmarks.harness import clock, seconds
from benchmarks.peers import OURS
from bmatch.features import ActivationSketch
from bmatch.jobs.phases import Phase, phase
from bmatch.models.smollm2 import read_smollm2
from bmatch.models.text import default_text, token_batches

CPU = torch.device("cpu")
THRESHOLD = 0.7
NEAREST = "each other's closest"
SCIPY = "scipy, all pairs"
MOST_FOR_SCIPY = 5000  # rows, of which a dense matrix of float64 is made

Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


class Planted(NamedTuple):
    """Directions, and the source feature that each of the target's is, or -1."""

    target: torch.Tensor
    source: torch.Tensor
    truth: npt.NDArray[np.int64]


class Case(NamedTuple):
    """What is planted.

    Attributes
    ----------
    n, m, terms, shared : int
        Features of both, terms of a direction, partners.
    noise : float
        On the source's, beside 1.
    kin : float
        The cosine of two directions of a family.
    family : int
        Its size.
    mixed : bool
        Whether features of either dictionary that have no partner are of the same families.
    """

    n: int
    m: int
    terms: int
    shared: int
    noise: float
    kin: float = 0.0
    family: int = 8
    mixed: bool = False


def planted(case: Case, seed: int) -> Planted:
    """Families in a row, of which the target has the first, and the source partners and the rest;
    or both of them what falls to them by lot.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    def shuffled(size: int) -> torch.Tensor:
        return torch.randperm(size, generator=generator)

    n, m, shared = case.n, case.m, case.shared
    count = n + m - shared
    middles = normal(-(-count // case.family), case.terms)
    every = case.kin**0.5 * middles.repeat_interleave(case.family, 0)[:count]
    every += (1 - case.kin) ** 0.5 * normal(count, case.terms)
    order = shuffled(count) if case.mixed else torch.cat([shuffled(n), torch.arange(n, count)])
    target = every[order[:n]]
    source = every[torch.cat([order[:shared], order[n:]])]
    source = source + case.noise * normal(m, case.terms)
    row, col = shuffled(n), shuffled(m)  # where the k-th stands
    truth = np.full(n, -1)
    truth[row[:shared].numpy()] = col[:shared].numpy()
    return Planted(target[row.argsort()], source[col.argsort()], truth)


WARM_UP = Case(64, 64, 16, 32, 0.5)
SIZES = (4096, 4096)
CASES = {
    "strangers, 2048 of 4096 x 4096": Case(*SIZES, 256, 2048, 0.7),
    "kin, 2048 of 4096 x 4096": Case(*SIZES, 256, 2048, 0.7, 0.5),
    "strangers, noisier, 2048 of 4096 x 4096": Case(*SIZES, 64, 2048, 1.2),
    "close kin, 2048 of 4096 x 4096": Case(*SIZES, 64, 2048, 0.7, 0.8),
    "close kin, families of 2": Case(*SIZES, 64, 2048, 0.7, 0.8, 2),
    "close kin, families of 16": Case(*SIZES, 64, 2048, 0.7, 0.8, 16),
    "closer kin of cosine 0.9": Case(*SIZES, 64, 2048, 0.7, 0.9),
    "closer kin of cosine 0.9, 256 terms": Case(*SIZES, 256, 2048, 0.7, 0.9),
    "mixed families of 2": Case(*SIZES, 64, 2048, 0.7, 0.8, 2, mixed=True),
    "mixed families of 8": Case(*SIZES, 64, 2048, 0.7, 0.8, 8, mixed=True),
    "mixed families of 8, 256 terms": Case(*SIZES, 256, 2048, 0.7, 0.8, 8, mixed=True),
    "mixed families of 8, no partner": Case(*SIZES, 64, 0, 0.7, 0.8, 8, mixed=True),
    "strangers, none of 4096 x 4096": Case(*SIZES, 256, 0, 0.7),
    "strangers, 8192 of 16384 x 24576": Case(16384, 24576, 768, 8192, 0.7),
    "strangers, 50000 of 100000 x 100000": Case(100_000, 100_000, 64, 50_000, 0.5),
}


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
        lines += [
            "",
            "Two dictionaries on SmolLM2's stream. Activations correlate over tokens that neither "
            "was trained on; the last column counts pairs that are each other's most correlated. "
            "Of one dictionary under two gauges, the same are those that are right.",
            "",
            "| compared | by | pairs | the same as ours by decoder | correlation in the median | "
            "each other's most correlated |",
            "|---|---|---|---|---|---|",
        ]
        for row in real:
            extra = row.extra
            lines.append(
                f"| {row.case} | {row.provider} | {row.value:.0f} | {extra['same']} | "
                f"{extra['correlation']:.3f} | {extra['confirmed']} |"
            )
    return lines


def main(arguments: list[str]) -> None:
    """Plants and matches; with --real, trains two dictionaries in some minutes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks features", description=__doc__)
    parser.add_argument("--case", action="append", choices=CASES, help="repeatable; default: all")
    parser.add_argument("--real", action="store_true", help="dictionaries of SAELens alone")
    parser.add_argument(
        "--quick", action="store_true", help="with --real and --out: small ones, in a minute or two"
    )
    parser.add_argument("--seed", type=int, default=1)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("features")
    if options.quick and (not options.real or options.out is None):
        parser.error("--quick makes small dictionaries for trying: it needs --real and --out DIR")
    size = QUICK if options.quick else WHOLE
    with results.appending("features", options) as out:
        if options.real:
            for case, provider, pairs, told in real(trained(options.seed, size), size):
                out.add(case, provider, "pairs", "", pairs, {**told, "seed": options.seed})
                print(f"{case}, {provider}: {pairs} pairs, {told}", flush=True)
        else:
            for case in options.case or CASES:
                measure(case, options.seed, out)
    if options.out is None:
        report.write("features")


class Measured(NamedTuple):
    """What somebody came to."""

    right: int
    pairs: int
    partners: int
    seconds: float  # of the processor
    peak_bytes: int


def measure(case: str, seed: int, out: results.Writer) -> None:
    """One case by everybody who can."""
    for provider in PROVIDERS:
        if provider == SCIPY and CASES[case].n > MOST_FOR_SCIPY:
            continue
        found = in_a_process(case, provider, seed)
        wrong = found.pairs - found.right
        share = found.right / found.partners if found.partners else 1.0
        extra = {"seed": seed}
        out.add(case, provider, "found", "", share, extra)
        out.add(case, provider, "wrong", "", wrong, extra)
        out.add(case, provider, "time", "s", found.seconds, {**extra, "clock": clock(CPU)})
        out.add(case, provider, "memory", "B", found.peak_bytes, extra)
        print(
            f"{case}, {provider}: {found.right} right, {wrong} wrong, {found.seconds:.3g} s, "
            f"{found.peak_bytes / 1e6:.0f} MB"
        )


def in_a_process(case: str, provider: str, seed: int) -> Measured:
    """One case by one, in a process that has done nothing before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        return alone.submit(matched, case, provider, seed).result()


def matched(case: str, provider: str, seed: int) -> Measured:
    """The same in this process."""
    dictionaries = planted(CASES[case], seed)
    PROVIDERS[provider](planted(WARM_UP, seed))  # what is loaded on first use
    phases: list[Phase] = []
    pairs: list[Pairs] = []
    with phase("match", phases):
        taken = seconds(lambda: pairs.append(PROVIDERS[provider](dictionaries)), CPU)
    ((row, col),) = pairs
    truth = dictionaries.truth
    return Measured(
        int((truth[row] == col).sum()),
        len(row),
        int((truth >= 0).sum()),
        taken,
        phases[0].peak_bytes,
    )


class Size(NamedTuple):
    """Of a dictionary, of what it is trained on, and of its training."""

    features: int
    active: int
    tokens: int
    held_out: int
    steps: int
    batch: int


WHOLE = Size(
    objects.FEATURES,
    objects.ACTIVE,
    objects.TOKENS,
    objects.HELD_OUT,
    objects.STEPS,
    objects.BATCH,
)
QUICK = Size(256, 16, 1536, 512, 60, 256)


class Trained(NamedTuple):
    """A dictionary: a row a feature, and what the features did, [tokens, features].

    The last tokens were not trained on.
    """

    decoder: torch.Tensor
    encoder: torch.Tensor
    activations: torch.Tensor


def trained(seed: int, size: Size) -> tuple[Trained, Trained, bmatch.SignedPermutation]:
    """Target and source, TopK dictionaries of other seeds, and the gauge from the model of the
    source to the re-gauged copy that the target is of.
    """
    import sae_lens

    print("loading SmolLM2", flush=True)
    model, tokenizer = read_smollm2()
    gauge = bmatch.SignedPermutation.random(model.config.hidden_size, seed=seed)
    tokens = size.tokens + size.held_out
    batches = list(token_batches(tokenizer, default_text(), tokens, objects.SEQUENCE, 4))
    made = []
    for number, on in enumerate((model, relatives.in_gauge(model, gauge))):
        which = f"dictionary {number + 1} of 2"
        stream = objects.streams(on, batches, harness.telling, f"{which}, batches read").after
        torch.manual_seed(seed + number)
        config = sae_lens.TopKTrainingSAEConfig(
            d_in=model.config.hidden_size, d_sae=size.features, k=size.active
        )
        dictionary = sae_lens.TopKTrainingSAE(config)
        how = size.steps, size.batch, size.held_out
        said = f"{which}, steps of training"
        objects.train(dictionary, stream, stream, *how, harness.telling, said)
        with torch.no_grad():
            activations = dictionary.encode(stream).clone()
        made.append(Trained(dictionary.W_dec.detach(), dictionary.W_enc.detach().T, activations))
    return made[1], made[0], gauge


Compared = Iterator[tuple[str, str, int, dict[str, Any]]]


def real(made: tuple[Trained, Trained, bmatch.SignedPermutation], size: Size) -> Compared:
    """Pairs by each way to compare, and how far they do the same on tokens held out."""
    target, source, gauge = made
    sketches = []
    for side in (target, source):
        sketch = ActivationSketch(side.activations.shape[1])
        sketch.update(side.activations[: -size.held_out])
        sketches.append(sketch.directions())
    theirs, ours = (side.activations[-size.held_out :] for side in (target, source))
    cases = {
        "by decoder, carried by the gauge": (target.decoder, gauge.apply(source.decoder, 1)),
        "by decoder, not carried": (target.decoder, source.decoder),
        "by encoder, carried by the gauge": (target.encoder, gauge.apply(source.encoder, 1)),
        "by activations": (sketches[0], sketches[1]),
    }
    yield from compared(cases, correlations(theirs, ours))
    yield from compared(two_gauges(source, gauge), correlations(ours, ours), np.arange(len(ours.T)))


def two_gauges(
    dictionary: Trained, one: bmatch.SignedPermutation
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A dictionary as two copies of its model have it: one in a gauge, the other in another."""
    other = bmatch.SignedPermutation.random(one.dim, seed=one.dim)
    between = one @ other.inverse()
    there = {
        name: (one.apply(rows, 1), other.apply(rows, 1))
        for name, rows in (("decoder", dictionary.decoder), ("encoder", dictionary.encoder))
    }
    name = "one dictionary under two gauges"
    return {
        f"{name}, by decoder, carried": (
            there["decoder"][0],
            between.apply(there["decoder"][1], 1),
        ),
        f"{name}, by decoder, not carried": there["decoder"],
        f"{name}, by encoder, carried": (
            there["encoder"][0],
            between.apply(there["encoder"][1], 1),
        ),
    }


def compared(
    cases: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    correlation: npt.NDArray[np.float64],
    known: npt.NDArray[np.int64] | None = None,
) -> Compared:
    """Pairs of each case, held against the correlation of features and against known partners,
    which are otherwise those of the first case by ours.
    """
    best = correlation.argmax(1)  # of each target feature
    mutual = correlation.argmax(0)[best] == np.arange(len(best))
    none = np.full(len(best), -1)
    for case, sides in cases.items():
        for provider in (OURS, NEAREST):
            row, col = PROVIDERS[provider](Planted(*sides, none))
            if known is None:
                known = none.copy()
                known[row] = col
            found = correlation[row, col]
            told = {
                "same": int((known[row] == col).sum()),
                "correlation": float(np.median(found)) if len(found) else 0.0,
                "confirmed": int((mutual[row] & (best[row] == col)).sum()),
            }
            yield case, provider, len(row), told


def correlations(one: torch.Tensor, other: torch.Tensor) -> npt.NDArray[np.float64]:
    """Of all features [n, m] over tokens; 0 for one that never acts."""

    def standard(side: torch.Tensor) -> torch.Tensor:
        centred = side.double() - side.double().mean(0)
        return torch.nn.functional.normalize(centred, dim=0)

    found: npt.NDArray[np.float64] = (standard(one).T @ standard(other)).numpy()
    return found
