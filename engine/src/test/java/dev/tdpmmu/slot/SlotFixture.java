package dev.tdpmmu.slot;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.tdpmmu.config.PageSize;
import dev.tdpmmu.config.SlotFlag;
import dev.tdpmmu.config.VmConfig;
import dev.tdpmmu.memory.FrameAllocator;
import dev.tdpmmu.memory.MemoryAccount;
import java.util.Set;
import org.junit.jupiter.api.function.Executable;

/** A registry with its account, as a VM would have them; the test thread stands for the holder of the slots lock. */
final class SlotFixture implements AutoCloseable {
    static final long KIB_4 = 1L << 12;
    static final long MIB_2 = 1L << 21;
    static final long GIB_1 = 1L << 30;
    static final Backing SMALL = Backing.anonymous(PageSize.SIZE_4K);
    static final Set<SlotFlag> NO_FLAGS = Set.of();

    final VmConfig config;
    final MemoryAccount account;
    final FrameAllocator frames;
    final SlotRegistry registry;

    SlotFixture() {
        this(VmConfig.builder().build());
    }

    SlotFixture(VmConfig config) {
        this.config = config;
        this.account = new MemoryAccount(config.memoryCapInBytes());
        this.frames = new FrameAllocator(account);
        this.registry = new SlotRegistry(config, frames, 7);
    }

    MemSlot add(int id, long gpa, long bytes) {
        return add(id, gpa, bytes, SMALL);
    }

    MemSlot add(int id, long gpa, long bytes, Backing backing) {
        return registry.add(id, gpa, bytes, backing, NO_FLAGS).newSlot();
    }

    /** Asserts that a change is refused for a reason, with a text, and leaves no trace. */
    void assertRefused(SlotException.Reason reason, String text, Executable change) {
        SlotException refusal = assertThrows(SlotException.class, () -> assertNoTrace(change));
        assertEquals(reason, refusal.reason(), refusal.getMessage());
        assertEquals(true, refusal.getMessage().contains(text), refusal.getMessage());
    }

    /** Runs a change that fails and asserts that snapshot and account are what they were. */
    void assertNoTrace(Executable change) throws Throwable {
        MemSlots before = registry.current();
        long used = account.usedInBytes();
        try {
            change.execute();
        } finally {
            assertSame(before, registry.current());
            assertEquals(used, account.usedInBytes());
        }
    }

    /** Ends the VM's life and asserts that no frame is left. */
    @Override
    public void close() {
        registry.close();
        assertEquals(0, account.usedInBytes());
    }
}
