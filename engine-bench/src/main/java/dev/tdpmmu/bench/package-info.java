/**
 * What the engine costs: JMH benchmarks of one question each, and programs that measure whole phases.
 *
 * <p>A {@code …Benchmark} runs under JMH, {@code java -jar target/tdpmmu-benchmarks.jar WalkBenchmark -t 2 -prof gc}. A
 * {@code …Perf} or {@code NativeComparison} is a program of its own, {@code java --enable-native-access=ALL-UNNAMED -cp
 * target/tdpmmu-benchmarks.jar dev.tdpmmu.bench.FleetPerf --help}. All of them refuse to start with debug checks on,
 * see {@link dev.tdpmmu.bench.BenchGuard}. The first parameter is the lock policy, so that the exclusive baseline
 * stands beside every claim.
 *
 * <p>{@code java -jar target/tdpmmu-benchmarks.jar perf} runs the programs of {@link dev.tdpmmu.bench.perf}.
 */
package dev.tdpmmu.bench;
