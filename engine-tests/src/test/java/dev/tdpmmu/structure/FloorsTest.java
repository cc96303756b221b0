package dev.tdpmmu.structure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.lang.constant.ClassDesc;
import java.lang.constant.ConstantDescs;
import java.lang.constant.MethodTypeDesc;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.junit.jupiter.api.Test;

/** A package of the engine mentions only floors below it; the rule is also shown to bite. */
final class FloorsTest {
    private static final String TLB = "dev.tdpmmu.hardware.Tlb";

    @Test
    void packagesMentionOnlyFloorsBelow() throws IOException {
        Collection<ClassModel> classes = ClassFiles.ofEngine().values();

        List<String> violations = FloorRules.violations(classes);

        assertTrue(violations.isEmpty(), () -> String.join("\n", violations));
    }

    @Test
    void plantedImportIsReportedWhereverItStands() throws IOException {
        var field = ClassFile.of()
                .build(
                        ClassDesc.of("dev.tdpmmu.mmu.Field"),
                        type -> type.withField("planted", ClassDesc.of(TLB), ClassFile.ACC_PRIVATE));
        var arrayOfArrays = ClassFile.of()
                .build(
                        ClassDesc.of("dev.tdpmmu.mmu.Arrays"),
                        type -> type.withField("planted", ClassDesc.of(TLB).arrayType(2), ClassFile.ACC_PRIVATE));
        var call = ClassFile.of()
                .build(
                        ClassDesc.of("dev.tdpmmu.mmu.Call"),
                        type -> type.withMethodBody(
                                "planted",
                                ConstantDescs.MTD_void,
                                ClassFile.ACC_STATIC,
                                code -> code.invokestatic(ClassDesc.of(TLB), "flush", ConstantDescs.MTD_void)
                                        .return_()));
        var parameter = ClassFile.of()
                .build(
                        ClassDesc.of("dev.tdpmmu.mmu.Parameter"),
                        type -> type.withMethod(
                                "planted",
                                MethodTypeDesc.of(ConstantDescs.CD_void, ClassDesc.of(TLB)),
                                ClassFile.ACC_ABSTRACT,
                                method -> {}));

        for (byte[] planted : List.of(field, arrayOfArrays, call, parameter)) {
            List<String> violations = FloorRules.violations(withEngine(planted));

            assertEquals(1, violations.size(), violations.toString());
            assertTrue(violations.getFirst().startsWith("not a floor below"), violations.toString());
        }
    }

    @Test
    void plantedForeignMemoryIsReported() throws IOException {
        List<String> violations = FloorRules.violations(
                withEngine(withField("dev.tdpmmu.sync.Planted", "java.lang.foreign.MemorySegment")));

        assertEquals(1, violations.size(), violations.toString());
        assertTrue(violations.getFirst().startsWith("foreign memory outside memory"), violations.toString());
    }

    @Test
    void plantedPackageIsReported() throws IOException {
        List<String> violations =
                FloorRules.violations(withEngine(withField("dev.tdpmmu.util.Planted", "java.lang.String")));

        assertEquals(List.of("unknown package: class=dev/tdpmmu/util/Planted"), violations);
    }

    @Test
    void simSeesTheRootButNotTheFloorsBelowIt() throws IOException {
        List<String> allowed =
                FloorRules.violations(withEngine(withField("dev.tdpmmu.sim.Planted", "dev.tdpmmu.Planted")));
        List<String> refused =
                FloorRules.violations(withEngine(withField("dev.tdpmmu.sim.Planted", "dev.tdpmmu.mmu.TdpMmu")));

        assertEquals(List.of(), allowed);
        assertEquals(1, refused.size(), refused.toString());
    }

    @Test
    void cycleIsReported() {
        Collection<ClassModel> classes = ClassFiles.of(List.of(
                        withField("dev.tdpmmu.base.Planted", "dev.tdpmmu.config.Planted"),
                        withField("dev.tdpmmu.config.Planted", "dev.tdpmmu.base.Planted")))
                .values();

        List<String> violations = FloorRules.violations(classes);

        assertTrue(
                violations.stream().anyMatch(violation -> violation.startsWith("cycle through package: package=base")),
                violations.toString());
    }

    private static byte[] withField(String className, String fieldType) {
        return ClassFile.of()
                .build(
                        ClassDesc.of(className),
                        type -> type.withField("planted", ClassDesc.of(fieldType), ClassFile.ACC_PRIVATE));
    }

    private static Collection<ClassModel> withEngine(byte[] planted) throws IOException {
        Collection<ClassModel> classes = new ArrayList<>(ClassFiles.ofEngine().values());
        classes.addAll(ClassFiles.of(List.of(planted)).values());
        return classes;
    }
}
