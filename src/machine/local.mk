# Sources and tests of this directory; included by Makefile.am, all paths from the top.
bin_PROGRAMS += partita
partita_SOURCES = src/main.c
partita_LDADD = $(PARTITA_LIBS)
