# PTA_SCHEMAC: the schema compiler runs on the build machine; a cross build names a native one.
AC_DEFUN([PTA_SCHEMAC], [
    AC_ARG_WITH([schemac], [AS_HELP_STRING([--with-schemac=PATH], [use this schema compiler (cross builds)])],
        [SCHEMAC=$withval], [SCHEMAC='$(top_builddir)/qmp/schemac$(EXEEXT)'])
    AS_IF([test "$cross_compiling" = yes && test -z "$with_schemac"],
        [AC_MSG_ERROR([a cross build needs --with-schemac=PATH of a native schemac])])
    AC_SUBST([SCHEMAC])
    AM_CONDITIONAL([BUILD_SCHEMAC], [test -z "$with_schemac"])
])
