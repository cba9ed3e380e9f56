"""Verdicts on matches whose truth is known: 200 pairs of kin in planted gauges, 100 of strangers.

Families of tiny models are trained anew (`relatives.py`), from seeds that the calibration has not
seen. Each pair is matched from 48 to 2,048 tokens, by activations alone, with the weights as a
witness, and by the weights alone. ``--smollm2`` adds SmolLM2-135M with noise on its weights, and
beside a model of its shape with weights at random. Rows go to results/verdict.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

import bmatch
from benchmarks import relatives, report, results
from bmatch.matching import GaugeMatch
from bmatch.models.weight_evidence import weights_if_comparable
from bmatch.report.drawing import DARK, PALE, bare, new_figure, write_png
from bmatch.streams import correlate_streams
from bmatch.verdict.evidence import Evidence, gather
from bmatch.verdict.verdict import judged

SEEDS = range(99, 111)
KIN, STRANGERS = 200, 100
HIGH = 0.9
BINS = 10
READ = ("activations", "activations, weights as a witness", "weights")


class Measured(NamedTuple):
    """A pair, matched: what was found, and what is true."""

    pair: str
    kin: bool
    tokens: int
    read: str  # one of `READ`
    match: GaugeMatch
    evidence: Evidence
    right: npt.NDArray[np.bool_]  # [D]

    @property
    def recovered(self) -> float:
        """The share of coordinates that are right."""
        return float(np.mean(self.right))


def measure(pair: relatives.Pair, batches: Sequence[torch.Tensor]) -> list[Measured]:
    """Match a pair by all that can be read of it."""
    streams = correlate_streams(pair.target, pair.source, batches)
    weights = weights_if_comparable(pair.target, pair.source)
    by_streams = bmatch.match(streams.correlation.numpy())
    found = {
        READ[0]: (by_streams, gather(by_streams, streams, None)),
        READ[1]: (by_streams, gather(by_streams, streams, weights, asked=True)),
    }
    if weights is not None:
        by_weights = bmatch.match(weights.correlation.numpy())
        found[READ[2]] = (by_weights, gather(by_weights, None, weights))
    return [
        Measured(
            *(pair.name, pair.truth is not None, streams.tokens, read, m, e), _right(m, pair.truth)
        )
        for read, (m, e) in found.items()
    ]


def _right(match: GaugeMatch, truth: bmatch.SignedPermutation | None) -> npt.NDArray[np.bool_]:
    gauge = match.gauge
    if truth is None:
        return np.zeros(gauge.dim, np.bool_)
    right: npt.NDArray[np.bool_] = (gauge.perm == truth.perm) & (gauge.sign == truth.sign)
    return right


def measured(
    families: list[relatives.Family],
    kin: int,
    strangers: int,
    seed: int,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Measured]:
    """So many pairs of kin and of strangers, each by all that can be read of it; `part` (k, n)
    takes every n-th from the k-th on.
    """
    _, _, held_out = relatives.texts()
    pairs = chain(
        relatives.kin(families, kin, seed), relatives.strangers(families, strangers, seed + 1)
    )
    for k, pair in islice(enumerate(pairs), part[0], None, part[1]):
        if k % 20 == 0:
            print(f"pair {k} of {kin + strangers}", flush=True)
        yield from measure(pair, relatives.batches(held_out, pair.tokens, seed + k))


def in_parts(
    families: list[relatives.Family], kin: int, strangers: int, seed: int, processes: int
) -> list[Measured]:
    """As `measured`, divided among processes."""
    if processes == 1:
        return list(measured(families, kin, strangers, seed))
    context = torch.multiprocessing.get_context("fork")
    with context.Pool(processes, torch.set_num_threads, (1,)) as pool:
        tasks = [(families, kin, strangers, seed, (k, processes)) for k in range(processes)]
        return list(chain.from_iterable(pool.starmap(_listed, tasks)))


def _listed(*arguments: Any) -> list[Measured]:
    return list(measured(*arguments))


class Tally(NamedTuple):
    """What verdicts come to, over the pairs of one kind of evidence."""

    kin: int
    strangers: int
    claimed: int  # strangers that were called related
    high: int  # kin of which at least `HIGH` were recovered
    missed: int  # of these, those called not related
    held: int  # of these, those called too few tokens
    off: float  # mean of |expected - recovered| over all pairs
    off_kin: float
    bias: float  # mean of expected - recovered over all pairs
    sure: float  # share of right coordinates among those of probability 0.9 and more
    sure_of_strangers: int  # coordinates of strangers with probability 0.9 and more
    bins: Sequence[Sequence[float]] = ()  # by probability: coordinates, mean probability, right


def tally(rows: Iterable[Measured]) -> Tally:
    """Count verdicts against the truth."""
    judgements = [(row, judged(row.match, row.evidence)) for row in rows]
    kin = [(row, m) for row, m in judgements if row.kin]
    strangers = [m for row, m in judgements if not row.kin]
    high = [m for row, m in kin if row.recovered >= HIGH]
    off = [(_expected(m) - row.recovered) for row, m in judgements]
    off_kin = [abs(_expected(m) - row.recovered) for row, m in kin]
    sure = np.concatenate([row.right[_chances(m) >= HIGH] for row, m in judgements])
    return Tally(
        len(kin),
        len(strangers),
        sum(m.verdict == "related" for m in strangers),
        len(high),
        sum(m.verdict == "not related" for m in high),
        sum(m.verdict == "too few tokens" for m in high),
        float(np.mean(np.abs(off))),
        float(np.mean(off_kin)),
        float(np.mean(off)),
        float(np.mean(sure)) if len(sure) else 1.0,
        sum(int(np.sum(_chances(m) >= HIGH)) for m in strangers),
        _bins(judgements),
    )


def _bins(judgements: Sequence[tuple[Measured, GaugeMatch]]) -> list[list[float]]:
    """Coordinates of all pairs by their probability: how many, its mean, and how many are right."""
    told = np.concatenate([_chances(m) for _, m in judgements])
    right = np.concatenate([row.right for row, _ in judgements])
    place = np.minimum((told * BINS).astype(int), BINS - 1)
    return [
        [int(own.sum()), round(float(told[own].mean()), 4), round(float(right[own].mean()), 4)]
        for own in (place == k for k in range(BINS))
        if own.any()
    ]


def _expected(match: GaugeMatch) -> float:
    assert match.expected_recovered is not None
    return match.expected_recovered


def _chances(match: GaugeMatch) -> npt.NDArray[np.float64]:
    assert match.probability is not None
    return match.probability


def by_what_was_read(rows: Iterable[Measured]) -> dict[str, list[Measured]]:
    """Rows apart."""
    apart: dict[str, list[Measured]] = {}
    for row in rows:
        apart.setdefault(row.read, []).append(row)
    return apart


def smollm2_pairs(noises: Sequence[float]) -> Iterator[tuple[relatives.Pair, list[torch.Tensor]]]:
    """SmolLM2 with noise in planted gauges, and beside weights at random; 128 and 1,024 tokens."""
    from bmatch.models.smollm2 import read_smollm2
    from bmatch.models.text import default_text, token_batches

    model, tokenizer = read_smollm2()
    model.eval()
    for k, noise in enumerate((*noises, None)):
        truth = bmatch.SignedPermutation.random(model.config.hidden_size, seed=k)
        torch.manual_seed(k)
        other = relatives.fresh(model) if noise is None else relatives.noisy(model, noise, k)
        target = relatives.in_gauge(other, truth)
        for tokens in (128, 1024):
            told = "SmolLM2, " + ("weights at random" if noise is None else f"noise {noise}")
            known = None if noise is None else truth
            batches = token_batches(tokenizer, default_text(), tokens)
            yield relatives.Pair(told, model, target, known, tokens), list(batches)


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown: verdicts on tiny models by what was read, and on SmolLM2 one by one."""
    latest = results.newest(rows)
    lines = []
    for own in results.by_machine(latest).values():
        lines += [own[-1].origin, ""]
    lines += [
        "| read | kin | strangers | strangers called related | kin with 90% recovered | of these "
        '"not related" | "too few tokens" | mean of abs(expected - recovered) | of kin | bias | '
        "right where p >= .9 | coordinates of strangers with p >= .9 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in latest:
        if row.metric == "off":
            t = Tally(**row.extra)
            lines.append(
                f"| {row.case} | {t.kin} | {t.strangers} | {t.claimed} | {t.high} | {t.missed} | "
                f"{t.held} | {t.off:.3f} | {t.off_kin:.3f} | {t.bias:+.3f} | {t.sure:.4f} | "
                f"{t.sure_of_strangers} |"
            )
    single = [row for row in latest if row.metric == "expected"]
    if single:
        lines += [
            "",
            "| pair, tokens | read | recovered | expected | verdict |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {row.case} | {row.provider} | {row.extra['recovered']:.3f} | {row.value:.3f} | "
            f"{row.extra['verdict']} |"
            for row in single
        ]
    if any(row.extra.get("bins") for row in latest):
        lines += ["", "![confidence against truth](verdict.png)"]
    return lines


def plot(rows: Sequence[results.Row], path: Path) -> None:
    """Confidence against truth: a point for every tenth of probability, larger for more of them."""
    told = {row.case: row.extra for row in results.newest(rows) if row.extra.get("bins")}
    if not told:
        return print("rows that were measured before probabilities were kept have no picture")
    one = next(iter(told.values()))
    figure = new_figure(
        3.6 * len(told), 3.9, f"{one['kin']} pairs of kin and {one['strangers']} of strangers"
    )
    panels = figure.subplots(1, len(told), sharey=True, squeeze=False)[0]
    for axes, (read, extra) in zip(panels, told.items(), strict=True):
        count, mean, right = np.array(extra["bins"]).T
        axes.plot([0, 1], [0, 1], color=PALE, linewidth=4, zorder=0, label="as sure as right")
        axes.plot(mean, right, color="black", linewidth=0.8)
        axes.scatter(mean, right, 6 + 150 * np.sqrt(count / count.max()), color=DARK, zorder=2)
        axes.set_title(f"{read}\n{int(count.sum()):,} coordinates", fontsize=9)
        axes.set_xlabel("probability told", fontsize=9)
        axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal")
        bare(axes)
    panels[0].set_ylabel("share that is right", fontsize=9)
    panels[0].legend(fontsize=8, loc="upper left", frameon=False)
    write_png(figure, path)


def load_families(path: Path | None, seeds: range) -> list[relatives.Family]:
    """Families that were kept in a file, or trained and, if a file is named, kept there."""
    if path is not None and path.exists():
        kept: list[relatives.Family] = torch.load(path, weights_only=False)
        return kept
    made = relatives.families(seeds)
    if path is not None:
        torch.save(made, path)
    return made


def main(arguments: list[str]) -> None:
    """Measures all pairs and prints what verdicts come to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks verdict", description=__doc__)
    parser.add_argument("--smollm2", type=float, nargs="*", metavar="NOISE")
    parser.add_argument("--families", type=Path, help="file to keep trained models in")
    parser.add_argument("--kin", type=int, default=KIN)
    parser.add_argument("--strangers", type=int, default=STRANGERS)
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("--processes", type=int, default=1)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("verdict")
    torch.set_num_threads(1)
    with results.appending("verdict", options) as out:
        if options.kin + options.strangers:
            families = load_families(options.families, SEEDS)
            rows = in_parts(
                families, options.kin, options.strangers, options.seed, options.processes
            )
            for kind, own in by_what_was_read(rows).items():
                found = tally(own)
                out.add(kind, "verdict", "off", "share", found.off, found._asdict())
                print(kind, found, flush=True)
        for pair, batches in smollm2_pairs(options.smollm2) if options.smollm2 else ():
            for row in measure(pair, batches):
                m = judged(row.match, row.evidence)
                extra: dict[str, Any] = {"recovered": row.recovered, "verdict": m.verdict}
                case = f"{pair.name}, {pair.tokens}"
                out.add(case, row.read, "expected", "share", _expected(m), extra)
                print(case, row.read, _expected(m), extra, flush=True)
    if options.out is None:
        report.write("verdict")
