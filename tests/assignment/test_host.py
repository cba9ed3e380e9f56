"""The solver on the host: threads, forks, memory, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from signals import heed_ctrl_c

import bmatch


def test_answers_do_not_depend_on_the_number_of_threads():
    r = np.random.default_rng(5)
    for cost in (r.random((700, 700)), r.integers(0, 100, (600, 800)).astype(np.float32)):
        answers = [bmatch.solve(cost, num_threads=k) for k in (1, 2, 5)]
        for a in answers[1:]:
            assert np.array_equal(a.col_of_row, answers[0].col_of_row)
            assert np.array_equal(a.col_dual, answers[0].col_dual)
            assert np.array_equal(a.row_dual, answers[0].row_dual)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_solve_with_threads():
    cost = np.random.default_rng(0).random((400, 400))
    expected = bmatch.solve(cost, num_threads=3).objective
    child = os.fork()
    if child == 0:
        os._exit(0 if bmatch.solve(cost, num_threads=3).objective == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("number", ["abc", "-2", "0", "1.5", "2 3", "99999"])
def test_a_number_of_threads_that_is_none_is_a_warning(number):
    done = with_threads(number)
    assert int(done.stdout) == int(with_threads("").stdout)
    assert (
        "RuntimeWarning: BMATCH_NUM_THREADS: the number of threads must be a whole number from 1 "
        f"to 4096, got {number!r}; all cores are used\n"
    ) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (1.5, TypeError, "num_threads must be an int, or None for all cores, got 1.5"),
        ("2", TypeError, "num_threads must be an int, or None for all cores, got '2'"),
        (0, ValueError, "num_threads must be at least 1, got 0: leave it out for all cores"),
        (2**40, ValueError, f"num_threads must be at most 4096, got {2**40}"),
    ],
)
def test_threads_that_are_none_are_refused_in_a_sentence(asked, error, message):
    for ask in (bmatch.solve, lambda c, **o: bmatch.batch_linear_sum_assignment(c[None], **o)):
        with pytest.raises(error) as raised:
            ask(np.eye(2), num_threads=asked)
        assert str(raised.value) == message
        assert ask(np.eye(2), num_threads=np.int64(2)) is not None


@pytest.mark.parametrize(("number", "threads"), [("3", 3), (" 12 ", 12)])
def test_the_number_of_threads_comes_from_the_environment(number, threads):
    assert int(with_threads(number).stdout) == -threads  # for large matrices alone


def test_an_empty_number_of_threads_is_none():
    assert -os.cpu_count() <= int(with_threads("").stdout) <= -1


def with_threads(number):
    return subprocess.run(
        [sys.executable, "-c", "from bmatch.assignment import host; print(host.threads())"],
        env={**os.environ, "BMATCH_NUM_THREADS": number},
        capture_output=True,
        text=True,
        check=False,
    )


def slow_cost():
    x = np.random.default_rng(0).random((3000, 1))
    return x @ x.T  # many alternating paths for each row


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc for fresh pages")
def test_a_solve_works_in_the_memory_of_the_last_one():
    code = (
        "import resource, numpy as np, bmatch\n"
        "cost = np.random.default_rng(0).random((2000, 2000), np.float32)\n"
        "def pages():\n"
        "    bmatch.linear_sum_assignment(cost)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "pages()\n"
        "print(-pages() + pages())\n"
    )
    # What is not kept goes back to the system, whatever this process allocates besides.
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "32768"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 100  # lists alone take 190


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start the peak anew")
@pytest.mark.parametrize("sign_marginalized", [False, True])
def test_a_solve_takes_a_twentieth_of_the_matrix_at_most(sign_marginalized):
    code = (
        "import numpy as np, bmatch\n"
        "from bmatch.jobs.phases import phase\n"
        "cost = np.random.default_rng(0).random((4096, 4096), np.float32)\n"
        "bmatch.linear_sum_assignment(np.eye(2))\n"
        "phases = []\n"
        "with phase('before', phases):\n"
        "    pass\n"
        "with phase('solve', phases):\n"
        f"    bmatch.solve(cost, sign_marginalized={sign_marginalized})\n"
        "print((phases[1].peak_bytes - phases[0].peak_bytes) / cost.nbytes)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < 0.05


def test_gil_is_released_while_solving():
    cost = slow_cost()[:1200, :1200]
    done = threading.Event()

    def work():
        bmatch.solve(cost)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    ticks = 0
    while not done.is_set():
        ticks += 1
        time.sleep(0.001)
    thread.join()
    assert ticks > 3


def test_ctrl_c_stops_a_solve():
    code = (
        "import numpy as np, bmatch\n"
        "x, y = np.random.default_rng(0).random((2, 6000))\n"
        "print('ready', flush=True)\n"
        "bmatch.solve((x[:, None] - y) ** 2)\n"
        "print('finished', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "finished" not in out
    assert "KeyboardInterrupt" in err


def test_answers_are_the_same_on_every_run_and_from_many_threads():
    cost = np.random.default_rng(1).integers(0, 5, (150, 150)).astype(np.float32)
    expected = bmatch.solve(cost)
    answers = []

    def work():
        answers.append(bmatch.solve(cost))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    for a in answers:
        assert np.array_equal(a.col_of_row, expected.col_of_row)
        assert np.array_equal(a.col_dual, expected.col_dual)
