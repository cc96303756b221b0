package dev.tdpmmu.bench;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.memory.HostMemory;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

/** Keeps figures from being taken with debug checks on, and says once per process what they were taken with. */
public final class BenchGuard {
    /** Environment variable that names the commit where there is no git. */
    private static final String COMMIT_VARIABLE = "TDPMMU_COMMIT";

    private static final String UNKNOWN = "unknown";
    private static final long GIT_SECONDS = 5;
    private static final AtomicBoolean TOLD = new AtomicBoolean();

    private BenchGuard() {}

    /**
     * Lets a measurement begin: prints the environment to standard error the first time.
     *
     * @throws IllegalStateException if this process runs with debug checks
     */
    public static void check() {
        require(Debug.LEVEL);
        if (TOLD.compareAndSet(false, true)) {
            environment().forEach((what, value) -> System.err.println("# " + what + "=" + value));
        }
    }

    static void require(Debug.Level level) {
        if (level != Debug.Level.OFF) {
            throw new IllegalStateException("figures of a checking engine mean nothing: " + Debug.PROPERTY + "=" + level
                    + ", expected=" + Debug.Level.OFF);
        }
    }

    /**
     * Returns what decides over figures besides the code.
     *
     * @return JDK, flags, collector, cores, commit, kind and size of host memory, debug level
     */
    public static Map<String, String> environment() {
        Map<String, String> all = new LinkedHashMap<>();
        all.put("jdk", Runtime.version() + " " + System.getProperty("java.vm.name"));
        all.put("flags", String.join(" ", ManagementFactory.getRuntimeMXBean().getInputArguments()));
        all.put("os", System.getProperty("os.name") + " " + System.getProperty("os.arch"));
        all.put("cores", Integer.toString(Runtime.getRuntime().availableProcessors()));
        all.put("heapMax", Long.toString(Runtime.getRuntime().maxMemory()));
        all.put("commit", commit());
        all.put("hostMemory", HostMemory.kind() + " " + HostMemory.SIZE);
        all.put("debug", Debug.LEVEL.toString());
        return all;
    }

    private static String commit() {
        String named = System.getenv(COMMIT_VARIABLE);
        return named != null ? named : askGit();
    }

    private static String askGit() {
        try {
            Process git = new ProcessBuilder("git", "describe", "--always", "--dirty", "--abbrev=12")
                    .redirectError(ProcessBuilder.Redirect.DISCARD)
                    .start();
            String answer = new String(git.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
            return git.waitFor(GIT_SECONDS, TimeUnit.SECONDS) && git.exitValue() == 0 && !answer.isEmpty()
                    ? answer
                    : UNKNOWN;
        } catch (IOException noGit) {
            return UNKNOWN;
        } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
            return UNKNOWN;
        }
    }
}
