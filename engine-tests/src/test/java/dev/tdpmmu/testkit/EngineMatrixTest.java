package dev.tdpmmu.testkit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import java.util.LinkedHashSet;
import java.util.Set;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.TestInfo;

/** The matrix has every combination that exists, once, each with a builder of its own. */
final class EngineMatrixTest {
    private static final Set<String> ALL = new LinkedHashSet<>();
    private static final Set<String> RESTRICTED = new LinkedHashSet<>();
    private static final Set<VmConfig.Builder> BUILDERS = new LinkedHashSet<>();

    private VmConfig.Builder seenInSetUp;

    @BeforeEach
    void setUp(VmConfig.Builder builder) {
        seenInSetUp = builder;
    }

    @EngineMatrix
    void builderIsSetToThePoint(
            VmConfig.Builder builder,
            PagingMode paging,
            LockPolicy policy,
            AccessedDirty accessedDirty,
            TestInfo info) {
        VmConfig config = builder.build();

        ALL.add(info.getDisplayName());
        assertSame(seenInSetUp, builder);
        assertTrue(BUILDERS.add(builder), "builder of another invocation");
        assertEquals(paging, config.pagingMode());
        assertEquals(policy, config.lockPolicy());
        assertEquals(accessedDirty, config.accessedDirty());
        assertEquals(info.getDisplayName(), config.name());
    }

    @EngineMatrix(
            paging = {PagingMode.EPT4, PagingMode.NPT4},
            policies = LockPolicy.PARALLEL,
            accessedDirty = AccessedDirty.OFF)
    void matrixIsRestricted(VmConfig.Builder builder, TestInfo info) {
        RESTRICTED.add(info.getDisplayName());

        assertNotEquals(PagingMode.NPT4, builder.build().pagingMode());
    }

    @AfterAll
    static void everyPointWasVisited() {
        // Only a run of the whole class has visited all.
        if (ALL.isEmpty() || RESTRICTED.isEmpty()) {
            return;
        }
        assertEquals(18, ALL.size(), ALL.toString());
        assertTrue(ALL.contains("EPT5/STAMPED/OFF") && ALL.contains("NPT4/EXCLUSIVE/ON"), ALL.toString());
        assertEquals(Set.of("EPT4/PARALLEL/OFF"), RESTRICTED);
    }
}
