package dev.tdpmmu.examples;

import picocli.CommandLine.Command;

/** Runs {@link FirstGuest}. */
@Command(
        name = "first-guest",
        description = "One slot, one vCPU, one store, one load.",
        mixinStandardHelpOptions = true)
final class FirstGuestCommand implements Runnable {
    @Override
    public void run() {
        FirstGuest.main(new String[0]);
    }
}
