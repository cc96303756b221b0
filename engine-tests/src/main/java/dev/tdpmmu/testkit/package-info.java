/**
 * Test kit: repeatable races over the real engine, the test matrix, seeds, and the measure of allocation.
 *
 * <p>First class to read: {@link dev.tdpmmu.testkit.ScheduleExplorer}. A race test makes a small world for each
 * schedule, says what its actors do, and judges the world when they have ended:
 *
 * <pre>{@code
 * private static final class SetsBothBits implements Scenario {
 *     private final long entry = WordBlocks.take(CacheLines.PAIR_BYTES);
 *
 *     @Override
 *     public List<Actor> actors() {
 *         return List.of(
 *                 Actor.of("hardware", () -> setByCompareAndSet(entry, ACCESSED)),
 *                 Actor.of("fastFix", () -> setByCompareAndSet(entry, WRITABLE)));
 *     }
 *
 *     @Override
 *     public void check() {
 *         assertEquals(ACCESSED | WRITABLE, SpteAccess.readAcquire(entry));
 *     }
 *
 *     @Override
 *     public Map<Long, String> names() {
 *         return Map.of(entry, "leaf");
 *     }
 *
 *     @Override
 *     public void close() {
 *         WordBlocks.give(entry, CacheLines.PAIR_BYTES);
 *     }
 * }
 *
 * @Test
 * void noBitIsLost() {
 *     ScheduleExplorer.of("both bits", SetsBothBits::new).exhaustive(10_000).requireExhausted();
 * }
 * }</pre>
 *
 * <p>Code with hundreds of accesses has too many schedules to run them all. Bound the preemptions first, then draw
 * some:
 *
 * <pre>{@code
 * ScheduleExplorer explorer = ScheduleExplorer.of("zap against fast fix", () -> new ZapWorld(builder.build()));
 * explorer.preemptions(2).exhaustive(20_000).requireOutcomes("fixed, then zapped", "zapped, then retried");
 * explorer.sample(Seeds.announce("zapAgainstFastFix").seed(), 2_000);
 * }</pre>
 *
 * <p>A failure prints the schedule that led to it; {@code explorer.replay("0*12,1*3,0*7")} runs that one alone, for a
 * debugger or for the test that keeps a fixed bug fixed. A trace looks like this:
 *
 * <pre>
 *  CHECK in 'lost update': check failed: update lost: entry=0x100, expected=0x300
 *    mode=exhaustive, schedule number=2
 *    replay("0*2,1*3,0")
 *        0    setsAccessed   start
 *        1    setsAccessed   READ [0x2000007b00 entry] is 0x0
 *        2 -&gt; setsDirty      start
 *        3    setsDirty      READ [0x2000007b00 entry] is 0x0
 *        4    setsDirty      WRITE [0x2000007b00 entry] was 0x0
 *        5 -&gt; setsAccessed   WRITE [0x2000007b00 entry] was 0x200
 * </pre>
 *
 * <p>{@link dev.tdpmmu.testkit.EngineMatrix} runs a test over paging modes, lock policies and accessed/dirty settings:
 *
 * <pre>{@code
 * @EngineMatrix(paging = {PagingMode.EPT4, PagingMode.NPT4})
 * void zapLeavesNoPage(VmConfig.Builder config) { ... }
 * }</pre>
 */
package dev.tdpmmu.testkit;
