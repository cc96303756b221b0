package dev.tdpmmu.examples;

import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** The size of an example's guest. */
final class GuestOptions {
    private static final int MAX_VCPUS = 1024;
    private static final long MAX_BYTES = 8L << 30;

    /** 1,024 pages, so that an eighth of a vCPU's share is more than its TLB keeps. */
    private static final long MIN_BYTES_PER_VCPU = 4L << 20;

    @Spec(Spec.Target.MIXEE)
    private CommandSpec spec;

    @Option(names = "--vcpus", paramLabel = "N", description = "How many vCPUs, 1 to 1024. Default: ${DEFAULT-VALUE}.")
    private int vcpus = 4;

    @Option(
            names = "--memory",
            paramLabel = "SIZE",
            converter = SizeConverter.class,
            defaultValue = "64m",
            description = "Guest memory, 4m for each vCPU to 8g, a multiple of 2m. Default: ${DEFAULT-VALUE}.")
    private long bytes;

    int vcpus() {
        if (vcpus < 1 || vcpus > MAX_VCPUS) {
            throw wrong("number of vCPUs is out of range: vcpus=" + vcpus + ", min=1, max=" + MAX_VCPUS);
        }
        return vcpus;
    }

    long bytes() {
        long min = vcpus() * MIN_BYTES_PER_VCPU;
        if (bytes < min || bytes > MAX_BYTES) {
            throw wrong("memory is out of range: memory=" + bytes + ", min=" + min + ", max=" + MAX_BYTES);
        }
        if (bytes % (2 << 20) != 0) {
            throw wrong("memory is no multiple of 2 MiB: memory=" + bytes);
        }
        return bytes;
    }

    private ParameterException wrong(String message) {
        return new ParameterException(spec.commandLine(), message);
    }
}
