package dev.tdpmmu.structure;

import java.lang.classfile.ClassModel;
import java.lang.classfile.constantpool.ClassEntry;
import java.lang.classfile.constantpool.PoolEntry;
import java.lang.classfile.constantpool.Utf8Entry;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The floors of the engine: which package may mention which.
 *
 * <p>What a class mentions is read from its constant pool: classes, and the types of descriptors, signatures and
 * annotations. A constant that the compiler inlines leaves no trace there.
 */
final class FloorRules {
    /** Name used here for the package {@code dev.tdpmmu} itself. */
    static final String ROOT = "(root)";

    private static final String PREFIX = "dev/tdpmmu/";
    private static final String FOREIGN = "java/lang/foreign/";
    private static final Pattern TYPE_IN_TEXT = Pattern.compile("L([\\w/$]+)[;<]");

    private static final Map<String, Set<String>> MAY_IMPORT = Map.ofEntries(
            Map.entry("base", Set.of()),
            Map.entry("config", Set.of("base")),
            Map.entry("memory", Set.of("base", "config")),
            Map.entry("trace", Set.of("base", "config")),
            Map.entry("spte", Set.of("base", "config")),
            Map.entry("sync", Set.of("base", "config", "memory", "trace")),
            Map.entry("hardware", Set.of("base", "config", "memory", "sync", "trace")),
            Map.entry("slot", Set.of("base", "config", "memory", "sync")),
            Map.entry("mmu", Set.of("base", "config", "memory", "trace", "spte", "sync", "slot")),
            Map.entry(ROOT, Set.of("base", "config", "memory", "trace", "spte", "sync", "hardware", "slot", "mmu")),
            Map.entry("sim", Set.of(ROOT, "base", "config")));

    private FloorRules() {}

    static List<String> violations(Collection<ClassModel> classes) {
        List<String> violations = new ArrayList<>();
        Map<String, Set<String>> edges = new TreeMap<>();
        for (ClassModel type : classes) {
            String name = type.thisClass().asInternalName();
            String floor = floorOf(name);
            if (!MAY_IMPORT.containsKey(floor)) {
                violations.add("unknown package: class=" + name);
                continue;
            }
            for (String mentioned : mentions(type)) {
                check(name, floor, mentioned, violations, edges);
            }
        }
        violations.addAll(cycles(edges));
        return violations;
    }

    private static void check(
            String name, String floor, String mentioned, List<String> violations, Map<String, Set<String>> edges) {
        if (mentioned.startsWith(FOREIGN) && !floor.equals("memory")) {
            violations.add("foreign memory outside memory: class=" + name + ", mentions=" + mentioned);
        }
        String other = floorOf(mentioned);
        if (other.isEmpty() || other.equals(floor)) {
            return;
        }
        edges.computeIfAbsent(floor, from -> new TreeSet<>()).add(other);
        if (!MAY_IMPORT.get(floor).contains(other)) {
            violations.add("not a floor below: class=" + name + ", mentions=" + mentioned + ", floor=" + floor
                    + ", mayImport=" + new TreeSet<>(MAY_IMPORT.get(floor)));
        }
    }

    /** Returns the floor of one of our classes, empty for a class of others. */
    private static String floorOf(String internalName) {
        if (!internalName.startsWith(PREFIX)) {
            return "";
        }
        String rest = internalName.substring(PREFIX.length());
        int slash = rest.lastIndexOf('/');
        return slash < 0 ? ROOT : rest.substring(0, slash);
    }

    static Set<String> mentions(ClassModel type) {
        Set<String> mentions = new TreeSet<>();
        for (PoolEntry entry : type.constantPool()) {
            if (entry instanceof ClassEntry mentioned) {
                addClass(mentioned.asInternalName(), mentions);
            } else if (entry instanceof Utf8Entry text) {
                addTypesOf(text.stringValue(), mentions);
            }
        }
        return mentions;
    }

    private static void addClass(String internalName, Set<String> mentions) {
        if (internalName.startsWith("[")) {
            addTypesOf(internalName, mentions);
        } else {
            mentions.add(internalName);
        }
    }

    private static void addTypesOf(String text, Set<String> mentions) {
        Matcher types = TYPE_IN_TEXT.matcher(text);
        int from = 0;
        while (types.find(from)) {
            mentions.add(types.group(1));
            // Behind the L, not behind the match: a generic type may stand in another.
            from = types.start() + 1;
        }
    }

    private static List<String> cycles(Map<String, Set<String>> edges) {
        List<String> cycles = new ArrayList<>();
        for (String floor : edges.keySet()) {
            Set<String> reached = new TreeSet<>();
            List<String> open = new ArrayList<>(edges.get(floor));
            while (!open.isEmpty()) {
                String next = open.removeLast();
                if (reached.add(next)) {
                    open.addAll(edges.getOrDefault(next, Set.of()));
                }
            }
            if (reached.contains(floor)) {
                cycles.add("cycle through package: package=" + floor + ", reaches=" + reached);
            }
        }
        return cycles;
    }
}
