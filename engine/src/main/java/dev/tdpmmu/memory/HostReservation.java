package dev.tdpmmu.memory;

import java.io.IOException;
import java.lang.System.Logger.Level;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Locale;

/** Reserves the range of {@link HostMemory}: three ways, the best that works here. Confined to class initialisation. */
final class HostReservation {
    private static final System.Logger LOG = System.getLogger(HostMemory.class.getName());

    private static final String KIND_PROPERTY = "tdpmmu.memory.kind";
    private static final String RESERVE_PROPERTY = "tdpmmu.memory.reserve";

    private static final long SLACK = HostMemory.PAGE_SIZE;
    private static final long ALIGNMENT = 1L << 30;
    private static final long DEFAULT_SIZE = 1L << 42;
    static final long MIN_SIZE = 1L << 26;
    private static final long EAGER_SIZE = 1L << 28;
    private static final Path MEMORY_FILE_SYSTEM = Path.of("/dev/shm");

    // Linux, all architectures that the JDK runs on.
    private static final int PROT_READ_WRITE = 0x3;
    private static final int MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x4022;
    private static final int MADV_DONTNEED = 4;

    private final HostMemory.Kind kind;
    private final MemorySegment range;
    private final long size;
    private final MethodHandle madvise;

    private HostReservation(HostMemory.Kind kind, MemorySegment range, long size, MethodHandle madvise) {
        this.kind = kind;
        this.range = range;
        this.size = size;
        this.madvise = madvise;
    }

    HostMemory.Kind kind() {
        return kind;
    }

    MemorySegment range() {
        return range;
    }

    long size() {
        return size;
    }

    static HostReservation reserve() {
        String forced = System.getProperty(KIND_PROPERTY, "");
        HostReservation made = forced.isEmpty() ? best() : make(kindOf(forced));
        LOG.log(Level.DEBUG, () -> "host memory reserved: kind=" + made.kind + ", bytes=" + made.size);
        return made;
    }

    private static HostMemory.Kind kindOf(String forced) {
        try {
            return HostMemory.Kind.valueOf(forced.toUpperCase(Locale.ROOT));
        } catch (IllegalArgumentException unknown) {
            throw new IllegalArgumentException(
                    "unknown kind of host memory: " + KIND_PROPERTY + "=" + forced + ", expected=mmap|file|eager",
                    unknown);
        }
    }

    private static HostReservation best() {
        // Asking the module first: a restricted call without the permission would print a warning on the user's
        // console.
        boolean nativeAccess = HostMemory.class.getModule().isNativeAccessEnabled();
        if (nativeAccess && System.getProperty("os.name").equals("Linux")) {
            HostReservation mapped = map();
            if (mapped != null) {
                return mapped;
            }
        }
        HostReservation file = file();
        return file != null ? file : eager();
    }

    private static HostReservation make(HostMemory.Kind wanted) {
        HostReservation made = switch (wanted) {
            case MMAP -> map();
            case FILE -> file();
            case EAGER -> eager();
        };
        if (made == null) {
            throw new IllegalStateException("host memory cannot be reserved that way: kind=" + wanted);
        }
        return made;
    }

    private static long wantedSize(long standard) {
        return sizeFrom(RESERVE_PROPERTY, standard, MIN_SIZE, Long.highestOneBit(Long.MAX_VALUE));
    }

    /** Reads a size from a property; a value that is no number is refused as well, not ignored. */
    static long sizeFrom(String property, long standard, long min, long max) {
        String wanted = System.getProperty(property, "");
        if (wanted.isEmpty()) {
            return standard;
        }
        long size;
        try {
            size = Long.parseLong(wanted);
        } catch (NumberFormatException noNumber) {
            size = 0;
        }
        if (size < min || size > max || Long.bitCount(size) != 1) {
            throw new IllegalArgumentException("size is no power of two or out of range: " + property + "=" + wanted
                    + ", min=" + min + ", max=" + max);
        }
        return size;
    }

    // Restricted: the foreign linker and reinterpret. They are the point of this branch, and it is entered only when
    // native access is enabled for this module.
    @SuppressWarnings("restricted")
    private static HostReservation map() {
        Linker linker = Linker.nativeLinker();
        MethodHandle mmap = linker.downcallHandle(
                linker.defaultLookup().findOrThrow("mmap"),
                FunctionDescriptor.of(
                        ValueLayout.JAVA_LONG,
                        ValueLayout.JAVA_LONG,
                        ValueLayout.JAVA_LONG,
                        ValueLayout.JAVA_INT,
                        ValueLayout.JAVA_INT,
                        ValueLayout.JAVA_INT,
                        ValueLayout.JAVA_LONG));
        MethodHandle madvise = linker.downcallHandle(
                linker.defaultLookup().findOrThrow("madvise"),
                FunctionDescriptor.of(
                        ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG, ValueLayout.JAVA_LONG, ValueLayout.JAVA_INT));
        // A limit on address space (ulimit -v, a container) may refuse the usual size: halve until it fits.
        for (long size = wantedSize(DEFAULT_SIZE); size >= MIN_SIZE; size >>= 1) {
            long mapped = callMmap(mmap, size + ALIGNMENT + SLACK);
            if (mapped > 0) {
                long base = (mapped + ALIGNMENT - 1) & -ALIGNMENT;
                MemorySegment range = MemorySegment.ofAddress(base).reinterpret(size + SLACK);
                return new HostReservation(HostMemory.Kind.MMAP, range, size, madvise);
            }
        }
        return null;
    }

    private static long callMmap(MethodHandle mmap, long bytes) {
        try {
            return (long) mmap.invokeExact(0L, bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0L);
        } catch (Throwable failure) {
            throw new IllegalStateException("mmap cannot be called: bytes=" + bytes, failure);
        }
    }

    private static HostReservation file() {
        if (!Files.isDirectory(MEMORY_FILE_SYSTEM)) {
            return null;
        }
        try {
            long room = Files.getFileStore(MEMORY_FILE_SYSTEM).getUsableSpace();
            long size = Math.min(wantedSize(DEFAULT_SIZE), Long.highestOneBit(room));
            if (size < MIN_SIZE) {
                return null;
            }
            Path path = Files.createTempFile(MEMORY_FILE_SYSTEM, "tdpmmu", ".memory");
            try (FileChannel channel = FileChannel.open(
                    path, StandardOpenOption.READ, StandardOpenOption.WRITE, StandardOpenOption.SPARSE)) {
                MemorySegment range = channel.map(FileChannel.MapMode.READ_WRITE, 0, size + SLACK, Arena.global());
                return new HostReservation(HostMemory.Kind.FILE, range, size, null);
            } finally {
                // The mapping keeps the file alive; without a name it vanishes with the process, however that ends.
                Files.delete(path);
            }
        } catch (IOException noRoom) {
            LOG.log(Level.DEBUG, "host memory cannot be a file: directory=" + MEMORY_FILE_SYSTEM, noRoom);
            return null;
        }
    }

    private static HostReservation eager() {
        long size = wantedSize(EAGER_SIZE);
        MemorySegment range = Arena.global().allocate(size + SLACK, HostMemory.PAGE_SIZE);
        return new HostReservation(HostMemory.Kind.EAGER, range, size, null);
    }

    void giveBack(long hpa, long bytes) {
        if (madvise == null) {
            range.asSlice(hpa, bytes).fill((byte) 0);
            return;
        }
        int result = callMadvise(range.address() + hpa, bytes);
        if (result != 0) {
            throw new IllegalStateException("memory cannot be given back: hpa=0x" + Long.toHexString(hpa) + ", bytes="
                    + bytes + ", result=" + result);
        }
    }

    private int callMadvise(long address, long bytes) {
        try {
            return (int) madvise.invokeExact(address, bytes, MADV_DONTNEED);
        } catch (Throwable failure) {
            throw new IllegalStateException("madvise cannot be called: bytes=" + bytes, failure);
        }
    }
}
