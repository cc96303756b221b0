package dev.tdpmmu.base;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** Says what protects a shared field: a lock, an access mode, or confinement to a thread. */
@Documented
@Retention(RetentionPolicy.CLASS)
@Target(ElementType.FIELD)
public @interface GuardedBy {
    /**
     * Names the protection.
     *
     * @return for instance {@code "pages lock"}
     */
    String value();
}
