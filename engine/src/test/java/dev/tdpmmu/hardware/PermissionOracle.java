package dev.tdpmmu.hardware;

/**
 * What the manuals say of one translation, written from their text: no mask and no code of the walkers. Entries come
 * from the root down, as four letters of permissions; nothing else is wrong with them.
 */
final class PermissionOracle {
    enum Verdict {
        DONE,
        VIOLATION,
        MALFORMED
    }

    enum Kind {
        READ,
        WRITE,
        FETCH,
        /** The processor reads an entry of a guest page table. */
        TABLE_READ,
        /** The processor sets a flag in an entry of a guest page table. */
        TABLE_WRITE;

        boolean isTable() {
            return this == TABLE_READ || this == TABLE_WRITE;
        }
    }

    Verdict verdict;

    /** Exit qualification or error code of a violation. */
    long report;

    /** Whether the leaf becomes dirty. */
    boolean stores;

    // What every access may do, whoever makes it.
    boolean everyoneLoads;
    boolean everyoneStores;
    boolean everyoneFetches;

    // What the processor is.
    boolean accessedDirty;
    boolean executeOnly;
    boolean modeBasedExecute;
    boolean noExecute;
    boolean guestModeExecuteTrap;

    /**
     * SDM: an entry is present if it allows anything. It is misconfigured if it allows stores without loads, or
     * fetches without loads on a processor that does not have this. An access needs its permission in every entry.
     */
    void extended(boolean[][] entries, Kind kind, boolean supervisorPage) {
        // "If accessed and dirty flags are enabled, accesses to guest paging-structure entries are treated as writes."
        boolean asStore = kind.isTable() && accessedDirty;
        boolean loads = kind == Kind.READ || kind == Kind.TABLE_READ || asStore;
        stores = kind == Kind.WRITE || kind == Kind.TABLE_WRITE || asStore;
        boolean fetches = kind == Kind.FETCH;
        boolean allLoads = true;
        boolean allStores = true;
        boolean allFetches = true;
        boolean allUserFetches = true;
        verdict = Verdict.DONE;
        for (int i = 0; i < entries.length; i++) {
            boolean mayLoad = entries[i][0];
            boolean mayStore = entries[i][1];
            boolean mayFetch = entries[i][2];
            boolean mayFetchAsUser = modeBasedExecute && entries[i][3];
            if (!mayLoad && !mayStore && !mayFetch && !mayFetchAsUser) {
                allLoads = false;
                allStores = false;
                allFetches = false;
                allUserFetches = false;
                verdict = Verdict.VIOLATION;
                break;
            }
            if (mayStore && !mayLoad) {
                verdict = Verdict.MALFORMED;
                return;
            }
            if (!mayLoad && !executeOnly) {
                verdict = Verdict.MALFORMED;
                return;
            }
            allLoads = allLoads && mayLoad;
            allStores = allStores && mayStore;
            allFetches = allFetches && mayFetch;
            allUserFetches = allUserFetches && mayFetchAsUser;
        }
        boolean mayFetchThis = modeBasedExecute && !supervisorPage ? allUserFetches : allFetches;
        if (loads && !allLoads || stores && !allStores || fetches && !mayFetchThis) {
            verdict = Verdict.VIOLATION;
        }
        everyoneLoads = allLoads;
        everyoneStores = allStores;
        everyoneFetches = modeBasedExecute ? allFetches && allUserFetches : allFetches;
        report = 128;
        report += loads ? 1 : 0;
        report += stores ? 2 : 0;
        report += fetches ? 4 : 0;
        report += allLoads ? 8 : 0;
        report += allStores ? 16 : 0;
        report += allFetches ? 32 : 0;
        report += modeBasedExecute && allUserFetches ? 64 : 0;
        report += kind.isTable() ? 0 : 256;
    }

    /**
     * APM: nested accesses are user accesses, those to guest page tables are also stores. A set no-execute bit is
     * reserved where the feature is off. The trap: a page is the user's if all entries say so; the supervisor may not
     * execute it, and all other pages are closed to the user.
     */
    void nested(boolean[][] entries, Kind kind, boolean privileged) {
        stores = kind == Kind.WRITE || kind.isTable();
        boolean fetches = kind == Kind.FETCH;
        boolean supervisor = privileged && !kind.isTable();
        boolean present = true;
        boolean allStores = true;
        boolean allUser = true;
        boolean allFetches = true;
        verdict = Verdict.DONE;
        for (int i = 0; i < entries.length && present; i++) {
            present = entries[i][0];
            if (present && entries[i][3] && !noExecute) {
                verdict = Verdict.MALFORMED;
                break;
            }
            if (present) {
                allStores = allStores && entries[i][1];
                allUser = allUser && entries[i][2];
                allFetches = allFetches && !entries[i][3];
            }
        }
        boolean closed = guestModeExecuteTrap && supervisor ? allUser && fetches : !allUser;
        if (verdict == Verdict.DONE && (!present || closed || stores && !allStores || fetches && !allFetches)) {
            verdict = Verdict.VIOLATION;
        }
        everyoneLoads = allUser;
        everyoneStores = allUser && allStores;
        everyoneFetches = allUser && allFetches && !guestModeExecuteTrap;
        boolean fetchIsTold = fetches && (noExecute || guestModeExecuteTrap);
        report = 4 + (kind.isTable() ? 0x2_0000_0000L : 0x1_0000_0000L);
        report += present ? 1 : 0;
        report += stores ? 2 : 0;
        report += verdict == Verdict.MALFORMED ? 8 : 0;
        report += fetchIsTold ? 16 : 0;
    }
}
