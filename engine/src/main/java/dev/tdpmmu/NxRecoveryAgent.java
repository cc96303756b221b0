package dev.tdpmmu;

import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.util.concurrent.TimeUnit;
import org.agrona.concurrent.Agent;
import org.agrona.concurrent.AgentRunner;
import org.agrona.concurrent.SleepingMillisIdleStrategy;

/**
 * The thread that recovers huge pages of a VM with the mitigation, a part of them each period.
 *
 * @kvm kvm_nx_huge_page_recovery_worker
 */
final class NxRecoveryAgent implements Agent, AutoCloseable {
    private static final Logger LOG = System.getLogger(NxRecoveryAgent.class.getName());
    private static final long MAX_SLEEP_MILLIS = 100;

    private final NxHugePages pages;
    private final String name;
    private final long periodNanos;
    private final AgentRunner runner;
    private long lastRound = System.nanoTime();
    private boolean started;

    NxRecoveryAgent(NxHugePages pages, String name, long periodNanos) {
        this.pages = pages;
        this.name = name;
        this.periodNanos = periodNanos;
        long sleep = Math.clamp(TimeUnit.NANOSECONDS.toMillis(periodNanos), 1, MAX_SLEEP_MILLIS);
        this.runner = new AgentRunner(
                new SleepingMillisIdleStrategy(sleep),
                failure -> LOG.log(Level.ERROR, "NX recovery failed: name=" + name, failure),
                null,
                this);
    }

    void start() {
        started = true;
        AgentRunner.startOnThread(runner, task -> {
            Thread thread = new Thread(task, name);
            thread.setDaemon(true);
            return thread;
        });
    }

    @Override
    public int doWork() {
        if (System.nanoTime() - lastRound < periodNanos) {
            return 0;
        }
        lastRound = System.nanoTime();
        // Always "nothing done": the next round is a period away.
        pages.recover();
        return 0;
    }

    @Override
    public String roleName() {
        return name;
    }

    @Override
    public void close() {
        if (started) {
            runner.close();
        }
    }
}
