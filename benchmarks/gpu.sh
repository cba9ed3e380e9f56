#!/usr/bin/env bash
# What only a machine with a GPU can show, in stages of which none stops the next:
#
#     benchmarks/gpu.sh [STAGE...] [--out DIR] [--quick]
#
# stage              seconds  --quick
# smoke                   60       40  loads the extension, solves one matrix, runs one Triton kernel
# solver                 240       80  tests/assignment/test_device.py, teams apart
# kernels                300       95  tests/correlation/test_kernels_device.py
# sanitize               205       40  compute-sanitizer on a few of both; racecheck only reports
# bench-solver           240       50  matrices on the device, beside the host and peers
# bench-batch             60       25  batches
# bench-correlation      210       55  correlation matrices beside torch's
# align                   90       25  two models' activations to the gauge
# profile                 30       15  kernels of single solves
# all                   1435      425  and 25 for the bundle, 30 to ask for the device
#
# DIR (default: $OUT, else benchmarks/results/gpu) gets few files and no folders: summary.txt, a
# line a stage; logs.txt, the logs of the stages that are over; STAGE.*.log while one runs; results
# row by row. A stage that is cut off leaves what it had.
# PYTHON (default: .venv/bin/python) runs everything; build/gpu-bundle, if it is there, serves what
# it lacks. LIMITS="solver=9 align=5" sets other limits, in seconds.
# Exit status: 0 nothing failed, 1 something failed or was cut off, 2 wrong usage, 3 no device.
set -uo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-.venv/bin/python}"

declare -A full=([smoke]=60 [solver]=240 [kernels]=300 [sanitize]=205 [bench-solver]=240
    [bench-batch]=60 [bench-correlation]=210 [align]=90 [profile]=30)
declare -A short=([smoke]=40 [solver]=80 [kernels]=95 [sanitize]=40 [bench-solver]=50
    [bench-batch]=25 [bench-correlation]=55 [align]=25 [profile]=15)
order=(smoke solver kernels sanitize bench-solver bench-batch bench-correlation align profile)

usage() {
    echo "usage: benchmarks/gpu.sh [STAGE...] [--out DIR] [--quick]; stages: ${order[*]}" >&2
    exit 2
}

stages=() quick="" hurry=0 dir="${OUT:-benchmarks/results/gpu}"
while (($#)); do
    case "$1" in
        --quick) quick=--quick hurry=1 ;;
        --out)
            (($# > 1)) || usage
            dir="$2"
            [[ $dir = /* ]] || dir="$here/$dir"
            shift
            ;;
        *)
            [[ -v "full[$1]" ]] || usage
            stages+=("$1")
            ;;
    esac
    shift
done
((${#stages[@]})) || stages=("${order[@]}")
declare -A limits
for stage in "${order[@]}"; do
    limits[$stage]=${full[$stage]}
    [[ $quick ]] && limits[$stage]=${short[$stage]}
done
for limit in ${LIMITS:-}; do
    [[ -v "full[${limit%=*}]" && ${limit#*=} =~ ^[0-9]+$ ]] || usage
    limits[${limit%=*}]=${limit#*=}
done
mkdir -p "$dir" || exit 2
dir="$(cd "$dir" && pwd)"

# Pytest plugins that happen to be installed warn, and warnings are errors here.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1 TQDM_DISABLE=1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
stop() { # timeout hands the signal on to all that its command has started
    # shellcheck disable=SC2046
    kill $(jobs -p) 2>/dev/null
    wait
    exit 1
}
trap stop INT TERM

lines=() # of the summary
summarise() {
    printf '%s\n' "${lines[@]}" "$@" >"$dir/summary.txt"
}

# One line out of a log: why it failed, or how it ended.
telling() { # log, pattern
    local line
    line="$(tail -n +2 "$1" | grep -aE "$2" | tail -n 1)"
    [[ $line ]] || line="$(tail -n +2 "$1" | grep -av '^[[:space:]]*$' | tail -n 1)"
    cut -c1-200 <<<"${line:-nothing was printed}" | sed 's/^[= ]*//; s/[= ]*$//'
}

# Runs one command of a stage. Its log begins with the command, and its verdict goes beside it.
try() { # name, seconds, command...
    local name="$1" seconds="$2" left=$((deadline - SECONDS)) code line log verdict
    shift 2
    trap stop INT TERM # not inherited by what runs beside others
    log="$dir/$stage.$name.log" verdict="$scratch/$stage.$name"
    ((seconds < left)) || seconds=$left
    echo "===== $stage, $name, at most $seconds s: $*" >"$log"
    if ((seconds < 1)); then
        echo "cut off: no time was left" >"$verdict"
        return
    fi
    timeout --kill-after=5 "$seconds" "$@" >>"$log" 2>&1 &
    wait $!
    code=$?
    case $code in
        0)
            line="$(telling "$log" "$passed")"
            [[ $line = *skipped* && $line != *passed* ]] && echo "skipped: $line" || echo "passed: $line"
            ;;
        124 | 137) echo "cut off after $seconds s: $(telling "$log" "$failed")" ;;
        5) echo "skipped: $(telling "$log" 'SKIPPED|deselected|no tests')" ;; # pytest found no test
        *) echo "failed, exit $code: $(telling "$log" "$failed")" ;;
    esac >"$verdict"
}
passed='(passed|failed|skipped).* in [0-9.]+'
failed='File .* in test_|^(E  |FAILED|ERROR|[A-Za-z.]*(Error|Exception|Exit|Interrupt)\b)|error:|timeout|Timeout'

has() {
    "$PYTHON" -c "import $1" 2>/dev/null
}

skip() { # why
    echo "skipped: $1" >"$scratch/$stage.all"
}

# Tests without the models of conftest.py, which those on a device do not use.
pytest=("$PYTHON" -m pytest -m gpu --noconftest -p no:cacheprovider -vv -ra --tb=short
    -o faulthandler_timeout=30)
xdist() { # cores, processes if there are so many
    (($(nproc) >= $1)) && has xdist && echo "-p xdist.plugin --numprocesses $2"
}

smoke() {
    try all "$limit" "$PYTHON" -m benchmarks smoke
}

# Teams in processes of their own and at once: one that hangs or loses its context leaves the others.
solver() {
    has pytest || { skip "pytest is not installed"; return; }
    local tests=tests/assignment/test_device.py team pids=() workers
    workers="$(xdist 12 3)"
    for team in warp block grid; do
        # shellcheck disable=SC2086
        try "$team" $((limit * 6 / 10)) "${pytest[@]}" $workers "$tests" -k "families and -$team]" &
        pids+=($!)
    done
    try scans $((limit * 6 / 10)) "${pytest[@]}" "$tests" -k "scans_by_triton" &
    wait "${pids[@]}" $!
    # Alone: times and memory.
    try rest "$limit" "${pytest[@]}" "$tests" -k "not families and not scans_by_triton"
}

kernels() {
    has pytest || { skip "pytest is not installed"; return; }
    local tests=tests/correlation/test_kernels_device.py
    # shellcheck disable=SC2046
    try small $((hurry ? limit : limit * 7 / 10)) \
        "${pytest[@]}" $(xdist 8 8) "$tests" -k "not million and not memory"
    # Alone: they take much of the memory, or count it.
    try large "$limit" "${pytest[@]}" "$tests" -k "${quick:+not million and }(million or memory)"
}

# Small shapes: the sanitizer slows kernels a hundredfold.
sanitize() {
    has pytest || { skip "pytest is not installed"; return; }
    local tool part name tests shapes
    tool="$(command -v compute-sanitizer || command -v "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer")"
    [[ $tool ]] || { skip "compute-sanitizer is not installed"; return; }
    shapes="shape0${quick:+ and uniform}"
    for name in memcheck racecheck; do
        part=(--tool "$name" --print-limit 20)
        # torch asks for what a driver may lack: such refusals are no errors.
        [[ $name = memcheck ]] && part+=(--error-exitcode 1 --report-api-errors no)
        for tests in device kernels; do
            if [[ $tests = device ]]; then
                try "$name-solver" $((limit * 3 / 10)) "$tool" "${part[@]}" "${pytest[@]}" \
                    tests/assignment/test_device.py -k "families and $shapes and (uniform or ties or spatial)"
            elif [[ ! $quick ]]; then
                try "$name-kernels" $((limit * 3 / 10)) "$tool" "${part[@]}" "${pytest[@]}" \
                    tests/correlation/test_kernels_device.py -k "1000x70 and random"
            fi
        done
    done
    # What racecheck finds is for a reader: told, and no failure.
    for part in solver kernels; do
        log="$dir/$stage.racecheck-$part.log"
        [[ -f $log ]] || continue
        name="$(grep -aoE 'RACECHECK SUMMARY: .*' "$log" | tail -n 1)"
        tests="$(<"$scratch/$stage.racecheck-$part")"
        echo "reported: ${name:-no summary}; ${tests}" >"$scratch/$stage.racecheck-$part"
    done
}

bench() { # benchmark, seconds kept for a case that has begun, options...
    local name="$1" kept="$2"
    shift 2
    try all "$limit" "$PYTHON" -m benchmarks "$name" --device cuda --out "$dir" $quick \
        --seconds $((limit - kept)) "$@"
}

bench-solver() {
    bench assignment $((hurry ? 15 : 40)) --only matrices --largest 8192
}

bench-batch() {
    bench assignment 5 --only batches
}

bench-correlation() {
    bench correlation $((hurry ? 15 : 40)) --repeats 3
}

align() {
    bench align $((hurry ? 15 : 30)) --rounds 1
}

profile() {
    try all "$limit" "$PYTHON" -m benchmarks profile --device cuda --out "$dir"
}

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
site="$(timeout 25 "$PYTHON" -m benchmarks.bundle use)"
export PYTHONPATH="${site:+$site:}$PYTHONPATH"
if [[ ! -e .git && ! -v BMATCH_COMMIT ]]; then
    commit="$("$PYTHON" -m benchmarks.bundle commit 2>/dev/null)"
    [[ $commit ]] && export BMATCH_COMMIT="$commit"
fi
device="$(timeout 30 "$PYTHON" - 2>&1 <<'CODE'
try:
    import torch
except ImportError as error:
    raise SystemExit(f"no device: {error}")
if not torch.cuda.is_available():
    raise SystemExit(f"no device: torch {torch.__version__} sees no CUDA device")
print(torch.cuda.get_device_name())
CODE
)" || none="${device:-no answer from $PYTHON}"
device="$(tail -n 1 <<<"$device")" # warnings stand before it
if [[ -v none ]]; then
    none="$(tail -n 1 <<<"$none")"
    none="no device: ${none#no device: }"
fi
lines=("$(date -u +%Y-%m-%dT%H:%M) UTC, ${none:-$device}${quick:+, quick}")

status=0
for stage in "${stages[@]}"; do
    if [[ -v none ]]; then
        lines+=("$(printf '%-18s %s' "$stage" "$none")")
        status=3
    else
        limit=${limits[$stage]} begun=$SECONDS
        deadline=$((begun + limit))
        summarise "$(printf '%-18s running' "$stage")"
        "$stage"
        state="" told=""
        for verdict in "$scratch/$stage".*; do
            what="$(<"$verdict")" name="${verdict##*.}"
            case "$what" in
                failed*) state=failed ;;
                "cut off"*) [[ $state = failed ]] || state="cut off" ;;
                skipped*) state="${state:-skipped}" ;;
                *) [[ $state ]] && [[ $state != skipped ]] || state=passed ;;
            esac
            [[ $name = all ]] || what="$name $what"
            told+="${told:+; }$what"
        done
        [[ $state = failed || $state = "cut off" ]] && status=1
        lines+=("$(printf '%-18s %-8s %4d s  %s' "$stage" "$state" $((SECONDS - begun)) "$told")")
        cat "$dir/$stage".*.log >>"$dir/logs.txt" 2>/dev/null
        rm -f "$dir/$stage".*.log
    fi
    echo "${lines[-1]}"
    summarise
done
exit "$status"
