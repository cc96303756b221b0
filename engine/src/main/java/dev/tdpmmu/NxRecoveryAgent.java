package dev.tdpmmu;

import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.util.concurrent.locks.LockSupport;
import org.agrona.concurrent.Agent;
import org.agrona.concurrent.AgentRunner;
import org.agrona.concurrent.IdleStrategy;

/**
 * The thread that recovers huge pages of a VM with the mitigation, a part of them each period.
 *
 * @kvm kvm_nx_huge_page_recovery_worker
 */
final class NxRecoveryAgent implements Agent, AutoCloseable {
    private static final Logger LOG = System.getLogger(NxRecoveryAgent.class.getName());

    private final NxHugePages pages;
    private final String name;
    private final long periodNanos;
    private final AgentRunner runner;

    /** Of the agent's thread, which alone uses it. */
    private long lastRound = System.nanoTime();

    /** The agent's thread, or absent if it was never needed. Under the slots lock. */
    private Thread thread;

    /** Written under the slots lock, read by the agent. */
    private volatile boolean stopping;

    NxRecoveryAgent(NxHugePages pages, String name, long periodNanos) {
        this.pages = pages;
        this.name = name;
        this.periodNanos = periodNanos;
        this.runner = new AgentRunner(
                new Pause(), failure -> LOG.log(Level.ERROR, "NX recovery failed: name=" + name, failure), null, this);
    }

    /**
     * Sees to it that the thread runs; it stays when the mitigation is switched off, and finds nothing to do then.
     *
     * @locking slots lock
     */
    void start() {
        if (thread == null) {
            thread = AgentRunner.startOnThread(runner, task -> {
                Thread made = new Thread(task, name);
                made.setDaemon(true);
                return made;
            });
        }
    }

    @Override
    public int doWork() {
        if (stopping || System.nanoTime() - lastRound < periodNanos) {
            return 0;
        }
        lastRound = System.nanoTime();
        // Always "nothing done": the next round is a period away.
        pages.recover();
        return 0;
    }

    /** Parks until the next round is due; the end of the VM wakes it, so that nobody waits for a period. */
    private final class Pause implements IdleStrategy {
        @Override
        public void idle(int workCount) {
            idle();
        }

        @Override
        public void idle() {
            long left = periodNanos - (System.nanoTime() - lastRound);
            if (left > 0 && !stopping) {
                LockSupport.parkNanos(NxRecoveryAgent.this, left);
            }
        }

        @Override
        public void reset() {
            // Has no state.
        }
    }

    @Override
    public String roleName() {
        return name;
    }

    @Override
    public void close() {
        if (thread != null) {
            stopping = true;
            LockSupport.unpark(thread);
            runner.close();
        }
    }
}
