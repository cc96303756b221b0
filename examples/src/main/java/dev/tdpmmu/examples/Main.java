package dev.tdpmmu.examples;

import picocli.CommandLine;
import picocli.CommandLine.Command;

/** The command line of the examples; each example is a subcommand. */
@Command(
        name = "tdpmmu-examples",
        description = "Examples of the TDP MMU engine.",
        mixinStandardHelpOptions = true,
        version = "tdpmmu-examples 0.1.0",
        subcommands = {BootCommand.class, FirstGuestCommand.class},
        synopsisSubcommandLabel = "COMMAND")
public final class Main {
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
}
