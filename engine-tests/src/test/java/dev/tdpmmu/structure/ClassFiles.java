package dev.tdpmmu.structure;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;

/** Class files by internal name, parsed. */
final class ClassFiles {
    private static final String DIRECTORY_PROPERTY = "tdpmmu.engine.classes";

    private ClassFiles() {}

    static Map<String, ClassModel> ofEngine() throws IOException {
        Path root = Path.of(System.getProperty(DIRECTORY_PROPERTY, "../engine/target/classes"));
        assertTrue(Files.isDirectory(root), "no engine classes: " + DIRECTORY_PROPERTY + "=" + root);
        Map<String, ClassModel> classes = new TreeMap<>();
        try (Stream<Path> files = Files.walk(root)) {
            for (Path file : files.filter(ClassFiles::isClass).toList()) {
                add(classes, Files.readAllBytes(file));
            }
        }
        assertFalse(classes.isEmpty(), "no engine classes: " + DIRECTORY_PROPERTY + "=" + root);
        return classes;
    }

    static Map<String, ClassModel> of(Class<?>... types) throws IOException {
        Map<String, ClassModel> classes = new TreeMap<>();
        for (Class<?> type : types) {
            String resource = "/" + type.getName().replace('.', '/') + ".class";
            try (var bytes = type.getResourceAsStream(resource)) {
                add(classes, bytes.readAllBytes());
            }
        }
        return classes;
    }

    static Map<String, ClassModel> of(List<byte[]> files) {
        Map<String, ClassModel> classes = new TreeMap<>();
        for (byte[] file : files) {
            add(classes, file);
        }
        return classes;
    }

    private static void add(Map<String, ClassModel> classes, byte[] file) {
        ClassModel model = ClassFile.of().parse(file);
        classes.put(model.thisClass().asInternalName(), model);
    }

    private static boolean isClass(Path file) {
        String name = file.getFileName().toString();
        return name.endsWith(".class") && !name.equals("module-info.class");
    }
}
