"""Lists of the kinds of layers: longer ones of the same kinds, and other spellings."""

from __future__ import annotations

import transformers

from bmatch.architecture.layer_kinds import counts_of, lists_of_kinds, other_lists, spellings_of

VALUES = {
    "num_layers": 2,
    "kinds": ["a", "b"],
    "all_alike": ["a", "a"],
    "numbers": [1, 2],
    "none": [],
    "prose": ["an entry"],
    "text.depth": 2,
    "text.kinds": ("b",),
    "heads": 2,
}


def test_lists_of_kinds_are_those_of_words():
    assert lists_of_kinds(VALUES) == {
        "kinds": ["a", "b"],
        "all_alike": ["a", "a"],
        "text.kinds": ["b"],
    }


def test_longer_lists_have_other_shares_and_as_many_layers():
    changes = list(other_lists(VALUES, "kinds"))
    assert [change["kinds"] for change in changes] == [
        ["a", "b", *more] for more in ("ab", "a", "aa", "b", "bb")
    ]
    assert all(change["num_layers"] == len(change["kinds"]) for change in changes)
    assert all(change.keys() == {"kinds", "num_layers"} for change in changes)
    assert all(change.keys() == {"text.kinds"} for change in other_lists(VALUES, "text.kinds"))


def test_counts_are_of_all_entries_or_those_of_a_kind():
    assert counts_of("kinds", ["a", "b", "a"]) == [
        "len(kinds)",
        "kinds.count('a')",
        "kinds.count('b')",
    ]
    assert counts_of("kinds", ["a", "a"]) == ["len(kinds)"]


LETTERS = {"*": "attention", "M": "mamba"}


class Spelled(transformers.PreTrainedConfig):
    """A config that reads its kinds of layers from a string, too, and one that it does not."""

    model_type = "spelled"

    def __init__(self, kinds=None, pattern=None, **others):
        self.kinds = kinds or [LETTERS[letter] for letter in pattern or "M"]
        super().__init__(**others)

    @property
    def pattern(self):
        return "".join({"mamba": "M", "attention": "*"}[kind] for kind in self.kinds)

    @property
    def initials(self):
        return "".join(kind[0] for kind in self.kinds)

    @property
    def count(self):
        return len(self.kinds)

    def to_dict(self):
        return {"kinds": self.kinds}


class Older(transformers.PreTrainedConfig):
    """A config that reads an older name of a kind."""

    model_type = "older"

    def __init__(self, kinds=None, **others):
        self.kinds = ["full_attention" if kind == "attention" else kind for kind in kinds or ()]
        super().__init__(**others)

    def to_dict(self):
        return {"kinds": self.kinds}


class Outer(transformers.PreTrainedConfig):
    """One that holds another."""

    model_type = "outer"

    def __init__(self, text=None, **others):
        self.text = Spelled(**text) if isinstance(text, dict) else text
        super().__init__(**others)

    def to_dict(self):
        return {"text": self.text.to_dict()}


def test_spellings_are_what_a_class_computes_and_reads():
    config = Spelled(kinds=["attention", "mamba"])
    assert spellings_of(config, "kinds") == {"pattern": LETTERS}
    assert config.kinds == ["attention", "mamba"]
    assert spellings_of(Older(kinds=["full_attention", "moe"]), "kinds") == {
        "kinds": {"attention": "full_attention"}
    }
    assert spellings_of(Outer(config), "text.kinds") == {"text.pattern": LETTERS}
