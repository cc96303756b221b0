package dev.tdpmmu;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tdpmmu.base.Debug;
import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.testkit.AllocationProbe;
import dev.tdpmmu.testkit.EngineMatrix;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.agrona.collections.LongHashSet;
import org.jctools.queues.MessagePassingQueue;
import org.jctools.queues.varhandle.MpscUnboundedVarHandleArrayQueue;

/** Hot operations allocate nothing, in a process with debug level {@code off}, as benchmarks and users have it. */
class AllocationTest {
    private static final long TIMEOUT_SECONDS = 60;

    @EngineMatrix(
            paging = {PagingMode.EPT4, PagingMode.NPT5},
            accessedDirty = {AccessedDirty.ON, AccessedDirty.OFF})
    void hotOperationsAllocateNothing(PagingMode paging, LockPolicy policy, AccessedDirty bits) throws Exception {
        String printed = runWithoutDebug(paging, policy, bits);

        assertEquals(
                String.join(
                        System.lineSeparator(),
                        "load hit: 0",
                        "store hit: 0",
                        "walk: 0",
                        "linear hit: 0",
                        "linear walk: 0",
                        "fast fix: 0",
                        "map: 0",
                        "refault: 0",
                        "zap of an entry: 0",
                        "unmap of an entry: 0",
                        "write-protect of an entry: 0",
                        "clear dirty of an entry: 0",
                        "age of an entry: 0",
                        "logged store: 0",
                        "ring push: 0",
                        "vCPU ring push: 0",
                        ""),
                printed);
    }

    private static String runWithoutDebug(PagingMode paging, LockPolicy policy, AccessedDirty bits)
            throws IOException, InterruptedException {
        List<String> command = List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-D" + Debug.PROPERTY + "=off",
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                classPath(),
                HotOperations.class.getName(),
                paging.name(),
                policy.name(),
                bits.name());
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        try {
            String printed = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            if (!process.waitFor(TIMEOUT_SECONDS, TimeUnit.SECONDS)) {
                throw new IllegalStateException("process does not end: command=" + command);
            }
            return printed.lines()
                    .filter(line -> line.contains(": "))
                    .filter(line -> !line.startsWith("Picked up"))
                    .map(line -> line + System.lineSeparator())
                    .collect(Collectors.joining());
        } finally {
            process.destroyForcibly();
        }
    }

    /** Where each class was loaded from: the class path of a test runner may hide it behind a manifest. */
    private static String classPath() {
        return Stream.of(
                        Vm.class,
                        AllocationProbe.class,
                        HotOperations.class,
                        LongHashSet.class,
                        MessagePassingQueue.class,
                        MpscUnboundedVarHandleArrayQueue.class)
                .map(AllocationTest::placeOf)
                .distinct()
                .collect(Collectors.joining(System.getProperty("path.separator")));
    }

    private static String placeOf(Class<?> type) {
        try {
            return Path.of(type.getProtectionDomain()
                            .getCodeSource()
                            .getLocation()
                            .toURI())
                    .toString();
        } catch (URISyntaxException noPath) {
            throw new IllegalStateException("class has no place: class=" + type, noPath);
        }
    }
}
