package dev.tdpmmu;

import java.util.ArrayList;
import java.util.List;

/** A device that remembers what was done to it. Belongs to one thread. */
final class Registers implements MmioHandler {
    final List<String> log = new ArrayList<>();
    long answer = 0x8182_8384_8586_8788L;

    @Override
    public long read(long gpa, int bytes) {
        log.add("r" + bytes + "@" + Long.toHexString(gpa));
        return answer;
    }

    @Override
    public void write(long gpa, int bytes, long value) {
        log.add("w" + bytes + "@" + Long.toHexString(gpa) + "=" + Long.toHexString(value));
    }
}
