"""``bmatch align`` on two hosts: network namespaces with a cable between them, torchrun on each."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest
from agents import Job

ADDRESSES = ("10.77.0.1", "10.77.0.2")


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


@contextmanager
def two_hosts():
    """Names of two namespaces; skips where there may be none."""
    if shutil.which("ip") is None:
        pytest.skip("no ip (iproute2) here")
    names = [f"bmatch-{os.getpid()}-{k}" for k in range(2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ends = [("eth0", "netns", names[0]), ("name", "eth0", "netns", names[1])]
        ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def test_two_hosts_find_the_gauge_of_one_process(bmatch_, pair, tmp_path, monkeypatch):
    arguments = ("align", *pair, "--tokens", 3000, "--sequence-length", 64)
    arguments += ("--cache", tmp_path / "cache")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    with two_hosts() as names:
        jobs = []
        for k, (name, address) in enumerate(zip(names, ADDRESSES, strict=True)):
            options = ("--nnodes", 2, "--nproc-per-node", 1, "--rdzv-backend", "c10d")
            options += ("--rdzv-endpoint", f"{ADDRESSES[0]}:29400", "--rdzv-id", "two-hosts")
            options += ("--rdzv-conf", f"is_host={1 - k}", "--local-addr", address)
            jobs.append(Job(tmp_path, options, (*arguments, "--out", tmp_path / "g"), name))
        ends = [job.end() for job in jobs]
    assert [code for code, _ in ends] == [0, 0], ends
    assert sum("largest memory of the ranks" in said for _, said in ends) == 1
    assert bmatch_(*arguments, "--out", tmp_path / "alone")[0] == 0
    assert (tmp_path / "g").read_bytes() == (tmp_path / "alone").read_bytes()
