/** What a user may choose, as records and enums: paging mode, lock policy, sizes, limits. First: {@link dev.tdpmmu.config.VmConfig}. */
package dev.tdpmmu.config;
