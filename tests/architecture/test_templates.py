"""Templates of names, and which names are of them."""

from __future__ import annotations

from bmatch.architecture.templates import Templates, numberless, placed


def test_numbers_of_blocks_are_counted_and_others_are_not():
    templates = Templates(
        [
            "model.layers.{layer}.mlp.experts.{}.w1.weight",
            "model.layers.{layer}.mlp.up.weight",
            "model.layers.{layer}.part.0.weight",
            "model.layers.{layer}.part.{}.weight",
            "other.layers.{layer}.weight",
            "model.norm.weight",
        ],
        {"model.layers": 2, "other.layers": 3},
    )
    assert templates.find("model.layers.1.mlp.up.weight") == "model.layers.{layer}.mlp.up.weight"
    assert templates.find("model.layers.2.mlp.up.weight") is None
    assert templates.find("other.layers.2.weight") == "other.layers.{layer}.weight"
    assert templates.find("other.layers.3.weight") is None
    experts = templates.find("model.layers.0.mlp.experts.77.w1.weight")
    assert experts == "model.layers.{layer}.mlp.experts.{}.w1.weight"
    assert templates.find("model.layers.0.part.0.weight").endswith("part.0.weight")
    assert templates.find("model.layers.0.part.5.weight").endswith("part.{}.weight")
    assert templates.find("model.norm.weight") == "model.norm.weight"
    assert templates.find("model.norm.bias") is None


def test_places_are_filled_from_names():
    name = "model.layers.7.mlp.experts.3.w1.weight"
    assert numberless(name) == "model.layers.{}.mlp.experts.{}.w1.weight"
    assert placed("model.layers.{layer}.mlp coordinates", name) == "model.layers.7.mlp coordinates"
    assert placed("model.layers.{layer}.mlp.experts.{} blocks of a slab {slab}", name) == (
        "model.layers.7.mlp.experts.3 blocks of a slab {slab}"
    )
    assert placed("residual", name) == "residual"
