package dev.tdpmmu.examples;

import dev.tdpmmu.Vm;
import dev.tdpmmu.sim.BootListener;
import dev.tdpmmu.sim.BootPhase;
import java.io.PrintWriter;
import java.util.Locale;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarConsumer;
import me.tongfei.progressbar.ProgressBarStyle;

/** Draws a progress bar a phase. */
final class BootProgress implements BootListener, AutoCloseable {
    private static final int TERMINAL_INTERVAL_MILLIS = 100;

    /** A log keeps every line, so it gets few. */
    private static final int LOG_INTERVAL_MILLIS = 5_000;

    private final PrintWriter out;
    private final boolean terminal;

    /** Replaced while no vCPU runs; vCPUs only step it, which it does under a lock of its own. */
    private volatile ProgressBar bar;

    BootProgress(PrintWriter out) {
        this.out = out;
        this.terminal = System.console() != null && System.console().isTerminal();
    }

    @Override
    public void phaseStarts(Vm vm, BootPhase phase, long steps) {
        boolean records = phase == BootPhase.REPLAY;
        bar = new ProgressBarBuilder()
                .setTaskName("%-22s"
                        .formatted(vm.config().name() + " " + phase.toString().toLowerCase(Locale.ROOT)))
                .setInitialMax(steps)
                .setUnit(records ? "M records" : "k pages", records ? 1_000_000 : 1_000)
                .setStyle(ProgressBarStyle.ASCII)
                .setUpdateIntervalMillis(terminal ? TERMINAL_INTERVAL_MILLIS : LOG_INTERVAL_MILLIS)
                .setConsumer(new Line(out, terminal))
                .build();
    }

    @Override
    public void stepsDone(Vm vm, long steps) {
        bar.stepBy(steps);
    }

    @Override
    public void phaseEnds(Vm vm, BootPhase phase) {
        close();
    }

    @Override
    public void close() {
        ProgressBar ended = bar;
        bar = null;
        if (ended != null) {
            ended.close();
        }
    }

    /**
     * Where the bar is drawn. The library's own way asks a terminal library for the width, which warns of missing
     * native code where there is no terminal.
     */
    private static final class Line implements ProgressBarConsumer {
        private static final int WIDTH = 110;

        private final PrintWriter out;
        private final boolean terminal;

        /** What was drawn last; a log does without the empty bar that comes first, and without the full one twice. */
        private String shown = "";

        Line(PrintWriter out, boolean terminal) {
            this.out = out;
            this.terminal = terminal;
        }

        @Override
        public int getMaxRenderedLength() {
            return WIDTH;
        }

        @Override
        public void accept(String text) {
            if (terminal) {
                out.print('\r' + text);
            } else if (!shown.isEmpty() && !shown.equals(text)) {
                out.println(text);
            }
            shown = text;
            out.flush();
        }

        @Override
        public void close() {
            if (terminal) {
                out.println();
            }
            out.flush();
        }
    }
}
