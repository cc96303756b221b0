package dev.tdpmmu.memory;

import java.util.concurrent.atomic.AtomicLong;

/**
 * What one VM may take of host memory, and what it has taken: frames of its slots, table pages and their headers.
 *
 * <p>The limits of the JVM do not see off-heap memory, so this cap is the only one. It is charged when slots are added
 * and when the table pool grows, never by a fault. Safe for use by many threads.
 */
public final class MemoryAccount {
    private final long capInBytes;
    private final AtomicLong usedInBytes = new AtomicLong();

    /**
     * Opens an account.
     *
     * @param capInBytes limit, above 0; {@link Long#MAX_VALUE} for none
     */
    public MemoryAccount(long capInBytes) {
        if (capInBytes <= 0) {
            throw new IllegalArgumentException("memory cap is not positive: capInBytes=" + capInBytes);
        }
        this.capInBytes = capInBytes;
    }

    /**
     * Charges bytes if they fit under the cap; otherwise changes nothing.
     *
     * @param bytes amount, not negative
     * @return whether they were charged
     */
    public boolean tryCharge(long bytes) {
        long used = usedInBytes.get();
        while (bytes <= capInBytes - used) {
            if (usedInBytes.compareAndSet(used, used + bytes)) {
                return true;
            }
            used = usedInBytes.get();
        }
        return false;
    }

    /**
     * Returns charged bytes.
     *
     * @param bytes amount, at most what is charged
     */
    public void refund(long bytes) {
        long left = usedInBytes.addAndGet(-bytes);
        if (left < 0) {
            throw new IllegalStateException("more refunded than charged: bytes=" + bytes + ", left=" + left);
        }
    }

    /**
     * Returns the cap.
     *
     * @return bytes
     */
    public long capInBytes() {
        return capInBytes;
    }

    /**
     * Returns what is charged now.
     *
     * @return bytes
     */
    public long usedInBytes() {
        return usedInBytes.get();
    }
}
