#!/usr/bin/env bash
# Compares the engine with the native reference: alternates both in rounds, one operation a process, and prints
# Markdown tables of medians (best) and ratios.
#
# usage: compare.sh DIRECTORY_OF_TDP_REF_C     (or NATIVE_REF=DIRECTORY compare.sh)
#   ROUNDS     rounds, at least 3 for a claim (3)
#   BITS       log2 of the 4 KiB pages of the guests ("18 22")
#   THREADS    threads ("1 2")
#   OPERATIONS of fault_seq fault_rand fault_sparse fault_interleaved xlate_seq xlate_rand, or "" (all of them)
#   RANGES     of wrprot clear_dirty clear_dirty_1pct zap zap_leaves split, or "" (all of them), each as the loop alone
#              (kernel) and as a call (api); zap_leaves stands against the reference's zap
#   POLICIES   yes: also measures fault_seq under the stamped and the exclusive policy (yes)
#   OUT        directory of the results (target/compare)
#   JAR        the benchmarks (target/tdpmmu-benchmarks.jar)
#   JAVA_HOME  a JDK 25; else java from the path
#   JAVA_FLAGS more flags for the JVM
set -eu

REFERENCE=${1:-${NATIVE_REF:?usage: compare.sh DIRECTORY_OF_TDP_REF_C}}
MODULE=$(cd "$(dirname "$0")/../../.." && pwd)
JAR=${JAR:-$MODULE/target/tdpmmu-benchmarks.jar}
ROUNDS=${ROUNDS:-3}
BITS=${BITS:-18 22}
THREADS=${THREADS:-1 2}
OPERATIONS=${OPERATIONS-fault_seq fault_rand fault_sparse fault_interleaved xlate_seq xlate_rand}
RANGES=${RANGES-wrprot clear_dirty clear_dirty_1pct zap zap_leaves split}
POLICIES=${POLICIES:-yes}
OUT=${OUT:-$MODULE/target/compare}
JAVA=java
if [ -n "${JAVA_HOME:-}" ]; then JAVA=$JAVA_HOME/bin/java; fi

[ -f "$JAR" ] || { echo "missing: $JAR; build it with: mvn -pl engine-bench -am package -DskipTests" >&2; exit 1; }
mkdir -p "$OUT"
gcc -std=gnu11 -O3 -march=native -Wall -pthread -o "$OUT/tdp_ref" "$REFERENCE/tdp_ref.c"
CSV=$OUT/compare.csv
LOG=$OUT/compare.log
: >"$CSV"
: >"$LOG"

# Waits up to 4 s until the processors are mostly idle.
quiet() {
    [ -r /proc/stat ] || return 0
    local before after total
    for _ in $(seq 20); do
        read -r -a before < <(head -1 /proc/stat)
        sleep 0.2
        read -r -a after < <(head -1 /proc/stat)
        total=0
        for i in 1 2 3 4 5 6 7 8; do total=$((total + after[i] - before[i])); done
        if [ $((100 * (after[4] - before[4]))) -ge $((80 * total)) ]; then return 0; fi
    done
}

native() { # round bits threads repetitions operation mode
    quiet
    "$OUT/tdp_ref" "$2" "$3" "$4" 0 "$5" "$6" | sed "s/^/$1,/" >>"$CSV"
}

java_program() { # round bits threads repetitions program options...
    local round=$1 bits=$2 threads=$3 repetitions=$4 program=$5
    shift 5
    quiet
    # shellcheck disable=SC2086
    "$JAVA" --enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow ${JAVA_FLAGS:-} -cp "$JAR" \
        "dev.tdpmmu.bench.$program" --bits "$bits" --threads "$threads" --repetitions "$repetitions" "$@" \
        2>>"$LOG" | sed "s/^/$round,/" >>"$CSV"
}

engine() { # round bits threads repetitions operation mode
    java_program "$1" "$2" "$3" "$4" NativeComparison --operations "$5" --modes "$6"
}

range() { # round bits threads repetitions operation
    local reference=$5
    if [ "$5" = zap_leaves ]; then reference=zap; fi
    echo "round $1, 2^$2 pages, $3 threads: $5" >&2
    if [ "$5" != zap_leaves ] || ! [[ " $RANGES " == *" zap "* ]]; then native "$1" "$2" "$3" "$4" "$reference" none; fi
    java_program "$1" "$2" "$3" "$4" RangeComparison --operations "$5" --forms kernel
    java_program "$1" "$2" "$3" "$4" RangeComparison --operations "$5" --forms api
}

pair() { # round bits threads repetitions operation native-mode engine-mode
    echo "round $1, 2^$2 pages, $3 threads: $5 $6" >&2
    native "$1" "$2" "$3" "$4" "$5" "$6"
    engine "$1" "$2" "$3" "$4" "$5" "$7"
}

for round in $(seq "$ROUNDS"); do
    for bits in $BITS; do
        repetitions=25
        if [ "$bits" -gt 20 ]; then repetitions=7; fi
        for threads in $THREADS; do
            for operation in $OPERATIONS; do
                if [ "$operation" = fault_interleaved ] && [ "$threads" = 1 ]; then continue; fi
                pair "$round" "$bits" "$threads" "$repetitions" "$operation" merged_lock_rcu MERGED
                case $operation in
                    xlate_*)
                        pair "$round" "$bits" "$threads" "$repetitions" "$operation" none NONE
                        engine "$round" "$bits" "$threads" "$repetitions" "$operation" HARDWARE
                        ;;
                esac
                if [ "$operation" = fault_seq ] && [ "$POLICIES" = yes ]; then
                    pair "$round" "$bits" "$threads" "$repetitions" "$operation" mutex EXCLUSIVE
                    pair "$round" "$bits" "$threads" "$repetitions" "$operation" pthread_rwlock+rcu STAMPED
                fi
            done
            for operation in $RANGES; do range "$round" "$bits" "$threads" "$repetitions" "$operation"; done
        done
    done
done

grep '^#' "$LOG" | sort -u
echo
"$JAVA" -cp "$JAR" dev.tdpmmu.bench.ComparisonTable "$CSV"
