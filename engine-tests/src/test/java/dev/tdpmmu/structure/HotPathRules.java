package dev.tdpmmu.structure;

import java.lang.classfile.Attributes;
import java.lang.classfile.ClassModel;
import java.lang.classfile.CodeElement;
import java.lang.classfile.MethodModel;
import java.lang.classfile.Opcode;
import java.lang.classfile.attribute.CodeAttribute;
import java.lang.classfile.instruction.InvokeDynamicInstruction;
import java.lang.classfile.instruction.InvokeInstruction;
import java.lang.classfile.instruction.NewMultiArrayInstruction;
import java.lang.classfile.instruction.NewObjectInstruction;
import java.lang.classfile.instruction.NewPrimitiveArrayInstruction;
import java.lang.classfile.instruction.NewReferenceArrayInstruction;
import java.lang.reflect.AccessFlag;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** What a method that is marked {@link dev.tdpmmu.base.HotPath} must keep, read from its class file. */
final class HotPathRules {
    /** HotSpot inlines no hot method that is longer (FreqInlineSize). */
    static final int MAX_CODE_BYTES = 325;

    private static final int MAX_PERMITS = 2;
    private static final String HOT_PATH = "Ldev/tdpmmu/base/HotPath;";
    private static final String OURS = "dev/tdpmmu/";
    private static final String ANY = "*";

    /** Calls out of the engine that neither allocate nor dispatch: by owner, the names. */
    private static final Map<String, Set<String>> ALLOWED_OUTSIDE = Map.ofEntries(
            Map.entry("java/lang/invoke/VarHandle", Set.of(ANY)),
            Map.entry("java/lang/Math", Set.of(ANY)),
            Map.entry(
                    "java/lang/Long",
                    Set.of(
                            "bitCount",
                            "numberOfTrailingZeros",
                            "numberOfLeadingZeros",
                            "highestOneBit",
                            "lowestOneBit",
                            "rotateLeft",
                            "rotateRight",
                            "reverse",
                            "reverseBytes",
                            "compare",
                            "compareUnsigned",
                            "divideUnsigned",
                            "remainderUnsigned",
                            "hashCode",
                            "max",
                            "min")),
            Map.entry(
                    "java/lang/Integer",
                    Set.of(
                            "bitCount",
                            "numberOfTrailingZeros",
                            "numberOfLeadingZeros",
                            "highestOneBit",
                            "lowestOneBit",
                            "rotateLeft",
                            "rotateRight",
                            "reverseBytes",
                            "compare",
                            "compareUnsigned",
                            "toUnsignedLong",
                            "max",
                            "min")),
            Map.entry("java/lang/Byte", Set.of("toUnsignedInt", "toUnsignedLong")),
            Map.entry("java/lang/Short", Set.of("toUnsignedInt", "toUnsignedLong", "reverseBytes")),
            Map.entry("java/lang/Thread", Set.of("onSpinWait")),
            Map.entry("java/lang/System", Set.of("nanoTime")),
            Map.entry("java/lang/Enum", Set.of("ordinal")),
            // Interface calls, but always on the one constant segment, whose class the compiler knows.
            Map.entry("java/lang/foreign/MemorySegment", Set.of("get", "set", "copy")));

    private final Map<String, ClassModel> classes;
    private final List<String> violations = new ArrayList<>();
    private int hotMethods;

    private HotPathRules(Map<String, ClassModel> classes) {
        this.classes = classes;
    }

    /**
     * What was found.
     *
     * @param hotMethods methods with code that are marked
     * @param violations one line for each rule that a method breaks
     */
    record Result(int hotMethods, List<String> violations) {}

    static Result check(Map<String, ClassModel> classes) {
        var rules = new HotPathRules(classes);
        for (ClassModel type : classes.values()) {
            for (MethodModel method : type.methods()) {
                if (isHot(method)) {
                    rules.checkMethod(type, method);
                }
            }
        }
        return new Result(rules.hotMethods, rules.violations);
    }

    private static boolean isHot(MethodModel method) {
        return method.findAttribute(Attributes.runtimeInvisibleAnnotations()).stream()
                .flatMap(attribute -> attribute.annotations().stream())
                .anyMatch(annotation -> annotation.className().equalsString(HOT_PATH));
    }

    private void checkMethod(ClassModel type, MethodModel method) {
        String where = type.thisClass().asInternalName().replace('/', '.') + "."
                + method.methodName().stringValue() + method.methodType().stringValue();
        CodeAttribute code = method.findAttribute(Attributes.code()).orElse(null);
        if (code == null) {
            checkImplementations(type, method, where);
            return;
        }
        hotMethods++;
        if (code.codeLength() > MAX_CODE_BYTES) {
            violations.add("too long: method=" + where + ", bytes=" + code.codeLength() + ", max=" + MAX_CODE_BYTES);
        }
        for (CodeElement element : code) {
            checkElement(element, where);
        }
    }

    /** A promise of an abstract method is kept by those who implement it, so they must give it as well. */
    private void checkImplementations(ClassModel type, MethodModel method, String where) {
        if (!isFewTargets(type)) {
            violations.add("has many implementations: method=" + where);
        }
        for (ClassModel subtype : classes.values()) {
            if (!isDirectSubtype(subtype, type)) {
                continue;
            }
            MethodModel implementation = find(
                    subtype,
                    method.methodName().stringValue(),
                    method.methodType().stringValue());
            if (implementation != null && !isHot(implementation)) {
                violations.add("implementation is not marked: method=" + where + ", in="
                        + subtype.thisClass().asInternalName().replace('/', '.'));
            }
        }
    }

    private static boolean isDirectSubtype(ClassModel subtype, ClassModel type) {
        String name = type.thisClass().asInternalName();
        return subtype.superclass()
                        .map(parent -> parent.asInternalName().equals(name))
                        .orElse(false)
                || subtype.interfaces().stream()
                        .anyMatch(parent -> parent.asInternalName().equals(name));
    }

    private void checkElement(CodeElement element, String where) {
        switch (element) {
            case NewObjectInstruction made ->
                violations.add("allocates: method=" + where + ", class="
                        + made.className().asInternalName());
            case NewPrimitiveArrayInstruction made ->
                violations.add("allocates: method=" + where + ", array=" + made.typeKind());
            case NewReferenceArrayInstruction made ->
                violations.add("allocates: method=" + where + ", array="
                        + made.componentType().asInternalName());
            case NewMultiArrayInstruction made ->
                violations.add("allocates: method=" + where + ", array="
                        + made.arrayType().asInternalName());
            case InvokeDynamicInstruction dynamic ->
                violations.add("invokes dynamically (lambda, concatenation or pattern switch): method=" + where
                        + ", name=" + dynamic.name().stringValue());
            case InvokeInstruction call -> checkCall(call, where);
            default -> {
                // Every other instruction stays on the operand stack.
            }
        }
    }

    private void checkCall(InvokeInstruction call, String where) {
        String owner = call.owner().asInternalName();
        String name = call.name().stringValue();
        if (name.equals("<init>")) {
            // The allocation before it is what gets reported; without one it is a call of the super constructor.
            return;
        }
        String what = ": method=" + where + ", call=" + owner.replace('/', '.') + "." + name
                + call.type().stringValue();
        if (name.equals("valueOf") && owner.startsWith("java/lang/")) {
            violations.add("boxes" + what);
            return;
        }
        if (!owner.startsWith(OURS)) {
            if (!isAllowedOutside(owner, name)) {
                violations.add("leaves the engine" + what);
            }
            return;
        }
        if (call.opcode() == Opcode.INVOKESTATIC || call.opcode() == Opcode.INVOKESPECIAL) {
            return;
        }
        if (!isBound(owner, name, call.type().stringValue())) {
            violations.add("dispatches" + what);
        }
    }

    private static boolean isAllowedOutside(String owner, String name) {
        Set<String> names = ALLOWED_OUTSIDE.getOrDefault(owner, Set.of());
        return names.contains(ANY) || names.contains(name);
    }

    /** Tells whether a virtual or interface call has one or two targets at most. */
    private boolean isBound(String owner, String name, String descriptor) {
        ClassModel type = classes.get(owner);
        if (type == null) {
            return false;
        }
        MethodModel method = find(type, name, descriptor);
        if (method == null) {
            // Inherited: from a class of ours, else from the JDK, of which only what is listed above may be called.
            String parent = type.superclass().orElseThrow().asInternalName();
            return parent.startsWith(OURS)
                    ? isFewTargets(type) || isBound(parent, name, descriptor)
                    : isAllowedOutside(parent, name);
        }
        return isFewTargets(type)
                || method.flags().has(AccessFlag.FINAL)
                || method.flags().has(AccessFlag.PRIVATE);
    }

    private static boolean isFewTargets(ClassModel type) {
        return type.flags().has(AccessFlag.FINAL)
                || type.findAttribute(Attributes.permittedSubclasses())
                        .map(permits -> permits.permittedSubclasses().size() <= MAX_PERMITS)
                        .orElse(false);
    }

    private static MethodModel find(ClassModel type, String name, String descriptor) {
        for (MethodModel method : type.methods()) {
            if (method.methodName().equalsString(name) && method.methodType().equalsString(descriptor)) {
                return method;
            }
        }
        return null;
    }
}
