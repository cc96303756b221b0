package dev.tdpmmu.examples;

import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** The command line of the examples; each example is a subcommand. */
@Command(
        name = "tdpmmu-examples",
        description = "Examples of the TDP MMU engine.",
        mixinStandardHelpOptions = true,
        version = "tdpmmu-examples 0.1.0",
        subcommands = {BootCommand.class, FirstGuestCommand.class},
        synopsisSubcommandLabel = "COMMAND")
public final class Main {
    @Spec
    private CommandSpec spec;

    private Main() {}

    /**
     * Runs a subcommand and ends the process: 0 if all is well, 1 if a check failed, 2 if the options are wrong.
     *
     * @param args options
     */
    public static void main(String[] args) {
        System.exit(commandLine().execute(args));
    }

    static CommandLine commandLine() {
        CommandLine commandLine = new CommandLine(new Main());
        commandLine.setCaseInsensitiveEnumValuesAllowed(true);
        commandLine.setExecutionExceptionHandler((failure, failed, parsed) -> {
            failed.getErr().println(failed.getColorScheme().errorText("failed: " + failure.getMessage()));
            failure.printStackTrace(failed.getErr());
            return failed.getCommandSpec().exitCodeOnExecutionException();
        });
        return commandLine;
    }

    @Command(
            name = "pre-copy",
            description = "Moves a running guest to another VM: dirty log, rounds of copying, a pause.",
            mixinStandardHelpOptions = true)
    int preCopy(@Mixin GuestOptions guest) {
        return exitCode(PreCopyDirtyLoop.run(spec.commandLine().getOut(), guest.bytes(), guest.vcpus()));
    }

    @Command(
            name = "working-set",
            description = "Estimates how much memory a guest really uses, beside the truth.",
            mixinStandardHelpOptions = true)
    int workingSet(@Mixin GuestOptions guest) {
        return exitCode(WorkingSetEstimation.run(spec.commandLine().getOut(), guest.bytes(), guest.vcpus()));
    }

    @Command(
            name = "balloon",
            description = "Takes unused pages from a running guest and gives them back.",
            mixinStandardHelpOptions = true)
    int balloon(@Mixin GuestOptions guest) {
        return exitCode(Balloon.run(spec.commandLine().getOut(), guest.bytes(), guest.vcpus()));
    }

    @Command(
            name = "slot-hot-plug",
            description = "Adds, moves and removes memory beside running vCPUs.",
            mixinStandardHelpOptions = true)
    int slotHotPlug(@Mixin GuestOptions guest) {
        return exitCode(SlotHotPlug.run(spec.commandLine().getOut(), guest.bytes(), guest.vcpus()));
    }

    @Command(
            name = "write-watch",
            description = "Finds the vCPU that corrupts a word, by a watchpoint on it.",
            mixinStandardHelpOptions = true)
    int writeWatch() {
        return exitCode(WriteWatchDebugger.run(spec.commandLine().getOut()));
    }

    @Command(
            name = "table-dump",
            description = "Explains an access before and after its fault, dumps the tables, and compares two dumps.",
            mixinStandardHelpOptions = true)
    int tableDump(@Option(names = "--json", description = "Print dump and difference as JSON.") boolean json) {
        return exitCode(TableDumps.run(spec.commandLine().getOut(), json));
    }

    private static int exitCode(boolean isSound) {
        return isSound ? 0 : 1;
    }
}
