package dev.tdpmmu.structure;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.classfile.Annotation;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.lang.classfile.attribute.RuntimeInvisibleAnnotationsAttribute;
import java.lang.constant.ClassDesc;
import java.lang.constant.ConstantDescs;
import java.lang.reflect.Method;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;

/** Methods marked as hot keep what the mark promises; the checker is also shown to see each way of breaking it. */
final class HotPathContractTest {
    private static final int FEWEST_HOT_METHODS = 20;

    @Test
    void hotMethodsKeepTheirPromise() throws IOException {
        HotPathRules.Result result = HotPathRules.check(ClassFiles.ofEngine());

        assertTrue(result.violations().isEmpty(), () -> String.join("\n", result.violations()));
        assertTrue(result.hotMethods() >= FEWEST_HOT_METHODS, "hotMethods=" + result.hotMethods());
    }

    @Test
    void eachWayOfBreakingThePromiseIsReported() throws IOException {
        HotPathRules.Result result = HotPathRules.check(fixturesOf(HotPathFixtures.Broken.class));

        Set<String> reported = new TreeSet<>();
        for (String violation : result.violations()) {
            String kind = violation.split("[ :]")[0];
            String method = violation.replaceFirst(".*Broken\\.(\\w+).*", "$1");
            assertTrue(method.startsWith(kind), violation);
            assertTrue(reported.add(method), "reported twice: " + violation);
        }
        assertEquals(methodsOf(HotPathFixtures.Broken.class), reported);
        assertEquals(reported.size(), result.hotMethods());
    }

    @Test
    void methodsThatKeepThePromiseAreNotReported() throws IOException {
        HotPathRules.Result result = HotPathRules.check(fixturesOf(HotPathFixtures.Sound.class));

        assertEquals(List.of(), result.violations());
        assertEquals(3, result.hotMethods());
    }

    @Test
    void methodOfOneByteTooManyIsReported() {
        HotPathRules.Result longest = HotPathRules.check(methodOfBytes(HotPathRules.MAX_CODE_BYTES));
        HotPathRules.Result tooLong = HotPathRules.check(methodOfBytes(HotPathRules.MAX_CODE_BYTES + 1));

        assertEquals(List.of(), longest.violations());
        assertEquals(1, tooLong.violations().size());
        assertTrue(
                tooLong.violations().getFirst().startsWith("too long"),
                tooLong.violations().toString());
    }

    @Test
    void promiseOfAnAbstractMethodBindsItsImplementations() throws IOException {
        Map<String, ClassModel> halfMarked = ClassFiles.of(
                HotPathFixtures.HalfMarked.class, HotPathFixtures.Marked.class, HotPathFixtures.Unmarked.class);
        Map<String, ClassModel> unsealed = ClassFiles.of(HotPathFixtures.Unsealed.class);

        List<String> unmarked = HotPathRules.check(halfMarked).violations();
        List<String> many = HotPathRules.check(unsealed).violations();

        assertEquals(1, unmarked.size(), unmarked.toString());
        assertTrue(unmarked.getFirst().startsWith("implementation is not marked"), unmarked.toString());
        assertEquals(1, many.size(), many.toString());
        assertTrue(many.getFirst().startsWith("has many implementations"), many.toString());
    }

    private static Set<String> methodsOf(Class<?> type) {
        Set<String> names = new TreeSet<>();
        for (Method method : type.getDeclaredMethods()) {
            if (!method.isSynthetic()) {
                names.add(method.getName());
            }
        }
        return names;
    }

    /** Returns a subject and what it calls. */
    private static Map<String, ClassModel> fixturesOf(Class<?> subject) throws IOException {
        Map<String, ClassModel> classes = ClassFiles.of(
                subject,
                HotPathFixtures.TwoTargets.class,
                HotPathFixtures.First.class,
                HotPathFixtures.ThreeTargets.class,
                HotPathFixtures.Open.class,
                HotPathFixtures.Choice.class);
        classes.putAll(ClassFiles.of(subject.getDeclaredClasses()));
        return classes;
    }

    private static Map<String, ClassModel> methodOfBytes(int bytes) {
        byte[] file = ClassFile.of()
                .build(
                        ClassDesc.of("dev.tdpmmu.mmu.Long"),
                        type -> type.withMethod(
                                "planted",
                                ConstantDescs.MTD_void,
                                ClassFile.ACC_STATIC,
                                method -> method.with(RuntimeInvisibleAnnotationsAttribute.of(
                                                Annotation.of(ClassDesc.of("dev.tdpmmu.base.HotPath"))))
                                        .withCode(code -> {
                                            for (int i = 1; i < bytes; i++) {
                                                code.nop();
                                            }
                                            code.return_();
                                        })));
        return ClassFiles.of(List.of(file));
    }
}
