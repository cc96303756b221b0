package dev.tdpmmu.memory;

/** Uses each part of host memory once, in a process whose properties decide how it is reserved. */
final class HostMemoryProbe {
    private HostMemoryProbe() {}

    public static void main(String[] arguments) {
        MemoryAccount account = new MemoryAccount(1L << 40);
        FrameAllocator allocator = new FrameAllocator(account);
        boolean frames;
        try (FrameRun run = allocator.allocate(2, 4L << 20)) {
            long last = run.hpa() + run.bytes() - 8;
            GuestBytes.putLong(last, 0x0123_4567_89ab_cdefL);
            frames = GuestBytes.getLong(run.hpa()) == 0
                    && GuestBytes.getLong(last) == 0x0123_4567_89ab_cdefL
                    && GuestBytes.compareAndSetLong(last, 0x0123_4567_89ab_cdefL, 1)
                    && GuestBytes.getByte(last) == 1
                    && run.hpa() % (2L << 20) == 0;
        }
        boolean reuse;
        try (FrameRun run = allocator.allocate(2, 4L << 20)) {
            reuse = GuestBytes.getLong(run.hpa() + run.bytes() - 8) == 0;
        }
        // An access that starts in the last bytes of the range ends in its slack.
        GuestBytes.getLong(HostMemory.SIZE - 1);
        TablePool pool = new TablePool(3, account);
        long table = pool.take();
        SpteAccess.fillRowPlain(table, 7, 0);
        boolean tables = SpteAccess.readAcquire(table + 4088) == 518 && TableHeaders.owner(table) == 3;
        pool.give(table);
        pool.close();
        System.out.print("kind=" + HostMemory.kind() + ", size=" + HostMemory.SIZE + ", frames=" + frames + ", tables="
                + tables + ", reuse=" + reuse + ", left=" + (account.usedInBytes() + HostMemory.bytesHandedOut()));
    }
}
