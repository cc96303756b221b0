package dev.tdpmmu.testkit;

import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PagingMode;
import dev.tdpmmu.config.VmConfig;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.extension.Extension;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ParameterContext;
import org.junit.jupiter.api.extension.ParameterResolver;
import org.junit.jupiter.api.extension.TestTemplateInvocationContext;
import org.junit.jupiter.api.extension.TestTemplateInvocationContextProvider;
import org.junit.platform.commons.support.AnnotationSupport;

/** Makes the invocations of an {@link EngineMatrix}. */
final class EngineMatrixProvider implements TestTemplateInvocationContextProvider {
    /** One point of the matrix. */
    private record Point(PagingMode paging, LockPolicy policy, AccessedDirty accessedDirty)
            implements TestTemplateInvocationContext {
        @Override
        public String getDisplayName(int invocationIndex) {
            return paging + "/" + policy + "/" + accessedDirty;
        }

        @Override
        public List<Extension> getAdditionalExtensions() {
            return List.of(new PointResolver(this));
        }

        boolean exists() {
            return paging.isEpt() || accessedDirty == AccessedDirty.ON;
        }

        VmConfig.Builder builder() {
            return VmConfig.builder()
                    .pagingMode(paging)
                    .lockPolicy(policy)
                    .accessedDirty(accessedDirty)
                    .name(getDisplayName(0));
        }
    }

    /** Hands a point to the parameters of one invocation. */
    private static final class PointResolver implements ParameterResolver {
        private final Point point;
        private final VmConfig.Builder builder;

        PointResolver(Point point) {
            this.point = point;
            this.builder = point.builder();
        }

        @Override
        public boolean supportsParameter(ParameterContext parameter, ExtensionContext context) {
            Class<?> type = parameter.getParameter().getType();
            return type == VmConfig.Builder.class
                    || type == PagingMode.class
                    || type == LockPolicy.class
                    || type == AccessedDirty.class;
        }

        @Override
        public Object resolveParameter(ParameterContext parameter, ExtensionContext context) {
            Class<?> type = parameter.getParameter().getType();
            if (type == VmConfig.Builder.class) {
                return builder;
            }
            if (type == PagingMode.class) {
                return point.paging();
            }
            return type == LockPolicy.class ? point.policy() : point.accessedDirty();
        }
    }

    @Override
    public boolean supportsTestTemplate(ExtensionContext context) {
        return AnnotationSupport.isAnnotated(context.getTestMethod(), EngineMatrix.class);
    }

    @Override
    public Stream<TestTemplateInvocationContext> provideTestTemplateInvocationContexts(ExtensionContext context) {
        EngineMatrix matrix = AnnotationSupport.findAnnotation(context.getTestMethod(), EngineMatrix.class)
                .orElseThrow();
        List<TestTemplateInvocationContext> points = new ArrayList<>();
        for (PagingMode paging : orAll(matrix.paging(), PagingMode.values())) {
            for (LockPolicy policy : orAll(matrix.policies(), LockPolicy.values())) {
                for (AccessedDirty accessedDirty : orAll(matrix.accessedDirty(), AccessedDirty.values())) {
                    var point = new Point(paging, policy, accessedDirty);
                    if (point.exists()) {
                        points.add(point);
                    }
                }
            }
        }
        if (points.isEmpty()) {
            throw new IllegalArgumentException("matrix is empty: test=" + context.getDisplayName() + ", " + matrix);
        }
        return points.stream();
    }

    private static <T> T[] orAll(T[] chosen, T[] all) {
        return chosen.length == 0 ? all : chosen;
    }
}
