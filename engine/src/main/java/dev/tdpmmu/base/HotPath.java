package dev.tdpmmu.base;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * Promises that a method allocates nothing, boxes nothing, uses no lambda, has at most 325 bytecodes, and calls only
 * static or final methods or those of two-permit sealed types. A test reads the class files and holds the method to it.
 */
@Documented
@Retention(RetentionPolicy.CLASS)
@Target({ElementType.METHOD, ElementType.CONSTRUCTOR})
public @interface HotPath {}
