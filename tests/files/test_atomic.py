"""Outputs that are whole or not there, under any name that the file system takes."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import pkgutil
import re
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pytest
from privileges import heed_permissions

from bmatch.files.atomic import new_file, new_files, new_folder, require_new

LONGEST = ["a" * 255, "名" * 85, "é" * 127 + "a", ".a" + "名" * 84 + "a"]


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_has_the_modes_of_any_new_file_whoever_wrote_it(tmp_path, umask):
    def write_privately(path):
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text("x")

    with new_file(tmp_path / "file") as partial:
        write_privately(partial)
    with new_folder(tmp_path / "folder") as partial:
        (partial / "inside").mkdir(mode=0o700)
        write_privately(partial / "shard")
        write_privately(partial / "inside" / "shard")
    (tmp_path / "plain").write_text("x")
    (tmp_path / "plain_folder").mkdir()
    for file in ("file", "folder/shard", "folder/inside/shard"):
        assert mode(tmp_path / file) == mode(tmp_path / "plain") == 0o666 & ~umask
    for folder in ("folder", "folder/inside"):
        assert mode(tmp_path / folder) == mode(tmp_path / "plain_folder") == 0o777 & ~umask


def test_a_link_in_a_folder_leaves_what_it_leads_to_alone(tmp_path):
    (tmp_path / "private").touch(mode=0o600)
    with new_folder(tmp_path / "folder") as partial:
        (partial / "link").symlink_to(tmp_path / "private")
        (partial / "dangling").symlink_to("nowhere")
    assert mode(tmp_path / "private") == 0o600


@pytest.mark.parametrize("name", LONGEST, ids=lambda name: name[:2])
def test_names_as_long_as_the_file_system_takes(tmp_path, name):
    assert len(os.fsencode(name)) == 255
    require_new(tmp_path / name)
    with new_file(tmp_path / name) as partial:
        partial.write_text("x")
        assert len(os.fsencode(partial.parent.name)) < 143  # of some encrypted file systems
    assert (tmp_path / name).read_text() == "x"
    (tmp_path / name).unlink()
    with new_folder(tmp_path / name) as partial:
        (partial / "x").touch()
    assert [path.name for path in (tmp_path / name).iterdir()] == ["x"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a" * 256, "名" * 86, "é" * 128], ids=lambda name: name[:2])
def test_longer_names_are_refused_before_the_job(tmp_path, name):
    with pytest.raises(OSError, match=r"cannot be written \(File name too long\)"):
        require_new(tmp_path / name)
    for output in (new_file, new_folder):
        with pytest.raises(OSError, match="name another output"), output(tmp_path / name):
            pytest.fail("the job began")
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"\xe9" * 200)
    with new_file(tmp_path / name) as partial:
        partial.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("output", [new_file, new_folder])
def test_an_error_leaves_nothing(tmp_path, output):
    with pytest.raises(KeyboardInterrupt), output(tmp_path / "out"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_and_nothing_else_is(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    with new_file(tmp_path / "link") as partial:
        partial.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    with (
        pytest.raises(FileExistsError, match="is no ordinary file"),
        new_file(tmp_path),
    ):
        pytest.fail("the job began")


def test_a_folder_without_permission_is_refused_before_the_job(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    code = (
        "from pathlib import Path\n"
        "from bmatch.files.atomic import require_new\n"
        "require_new(Path('closed/out'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=heed_permissions,
    )
    assert done.stderr.splitlines()[-1] == (
        "PermissionError: closed/out cannot be written: no permission to write closed"
    )


@pytest.mark.parametrize("folder", [True, False])
def test_an_output_that_appears_meanwhile_is_kept(tmp_path, folder):
    """As of another job with the same output."""
    final = tmp_path / "out"

    def job():
        with new_folder(final) as made:
            (made / "mine").touch()
            if folder:
                final.mkdir()
                (final / "theirs").touch()
            else:
                final.write_text("theirs")

    with pytest.raises(FileExistsError, match=r"has appeared meanwhile.*is in .*out-2"):
        job()
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out-2"}
    assert (final / "theirs").exists() if folder else final.read_text() == "theirs"
    assert (tmp_path / "out-2" / "mine").exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept_and_so_is_ours(tmp_path, monkeypatch, links):
    if not links:  # as on FAT
        monkeypatch.setattr(os, "link", mock.Mock(side_effect=PermissionError))
    final = tmp_path / "out.csv"
    (tmp_path / "out-2.csv").write_text("older")
    require_new(final)

    def job():
        with new_files() as place:
            place(final).write_text("ours")
            place(tmp_path / "labels").write_text("of ours")
            final.write_text("theirs")

    with pytest.raises(FileExistsError, match=r"meanwhile.*is in .*out-3\.csv, .*labels$"):
        job()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    others = {"out-2.csv": "older", "out-3.csv": "ours", "labels": "of ours"}
    assert found == {"out.csv": "theirs", **others}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("ending", [KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_files_appear_together_or_not_at_all(tmp_path, monkeypatch, links, ending):
    if not links:
        monkeypatch.setattr(os, "link", mock.Mock(side_effect=PermissionError))
    one, other, third = (tmp_path / name for name in ("one.csv", "other.json", "third"))

    def job(*endings):
        with new_files() as place:
            assert place(one).name == one.name  # formats go by it
            with new_file(place(one)) as partial:
                partial.write_text("1")
            assert not one.exists()
            place(third)  # without a word
            place(other).write_text("2")
            for error in endings:
                raise error

    with pytest.raises((KeyboardInterrupt, OSError)):
        job(ending)
    assert list(tmp_path.iterdir()) == []
    job()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        one.name: "1",
        other.name: "2",
    }
    assert mode(one) == mode(other) == 0o666 & ~_umask()


def test_where_one_cannot_be_named_none_is(tmp_path, monkeypatch):
    named = []

    def link(partial, name):
        if named:
            raise OSError(errno.ENOSPC, "No space left on device", str(partial))
        named.append(name)
        Path(name).write_bytes(Path(partial).read_bytes())

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(Path, "rename", link)

    def job():
        with new_files() as place:
            place(tmp_path / "one").write_text("1")
            place(tmp_path / "other").write_text("2")

    with pytest.raises(OSError, match="No space left on device") as told:
        job()
    assert told.value.filename == str(tmp_path / "other")
    assert named == [tmp_path / "one"]
    assert list(tmp_path.iterdir()) == []


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("output", [new_file, new_folder])
def test_errors_name_the_output_and_not_a_temporary_path(tmp_path, output):
    final = tmp_path / "out"
    told = rf"^{re.escape(str(final))} is full$"
    with pytest.raises(OSError, match=told), output(final) as partial:
        raise OSError(f"{partial} is full")
    with pytest.raises(OSError, match="device") as raised, output(final) as partial:
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == str(final)
    with pytest.raises(OSError, match="No such file") as raised, output(final) as partial:
        (partial.with_name("other") / "shard").touch()
    assert raised.value.filename == str(final)
    told = r"No such file|Not a directory"
    with pytest.raises(OSError, match=told) as raised, output(final) as partial:
        (partial / "inner" / "shard").rmdir()
    assert raised.value.filename == str(final / "inner" / "shard")


def _write(final, end):
    with new_folder(final) as partial:
        (partial / "shard").write_bytes(bytes(1000))
        end.send(None)
        end.recv()


def test_what_a_killed_job_left_goes_and_what_one_that_lives_writes_stays(tmp_path):
    context = multiprocessing.get_context("fork")
    jobs = []
    for _ in range(2):
        ours, theirs = context.Pipe()
        job = context.Process(target=_write, args=(tmp_path / "out", theirs))
        job.start()
        ours.recv()
        jobs.append((job, ours))
    before = set(tmp_path.iterdir())
    assert len(before) == 2
    jobs[0][0].kill()
    jobs[0][0].join()
    with new_file(tmp_path / "other") as partial:
        partial.touch()
        assert before < set(tmp_path.iterdir())  # of another output
    with new_folder(tmp_path / "out") as partial:
        (partial / "mine").touch()
        (living,) = before & set(tmp_path.iterdir())
        assert (living / "out" / "shard").stat().st_size == 1000
    jobs[1][1].send(None)
    jobs[1][0].join()
    assert {path.name for path in tmp_path.iterdir()} == {"other", "out", "out-2"}


def test_a_folder_that_another_job_takes_for_one_that_was_left(tmp_path, monkeypatch):
    """In the moment before it is locked: then another is made. Killed there, a job leaves none."""
    removed = []
    open_ = os.open

    def opened(path, *options, **others):
        if str(path).endswith(".partial") and len(removed) < 4:
            removed.append(path)
            if len(removed) % 2:
                Path(path).rmdir()
            else:
                lock = open_(path, *options, **others)
                Path(path).rmdir()
                return lock
        return open_(path, *options, **others)

    monkeypatch.setattr(os, "open", opened)
    with new_folder(tmp_path / "out") as partial:
        (partial / "shard").touch()
    assert len(set(removed)) == 4
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "shard"]


@pytest.mark.parametrize("call", ["os.mkdir", "os.open", "fcntl.flock", "shutil.rmtree"])
def test_a_job_that_is_ended_in_a_call_of_the_system_leaves_no_folder(tmp_path, monkeypatch, call):
    """Right behind it: the folder is made or locked, and the caller does not know it yet."""
    plain, seen = pkgutil.resolve_name(call), []

    def ended(*arguments, **options):
        seen.append(plain(*arguments, **options) if call != "shutil.rmtree" else None)
        if len(seen) == 1:
            raise SystemExit(143)
        return seen[-1] if call != "shutil.rmtree" else plain(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(call, ended)
        with pytest.raises(SystemExit), new_file(tmp_path / "out") as partial:
            partial.write_text("all")
    assert seen
    assert [path.name for path in tmp_path.iterdir() if path.name != "out"] == []


def test_where_there_are_no_locks_nothing_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", mock.Mock(side_effect=OSError(errno.ENOLCK, "no locks")))
    with new_folder(tmp_path / "out") as theirs:
        (theirs / "shard").touch()
        with new_file(tmp_path / "out") as ours:
            ours.touch()
        assert (theirs / "shard").exists()
        (tmp_path / "out").unlink()


def _write_at_once(final, number, start):
    require_new(final)
    start.wait()
    with suppress(FileExistsError), new_files() as place:
        place(final).write_text(number)


def test_of_jobs_that_end_at_the_same_time_each_has_a_file(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(8)
    jobs = [
        context.Process(target=_write_at_once, args=(tmp_path / "out", str(number), start))
        for number in range(8)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == list("01234567")
    assert {path.name for path in tmp_path.iterdir()} == {"out", *(f"out-{n}" for n in range(2, 9))}
