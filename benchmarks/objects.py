"""Objects made on SmolLM2's stream, carried to a re-gauged copy: what is left of what they do.

A sparse autoencoder and a transcoder that SAELens trains here, in some minutes, with SAELens' own
files and loader; a steering vector, in the logits; LoRA and DoRA adapters, by PEFT. Each is carried
by the signed gauge, and by its permutation alone. Rows go to results/objects.csv, or below --out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import relatives, report, results
from benchmarks.peers import OURS
from bmatch import SignedPermutation
from bmatch.jobs.progress import Progress, silent
from bmatch.models.activations import Reader, replaced_stream
from bmatch.models.smollm2 import read_smollm2
from bmatch.models.text import default_text, token_batches
from bmatch.transport import carry, find_object, vector

LAYER = 12
FEATURES, ACTIVE = 2048, 32
TOKENS, HELD_OUT, SEQUENCE = 12_288, 2048, 256
STEPS, BATCH, RATE = 400, 1024, 1e-3
RANK = 8
RAW = "permutation alone"


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown."""
    kept = results.newest(rows)
    lines = [
        f"{kept[-1].origin} SmolLM2-135M, block {LAYER}; a gauge at random.",
        "",
        "| object | measured by | at home | carried | by the permutation alone |",
        "|---|---|---|---|---|",
    ]
    by_case: dict[str, dict[str, results.Row]] = {}
    for row in kept:
        by_case.setdefault(row.case, {})[row.provider] = row
    for case, found in by_case.items():
        home = f"{found['home'].value:.4g}" if "home" in found else ""
        lines.append(
            f"| {case} | {found[OURS].metric} | {home} | {found[OURS].value:.4g} | "
            f"{found[RAW].value:.4g} |"
        )
    return lines


class Streams(NamedTuple):
    """What enters and leaves a block's MLP, and the stream after the block, [tokens, D]."""

    after: torch.Tensor
    mlp_in: torch.Tensor
    mlp_out: torch.Tensor


def main(arguments: list[str]) -> None:
    """Trains, carries and measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks objects", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("objects")
    torch.manual_seed(options.seed)
    model, tokenizer = read_smollm2()
    gauge = SignedPermutation.random(model.config.hidden_size, seed=options.seed)
    moved = relatives.in_gauge(model, gauge)
    tokens = TOKENS + HELD_OUT
    batches = list(token_batches(tokenizer, default_text(), tokens, SEQUENCE, 4))
    gauges = {OURS: gauge, RAW: SignedPermutation(gauge.perm)}
    with tempfile.TemporaryDirectory() as root, results.appending("objects", options) as out:
        for measure in (dictionaries, steering, adapters):
            for case, provider, metric, value in measure(model, moved, batches, gauges, Path(root)):
                out.add(case, provider, metric, "", value, {"seed": options.seed})
                print(f"{case}, {provider}: {metric} {value:.4g}")
    if options.out is None:
        report.write("objects")


Measured = Iterator[tuple[str, str, str, float]]


def dictionaries(
    model: Any,
    moved: Any,
    batches: list[torch.Tensor],
    gauges: dict[str, SignedPermutation],
    root: Path,
) -> Measured:
    """Variance that a reconstruction leaves, as a share of all, on tokens not trained on."""
    import sae_lens

    here, there = streams(model, batches), streams(moved, batches)
    made = {
        "sparse autoencoder of SAELens": (
            sae_lens.TopKTrainingSAE(
                sae_lens.TopKTrainingSAEConfig(
                    d_in=model.config.hidden_size, d_sae=FEATURES, k=ACTIVE
                )
            ),
            (here.after, here.after),
            (there.after, there.after),
            f"blocks.{LAYER}.hook_resid_post",
        ),
        "transcoder of SAELens": (
            sae_lens.Transcoder(
                sae_lens.TranscoderConfig(
                    d_in=model.config.hidden_size,
                    d_out=model.config.hidden_size,
                    d_sae=FEATURES,
                    apply_b_dec_to_input=False,
                )
            ),
            (here.mlp_in, here.mlp_out),
            (there.mlp_in, there.mlp_out),
            f"blocks.{LAYER}.mlp.hook_in",
        ),
    }
    for k, (case, (dictionary, ours, theirs, hook)) in enumerate(made.items()):
        train(dictionary, *ours)
        dictionary.cfg.metadata.hook_name = hook
        path = root / f"dictionary{k}"
        write = getattr(dictionary, "save_inference_model", dictionary.save_model)
        write(path)
        yield case, "home", "NMSE", left_over(sae_lens.SAE.load_from_disk(path), *ours)
        for name, gauge in gauges.items():
            carry(find_object(path), gauge, root / f"{k} {name}")
            carried = sae_lens.SAE.load_from_disk(root / f"{k} {name}")
            yield case, name, "NMSE", left_over(carried, *theirs)


def streams(
    model: Any,
    batches: list[torch.Tensor],
    progress: Progress = silent,
    description: str = "reading",
) -> Streams:
    """At one block, in the unit in which coordinates have variance 1 on average."""
    found: dict[str, list[torch.Tensor]] = {"after": [], "mlp_in": [], "mlp_out": []}
    block = model.model.layers[LAYER]

    def keep(name: str) -> Callable[..., None]:
        def hook(_: Any, given: Any, result: Any) -> None:
            tensor = given[0] if name == "mlp_in" else result
            tensor = tensor[0] if isinstance(tensor, tuple) else tensor
            found[name].append(tensor[:, 1:].flatten(0, 1))

        return hook

    handles = [
        block.register_forward_hook(keep("after")),
        block.mlp.register_forward_hook(keep("mlp_out")),
        # What enters the MLP: the normed stream, whose gains are permuted with it.
        block.post_attention_layernorm.register_forward_hook(keep("mlp_in")),
    ]
    with torch.no_grad():
        for batch in progress(batches, description):
            model(batch)
    for handle in handles:
        handle.remove()
    joined = {name: torch.cat(parts) for name, parts in found.items()}
    return Streams(**{name: x / x.pow(2).mean().sqrt() for name, x in joined.items()})


def train(
    dictionary: Any,
    x: torch.Tensor,
    y: torch.Tensor,
    steps: int = STEPS,
    batch: int = BATCH,
    held_out: int = HELD_OUT,
    progress: Progress = silent,
    description: str = "training",
) -> None:
    """Least squares on all but the last tokens."""
    x, y = x[:-held_out], y[:-held_out]
    optimizer = torch.optim.Adam(dictionary.parameters(), RATE)
    with torch.no_grad():
        dictionary.b_dec.copy_(y.mean(0))
    for _ in progress(range(steps), description):
        rows = torch.randint(len(x), (batch,))
        loss = (dictionary(x[rows]) - y[rows]).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def left_over(dictionary: Any, x: torch.Tensor, y: torch.Tensor) -> float:
    """Of the variance of the last tokens, the share that is not reconstructed."""
    x, y = x[-HELD_OUT:], y[-HELD_OUT:]
    with torch.no_grad():
        error = (dictionary(x) - y).pow(2).sum()
    return float(error / (y - y.mean(0)).pow(2).sum())


def steering(
    model: Any,
    moved: Any,
    batches: list[torch.Tensor],
    gauges: dict[str, SignedPermutation],
    root: Path,
) -> Measured:
    """How far changes of the logits agree with those at home: 1 where they are the same."""
    x = streams(model, batches[:1]).after
    direction = (x[: len(x) // 2].mean(0) - x[len(x) // 2 :].mean(0)) * 20
    tokens = batches[0][:2]
    plain, effect = logits_of(model, tokens), steered(model, tokens, direction)
    for name, gauge in gauges.items():
        there = steered(moved, tokens, vector(direction, gauge))
        change, wanted = there - plain, effect - plain
        kept = float((change * wanted).sum() / wanted.pow(2).sum())
        yield "steering vector", name, "effect kept", kept


def steered(model: Any, tokens: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """The logits with a direction added after the block."""
    with replaced_stream(Reader.of(model), LAYER + 1, lambda stream: stream + direction):
        return logits_of(model, tokens)


def adapters(
    model: Any,
    moved: Any,
    batches: list[torch.Tensor],
    gauges: dict[str, SignedPermutation],
    root: Path,
) -> Measured:
    """Greatest difference of logits from those at home, as a share of the greatest logit."""
    import peft

    tokens = batches[0][:2]
    for dora in (False, True):
        case = "DoRA adapter" if dora else "LoRA adapter"
        config = peft.LoraConfig(
            r=RANK,
            use_dora=dora,
            init_lora_weights=False,
            target_modules=["q_proj", "o_proj", "up_proj", "down_proj"],
        )
        adapted = peft.get_peft_model(relatives.copied(model), config).eval()
        adapted.save_pretrained(str(root / case))
        home = logits_of(adapted, tokens)
        for name, gauge in gauges.items():
            out = root / f"{case} {name}"
            carry(find_object(root / case, model=model.config.to_dict()), gauge, out)
            there = peft.PeftModel.from_pretrained(relatives.copied(moved), out).eval()
            difference = (logits_of(there, tokens) - home).abs().max() / home.abs().max()
            yield case, name, "difference of logits", float(difference)


def logits_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Without a gradient."""
    with torch.no_grad():
        found: torch.Tensor = model(tokens).logits
    return found
