"""Tables derived for a type, as the command stores them, and sizes as it measures them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers
from torch import nn

from bmatch.architecture import tables
from bmatch.architecture.measuring import Measured
from bmatch.architecture.stored import FOLDER, from_text, stored


def test_a_table_is_derived_as_it_is_stored(tmp_path, capsys):
    tables.main(["bloom", "xglm", "perceiver", "--out", str(tmp_path)])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("bloom: permutation_global_sign, ")
    assert told[1].startswith("xglm: no table: no gauge of xglm's residual stream was found")
    assert "could not be made small" in told[2]
    assert [path.name for path in tmp_path.iterdir()] == ["bloom.json"]
    derived, ours = (from_text((f / "bloom.json").read_text()) for f in (tmp_path, FOLDER))
    assert derived.family == ours.family
    assert (derived.structure, derived.left_out) == (ours.structure, ours.left_out)


def test_tables_that_are_there_are_held_against_fresh_ones(tmp_path, capsys):
    text = (FOLDER / "bloom.json").read_text()
    (tmp_path / "bloom.json").write_text(text)
    tables.main(["bloom", "--out", str(tmp_path), "--check"])
    assert capsys.readouterr().out == "bloom: as it is stored\n"
    damaged = text.replace('"norm": "LayerNorm"', '"norm": "RMSNorm"')
    (tmp_path / "bloom.json").write_text(damaged)
    with pytest.raises(SystemExit):
        tables.main(["bloom", "xglm", "--out", str(tmp_path), "--check"])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "bloom: norm is LayerNorm and not RMSNorm"
    assert told[1].startswith("xglm: no table: ")
    assert (tmp_path / "bloom.json").read_text() == damaged


def test_what_differs_between_tables_is_told():
    """But for the largest changes in proofs, which are of the machine."""
    one = '{"proved": 1, "spaces": {"D": 1, "mlp": 2}, "optional": {"a": "D"}, "blocks": "h"}'
    other = '{"proved": 2, "spaces": {"mlp": 2, "D": 1}, "optional": {"b": "D"}, "blocks": "x"}'
    assert tables.differences(one, one.replace(": 1,", ": 3,", 1)) == []
    assert tables.differences(one, other) == [
        "spaces come in another order",
        "optional a is None and not D",
        "optional b is D and not None",
        "blocks is x and not h",
    ]


class Sizes(transformers.PreTrainedConfig):
    """A config with sizes that tensors have in many ways."""

    model_type = "sizes"

    def __init__(self, width=4, heads=2, keys=2, head=3, inner=None, num_layers=2, **others):
        self.width, self.heads, self.keys, self.head = width, heads, keys, head
        self.inner, self.num_layers = inner, num_layers
        super().__init__(**others)

    @property
    def computed(self):
        return 3 * self.num_layers

    @property
    def constant(self):
        return 4

    def to_dict(self):
        names = ("width", "heads", "keys", "head", "inner", "num_layers")
        return {name: getattr(self, name) for name in names}


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Module() for _ in range(config.num_layers))
        for block in self.blocks:
            rows = (config.heads + 2 * config.keys) * config.head
            block.qkv = nn.Parameter(torch.empty(rows, config.width))
            block.up = nn.Parameter(torch.empty(config.inner or 4 * config.width, config.width))
            shared = config.width + 2 * (config.width // config.heads)
            block.shared = nn.Parameter(torch.empty(shared, config.width))
            block.odd = nn.Parameter(torch.empty(config.width**2 + 1))


def test_lengths_are_expressions_of_fields():
    measured = Measured(Sizes(width=16, inner=7), Model)
    assert measured.lists == {"blocks": "num_layers"}
    lengths = [measured.length("blocks.{layer}.qkv", axis) for axis in (0, 1)]
    assert lengths == ["heads*head+2*keys*head", "width"]
    assert measured.length("blocks.{layer}.up", 0) == "inner"
    assert measured.length("blocks.{layer}.shared", 0) == "width+2*width//heads"
    assert measured.length("blocks.{layer}.odd", 0) is None
    assert measured.null("inner") == measured.left_out("inner") == "4*width"
    assert measured.left_out("width") == "4"
    assert measured.null("width") is None


def test_numbers_that_configs_compute_are_expressions_of_fields():
    measured = Measured(Sizes(width=16), Model)
    assert measured.computed("computed") == "3*num_layers"
    assert measured.computed("constant") is None
    assert measured.computed("nothing") is None


class Kinds(transformers.PreTrainedConfig):
    """A config whose layers a list of kinds counts, or a string of letters."""

    model_type = "kinds"

    def __init__(self, width=4, kinds=None, letters="", **others):
        self.width = width
        self.kinds = kinds or [{"a": "plain", "b": "wide"}[letter] for letter in letters]
        super().__init__(**others)

    @property
    def letters(self):
        return "".join(kind[0].translate({112: "a", 119: "b"}) for kind in self.kinds)

    @property
    def depth(self):
        return len(self.kinds)

    def to_dict(self):
        return {"width": self.width, "kinds": self.kinds}


def of_kinds(config):
    """Blocks of which each wide one has a list with a part for each wide one."""
    model = nn.Module()
    model.blocks = nn.ModuleList(nn.Module() for _ in config.kinds)
    wide = config.kinds.count("wide")
    for block, kind in zip(model.blocks, config.kinds, strict=True):
        block.up = nn.Parameter(torch.empty(config.width))
        if kind == "wide":
            block.parts = nn.ModuleList(nn.Linear(config.width, 3) for _ in range(wide))
            block.shared = nn.Parameter(torch.empty(2 * wide + len(config.kinds)))
    model.all = nn.Parameter(torch.empty(config.kinds.count("plain"), 1))
    return model


def test_numbers_may_be_those_of_a_lists_entries():
    measured = Measured(Kinds(kinds=["plain", "wide"]), of_kinds)
    assert measured.lists == {"blocks": "len(kinds)"}
    assert measured.computed("depth") == "len(kinds)"
    assert measured.split("blocks.1.parts.0.weight") == (
        "blocks.{layer}.parts.{}.weight",
        ("1", "0"),
    )
    assert measured.length("all", 0) == "kinds.count('plain')"
    assert measured.length("all", 1) == "1"
    assert measured.length("blocks.{layer}.up", 0) == "width"
    assert measured.length("blocks.{layer}.shared", 0) is None
    shapes = [len(config.kinds) for config, _ in measured.samples()]
    assert {2, 3, 4} <= set(shapes)


class Pair(transformers.PreTrainedConfig):
    """Two configs side by side, as those of an encoder and a decoder."""

    model_type = "pair"

    def __init__(self, one=None, other=None, **others):
        self.one, self.other = (Sizes(**p) if isinstance(p, dict) else p for p in (one, other))
        super().__init__(**others)

    def to_dict(self):
        return {"one": self.one.to_dict(), "other": self.other.to_dict()}


def both(config):
    module = nn.Module()
    module.first, module.second = Model(config.one), Model(config.other)
    return module


def test_lengths_are_of_fields_of_the_config_that_has_them():
    measured = Measured(Pair(Sizes(width=16), Sizes(width=8, inner=6, num_layers=3)), both)
    assert measured.lists == {
        "first.blocks": "one.num_layers",
        "second.blocks": "other.num_layers",
    }
    assert measured.length("first.blocks.{layer}.qkv", 1) == "one.width"
    assert measured.length("second.blocks.{layer}.up", 0) == "other.inner"
    table = dataclasses.replace(stored("llama"), left_out={}, null={}, structure={}, equal=[])
    given = {"one": {"width": 64}, "other": {"width": 32, "depth": None}}
    named = dataclasses.replace(table, sizes={"D": "one.width", "L": "2", "V": "3*other.width"})
    axes = named.table({**given, "vocab_size": 96})
    assert (axes.dim, axes.vocab_size) == (64, 96)


@pytest.mark.parametrize("inner", [7, None])
def test_fields_of_a_null_size_are_others(inner):
    length = Measured(Sizes(inner=inner), Model).length("blocks.{layer}.up", 0)
    assert length == ("4*width" if inner is None else "inner")
