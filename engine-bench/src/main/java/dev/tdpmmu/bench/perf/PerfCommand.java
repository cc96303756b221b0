package dev.tdpmmu.bench.perf;

import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;

/** The command whose subcommands are the programs of this package. */
@Command(
        name = "perf",
        mixinStandardHelpOptions = true,
        description = "Performance programs after the kernel's own. Each prints a table, and writes JSON and CSV.",
        synopsisSubcommandLabel = "PROGRAM")
public final class PerfCommand {
    private PerfCommand() {}

    /**
     * Runs one of the programs.
     *
     * @param args its name and its options
     * @return exit code: 0 if it came to its end, 1 if not, 2 if the options are wrong
     */
    public static int execute(String... args) {
        CommandLine all = new CommandLine(new PerfCommand());
        for (Callable<Integer> program : programs()) {
            all.addSubcommand(null, program, program.getClass().getSimpleName());
        }
        return set(all).execute(args);
    }

    static int execute(Callable<Integer> program, String... args) {
        return set(new CommandLine(program)).execute(args);
    }

    static List<Callable<Integer>> programs() {
        return List.of(
                new DemandPagingPerf(),
                new DirtyLogPerf(),
                new AccessTrackingPerf(),
                new MemSlotModificationPerf(),
                new MemSlotPerf(),
                new MmuStress());
    }

    private static CommandLine set(CommandLine commandLine) {
        return commandLine.setCaseInsensitiveEnumValuesAllowed(true).setAbbreviatedOptionsAllowed(false);
    }
}
