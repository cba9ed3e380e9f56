"""Checkpoints of a run in the order of their steps, whoever wrote them."""

from __future__ import annotations

import pytest

from bmatch.models.runs import find_run
from bmatch.trajectory.stops import open_stops


def made(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "model.safetensors").touch()


def steps(run):
    return [place.step for place in find_run(run)]


@pytest.mark.parametrize(
    "names",
    [
        ("checkpoint-100", "checkpoint-1000", "checkpoint-20"),
        ("checkpoints/checkpoint_100", "checkpoints/checkpoint_1000", "checkpoints/checkpoint_20"),
        ("step_100", "step_1000", "step_20"),
        ("20", "100", "1000"),
    ],
)
def test_by_number_and_not_by_name(names, tmp_path):
    made(tmp_path, *names)
    (tmp_path / "logs3").mkdir()
    (tmp_path / "tmp-checkpoint-5").mkdir()
    assert steps(tmp_path) == [20, 100, 1000]
    assert {place.beside for place in find_run(tmp_path)} == {tmp_path}


def test_a_model_in_the_runs_own_folder_is_its_end(tmp_path):
    made(tmp_path, "checkpoint-100")
    (tmp_path / "model.safetensors").touch()
    assert [place.folder.name for place in find_run(tmp_path)] == ["checkpoint-100", tmp_path.name]


def test_a_checkpoint_is_a_run_of_one(tmp_path):
    made(tmp_path, "checkpoint-7")
    assert steps(tmp_path / "checkpoint-7") == [7]


def test_what_a_name_says_is_a_checkpoint_is_listed_though_empty(tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    made(tmp_path, "checkpoint-2")
    assert steps(tmp_path) == [1, 2]


def test_a_link_that_leads_nowhere_is_listed_and_named(tmp_path):
    made(tmp_path, "checkpoint-1")
    (tmp_path / "checkpoint-2").symlink_to("moved-away")
    (tmp_path / "latest3").symlink_to("moved-away")
    assert steps(tmp_path) == [1, 2]
    with pytest.raises(FileNotFoundError, match="checkpoint-2"):
        open_stops(find_run(tmp_path)[1:])


def test_a_list_is_taken_in_its_order(tmp_path):
    (tmp_path / "list.txt").write_text("# mine\nb3\n\na1\n/elsewhere/last\n")
    places = find_run(tmp_path / "list.txt")
    assert [place.step for place in places] == [3, 1, None]
    assert [str(place.folder) for place in places][0::2] == [
        str(tmp_path / "b3"),
        "/elsewhere/last",
    ]


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run"):
        find_run(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no checkpoints"):
        find_run(tmp_path)
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(FileNotFoundError, match="names no checkpoint"):
        find_run(tmp_path / "list.txt")
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        find_run(tmp_path / "list.bin")
    made(tmp_path, "epoch_1", "step_5")
    with pytest.raises(ValueError, match=r"several names \(epoch_N, step_N\)"):
        find_run(tmp_path)
