# Sources and tests of this directory; included by Makefile.am, all paths from the top.
