package dev.tdpmmu.sync;

import dev.tdpmmu.trace.Trace;
import java.lang.System.Logger.Level;
import org.agrona.concurrent.Agent;
import org.agrona.concurrent.AgentRunner;
import org.agrona.concurrent.BackoffIdleStrategy;

/**
 * The thread of a VM that returns retired table pages to the pool, so that no operation has to. It also reports stalled
 * grace periods, once for each stall.
 */
public final class Reclaimer implements Agent, AutoCloseable {
    private static final System.Logger LOG = System.getLogger(Reclaimer.class.getName());

    private static final long MAX_SPINS = 0;
    private static final long MAX_YIELDS = 1;
    private static final long MIN_PARK_NANOS = 50_000;
    private static final long MAX_PARK_NANOS = 4_000_000;

    private final RcuDomain domain;
    private final String name;
    private final AgentRunner runner;
    private boolean stallReported;

    /**
     * Makes a reclaimer that does not run yet.
     *
     * @param domain whose pages are returned
     * @param name of the thread
     */
    public Reclaimer(RcuDomain domain, String name) {
        this.domain = domain;
        this.name = name;
        this.runner = new AgentRunner(
                new BackoffIdleStrategy(MAX_SPINS, MAX_YIELDS, MIN_PARK_NANOS, MAX_PARK_NANOS),
                failure -> LOG.log(Level.ERROR, "reclaim failed: name=" + name, failure),
                null,
                this);
    }

    /** Starts the thread. */
    public void start() {
        AgentRunner.startOnThread(runner, task -> {
            Thread thread = new Thread(task, name);
            thread.setDaemon(true);
            return thread;
        });
    }

    @Override
    public int doWork() {
        int returned = domain.reclaim();
        boolean stalled = domain.isStalled();
        if (stalled && !stallReported) {
            StallReport report = domain.stallReport();
            LOG.log(Level.WARNING, report.toString());
            Trace.stalled(report.readerName(), report.waited().toNanos(), report.retiredPages());
        }
        stallReported = stalled;
        return returned;
    }

    @Override
    public String roleName() {
        return name;
    }

    /** Stops the thread and waits for its end; pages that still wait stay retired. */
    @Override
    public void close() {
        runner.close();
    }
}
