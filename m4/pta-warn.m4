# PTA_WARNINGS: puts into WARN_CFLAGS each warning that the compiler knows; --enable-werror for CI.
AC_DEFUN([PTA_WARNINGS], [
    AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [treat warnings as errors])])
    WARN_CFLAGS=
    m4_foreach_w([flag], [-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
                          -Wold-style-definition -Wpointer-arith -Wvla -Wundef -Wwrite-strings
                          -Wformat=2 -Winit-self -Wno-unused-parameter
                          -Wno-missing-field-initializers], [
        PTA_TRY_FLAG(flag)])
    AS_IF([test "$enable_werror" = yes], [WARN_CFLAGS="$WARN_CFLAGS -Werror"])
    AC_SUBST([WARN_CFLAGS])
])
AC_DEFUN([PTA_TRY_FLAG], [
    save_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS -Werror $1"
    AC_MSG_CHECKING([whether $CC takes $1])
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM()],
                      [AC_MSG_RESULT([yes]); WARN_CFLAGS="$WARN_CFLAGS $1"], [AC_MSG_RESULT([no])])
    CFLAGS=$save_CFLAGS
])
