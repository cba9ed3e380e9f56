"""``bmatch align --spaces``: every gauge space of two networks, from their weights."""

from __future__ import annotations

from pathlib import Path

from bmatch.cli import console
from bmatch.files.atomic import new_files


def align_spaces(source: Path, target: Path, out: Path, spaces: str, as_json: bool) -> None:
    """Estimate the gauge of all spaces, or of the kinds named, and write it to a file."""
    with console.working("loading torch and transformers"):
        console.quiet_transformers()
        from bmatch.network import align_networks
        from bmatch.report.networks import network_figures, network_table
    found = align_networks(
        source,
        target,
        spaces=[kind.strip() for kind in spaces.split(",")],
        progress=console.track,
        tell=None if as_json else console.say,
    )
    with new_files() as place:
        found.gauge.save(place(out))
    if as_json:
        console.print_json({"out": str(out), **network_figures(found)})
        return
    console.show(network_table(found, f"{source} -> {target}"))
    passes = f"{found.passes} pass" + ("es" if found.passes > 1 else "")
    console.say(f"objective {found.objective[-1]:.4f} after {passes}")
    console.say(f"gauge of {len(found.gauge)} spaces written to {out}")
    if not found.settled:
        console.note("spaces still moved when the search was ended: the gauge is no fixed point")
