# PTA_SANITIZE: --enable-sanitize=address,undefined or =thread.
AC_DEFUN([PTA_SANITIZE], [
    AC_ARG_ENABLE([sanitize],
        [AS_HELP_STRING([--enable-sanitize=LIST], [build with these sanitizers (address,undefined or thread)])],
        [], [enable_sanitize=no])
    AS_CASE([$enable_sanitize],
        [no|""], [],
        [yes], [AC_MSG_ERROR([--enable-sanitize needs a list, such as address,undefined])],
        [SANITIZE_CFLAGS="-fsanitize=$enable_sanitize -fno-omit-frame-pointer -fno-sanitize-recover=all"])
    AS_CASE([$enable_sanitize], [*thread*],
        [AC_DEFINE([PTA_TSAN], [1], [Define if built with ThreadSanitizer.])])
    AS_IF([test "x$enable_sanitize" != xno],
        [AC_DEFINE([PTA_SANITIZED], [1], [Define if built with any sanitizer.])])
    AS_IF([test -n "$SANITIZE_CFLAGS"], [
        # Instrumented code confuses the first of these, and fences the second.
        save_WARN_CFLAGS=$WARN_CFLAGS
        WARN_CFLAGS=
        PTA_TRY_FLAG([-Wno-maybe-uninitialized])
        PTA_TRY_FLAG([-Wno-tsan])
        SANITIZE_CFLAGS="$SANITIZE_CFLAGS$WARN_CFLAGS"
        WARN_CFLAGS=$save_WARN_CFLAGS])
    AM_CONDITIONAL([SANITIZE], [test "x$enable_sanitize" != xno])
    AC_SUBST([SANITIZE_CFLAGS])
])

# PTA_FUZZ: --enable-fuzz builds each fuzz target with libFuzzer (needs CC=clang); without it each is a
# program that replays files, which is how make check runs the corpus.
AC_DEFUN([PTA_FUZZ], [
    AC_ARG_ENABLE([fuzz], [AS_HELP_STRING([--enable-fuzz], [link the fuzz targets with libFuzzer (CC=clang)])],
        [], [enable_fuzz=no])
    AS_IF([test "$enable_fuzz" = yes], [
        PTA_TRY_FUZZER
        FUZZ_CFLAGS="-fsanitize=fuzzer-no-link -g -O1"
        FUZZ_LDFLAGS="-fsanitize=fuzzer"])
    AM_CONDITIONAL([FUZZ], [test "$enable_fuzz" = yes])
    AC_SUBST([FUZZ_CFLAGS])
    AC_SUBST([FUZZ_LDFLAGS])
])
AC_DEFUN([PTA_TRY_FUZZER], [
    save_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS -fsanitize=fuzzer"
    AC_MSG_CHECKING([whether $CC has libFuzzer])
    AC_LINK_IFELSE([AC_LANG_SOURCE([[#include <stddef.h>
#include <stdint.h>
int LLVMFuzzerTestOneInput(const uint8_t *d, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *d, size_t n) { return d && n ? 0 : 0; }]])],
        [AC_MSG_RESULT([yes])],
        [AC_MSG_RESULT([no])
         AC_MSG_ERROR([--enable-fuzz needs libFuzzer: use CC=clang (Debian: clang, libclang-rt-14-dev)])])
    CFLAGS=$save_CFLAGS
])

AC_DEFUN([PTA_COVERAGE], [
    AC_ARG_ENABLE([coverage], [AS_HELP_STRING([--enable-coverage], [instrument for gcov])], [], [enable_coverage=no])
    AS_IF([test "$enable_coverage" = yes], [COVERAGE_CFLAGS="--coverage -O0"])
    AC_SUBST([COVERAGE_CFLAGS])
])
