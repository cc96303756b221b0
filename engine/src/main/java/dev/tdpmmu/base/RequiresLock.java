package dev.tdpmmu.base;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** Names the lock, and the mode, that the caller must hold; the method asserts it at debug level {@code check}. */
@Documented
@Retention(RetentionPolicy.CLASS)
@Target(ElementType.METHOD)
public @interface RequiresLock {
    /**
     * Names the lock and mode.
     *
     * @return for instance {@code "MMU shared"}
     */
    String value();
}
