/**
 * Programs after the kernel's own performance tests: each runs a fleet of vCPUs through named phases, times every phase
 * for itself, repeats it all for each lock policy, and prints the medians side by side.
 *
 * <p>All are subcommands of one command, {@code java -jar target/tdpmmu-benchmarks.jar perf dirty-log --help}, and
 * programs of their own, {@code java --enable-native-access=ALL-UNNAMED -cp target/tdpmmu-benchmarks.jar
 * dev.tdpmmu.bench.perf.DirtyLogPerf --help}. A table goes to standard output, JSON and CSV go to files.
 */
package dev.tdpmmu.bench.perf;
