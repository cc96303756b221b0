package dev.tdpmmu.memory;

import java.util.List;

/** Scenarios of {@link TablePool} that need debug level {@code prove}; run in a process of their own. */
final class PoolProbe {
    static final List<String> PROVE = List.of("-Dtdpmmu.debug=prove", "--enable-native-access=ALL-UNNAMED");

    private PoolProbe() {}

    public static void main(String[] arguments) {
        TablePool pool = new TablePool(1, new MemoryAccount(1L << 30));
        switch (arguments[0]) {
            case "poison" -> writeToFreedPage(pool);
            case "aba" -> delayTake(pool);
            case "chain" -> delayChain(pool);
            default -> throw new IllegalArgumentException("no such scenario: name=" + arguments[0]);
        }
    }

    private static void writeToFreedPage(TablePool pool) {
        long page = pool.take();
        pool.give(page);
        SpteAccess.setPlain(page + 7 * 8, 0xbad);
        try {
            pool.take();
            System.out.print("not detected");
        } catch (IllegalStateException detected) {
            System.out.print(detected.getMessage());
        }
    }

    /**
     * Plays, by a hook in the slow thread's exchange, what another thread may do there:
     *
     * <pre>
     *  slow thread                          fast thread
     *  reads head A and A's link B
     *                                       takes A, takes B, gives A back: A is on top again, its link is C
     *  exchanges A for B: must fail,
     *  else B, in use, is on top
     * </pre>
     */
    private static void delayTake(TablePool pool) {
        long c = pool.take();
        long b = pool.take();
        long a = pool.take();
        pool.give(c);
        pool.give(b);
        pool.give(a);
        boolean[] interrupted = new boolean[1];
        long[] fast = new long[1];
        beforeTheNextUpdate(interrupted, () -> {
            long top = pool.take();
            fast[0] = pool.take();
            pool.give(top);
        });
        long slow = pool.take();
        long next = pool.take();
        Interleave.install(null);
        boolean distinct = slow != fast[0] && next != fast[0] && slow != next;
        System.out.print("interrupted=" + interrupted[0] + ", distinct=" + distinct + ", inUse=" + pool.pagesInUse());
    }

    /** As {@link #delayTake}, with a slow thread that has collected A and B and exchanges A for C. */
    private static void delayChain(TablePool pool) {
        pool.prewarm(4);
        boolean[] interrupted = new boolean[1];
        long[] fast = new long[1];
        beforeTheNextUpdate(interrupted, () -> {
            long top = pool.take();
            fast[0] = pool.take();
            pool.give(top);
        });
        long[] slow = new long[2];
        pool.take(slow, 0, 2);
        Interleave.install(null);
        boolean distinct = slow[0] != fast[0] && slow[1] != fast[0] && slow[0] != slow[1];
        System.out.print("interrupted=" + interrupted[0] + ", distinct=" + distinct + ", inUse=" + pool.pagesInUse());
    }

    private static void beforeTheNextUpdate(boolean[] interrupted, Runnable fastThread) {
        Interleave.install(new Interleave.Hook() {
            @Override
            public void access(Interleave.Kind kind, long address) {
                if (kind == Interleave.Kind.UPDATE && !interrupted[0]) {
                    interrupted[0] = true;
                    fastThread.run();
                }
            }

            @Override
            public boolean blocked() {
                return false;
            }

            @Override
            public Object actor() {
                return Thread.currentThread();
            }
        });
    }
}
