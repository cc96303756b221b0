package dev.tdpmmu.testkit;

import dev.tdpmmu.config.AccessedDirty;
import dev.tdpmmu.config.LockPolicy;
import dev.tdpmmu.config.PagingMode;
import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;
import org.junit.jupiter.api.TestTemplate;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * Runs a test once for each paging mode, lock policy and accessed/dirty setting.
 *
 * <p>The test method, its class's constructor and its set-up methods may have a parameter of type {@link
 * dev.tdpmmu.config.VmConfig.Builder}, which is set to the point of the matrix and shared by one invocation alone,
 * and parameters of types {@link PagingMode}, {@link LockPolicy} and {@link AccessedDirty}. Nested paging without
 * accessed and dirty bits does not exist and is left out. Invocations are named like {@code EPT4/PARALLEL/ON}.
 */
@Documented
@Target({ElementType.METHOD, ElementType.ANNOTATION_TYPE})
@Retention(RetentionPolicy.RUNTIME)
@TestTemplate
@ExtendWith(EngineMatrixProvider.class)
public @interface EngineMatrix {
    /**
     * Restricts the paging modes.
     *
     * @return modes; empty for all
     */
    PagingMode[] paging() default {};

    /**
     * Restricts the lock policies.
     *
     * @return policies; empty for all
     */
    LockPolicy[] policies() default {};

    /**
     * Restricts the accessed/dirty settings.
     *
     * @return settings; empty for all
     */
    AccessedDirty[] accessedDirty() default {};
}
