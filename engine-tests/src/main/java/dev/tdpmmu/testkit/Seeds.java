package dev.tdpmmu.testkit;

import java.util.Objects;
import java.util.SplittableRandom;
import java.util.concurrent.ThreadLocalRandom;

/**
 * The seed of a random test, printed so that the run can be repeated, and the seeds that its parts derive from it.
 *
 * <p>The seed is that of {@code -Dtdpmmu.seed} if given, else a new one. Sub-seeds depend on the seed and their name
 * alone, not on the order in which they are asked for. Immutable, safe for use by many threads.
 */
public final class Seeds {
    /** Name of the system property that sets the seed; decimal, may be negative. */
    public static final String PROPERTY = "tdpmmu.seed";

    private final long seed;

    private Seeds(long seed) {
        this.seed = seed;
    }

    /**
     * Returns the seed of a test and prints it with the way to replay it.
     *
     * @param testName for the printed line
     * @return seed from the property, or a random one
     * @throws IllegalArgumentException if the property is not a number
     */
    public static Seeds announce(String testName) {
        long seed = ofProperty(System.getProperty(PROPERTY));
        System.out.println(testName + ": seed=" + seed + " replay with -D" + PROPERTY + "=" + seed);
        return new Seeds(seed);
    }

    /**
     * Returns a fixed seed, for a test that must do the same each time; prints nothing.
     *
     * @param seed the seed
     * @return seeds derived from it
     */
    public static Seeds of(long seed) {
        return new Seeds(seed);
    }

    private static long ofProperty(String value) {
        if (value == null) {
            return ThreadLocalRandom.current().nextLong();
        }
        try {
            return Long.parseLong(value.strip());
        } catch (NumberFormatException bad) {
            throw new IllegalArgumentException("seed is not a number: " + PROPERTY + "=" + value, bad);
        }
    }

    /**
     * Returns the seed itself.
     *
     * @return the seed
     */
    public long seed() {
        return seed;
    }

    /**
     * Derives the seed of one numbered part: a thread, a round.
     *
     * @param part number of the part
     * @return sub-seed
     */
    public long derive(long part) {
        return mix(seed + mix(part + 1));
    }

    /**
     * Derives the seed of one named part.
     *
     * @param part name of the part
     * @return sub-seed
     */
    public long derive(String part) {
        long hash = 0;
        for (int i = 0; i < part.length(); i++) {
            hash = mix(hash + part.charAt(i));
        }
        return mix(seed ^ hash);
    }

    /**
     * Returns a generator for one numbered part.
     *
     * @param part number of the part
     * @return new generator, for one thread
     */
    public SplittableRandom random(long part) {
        return new SplittableRandom(derive(part));
    }

    /**
     * Returns a generator for one named part.
     *
     * @param part name of the part
     * @return new generator, for one thread
     */
    public SplittableRandom random(String part) {
        return new SplittableRandom(derive(Objects.requireNonNull(part, "part")));
    }

    /** The finaliser of SplitMix64. */
    private static long mix(long value) {
        long mixed = value + 0x9E3779B97F4A7C15L;
        mixed = (mixed ^ (mixed >>> 30)) * 0xBF58476D1CE4E5B9L;
        mixed = (mixed ^ (mixed >>> 27)) * 0x94D049BB133111EBL;
        return mixed ^ (mixed >>> 31);
    }

    @Override
    public String toString() {
        return "seed=" + seed;
    }
}
