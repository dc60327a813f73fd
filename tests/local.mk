# Sources and tests of this directory; included by Makefile.am, all paths from the top.
TESTS += tests/unit/test-layers.sh tests/unit/test-translations.sh tests/unit/test-help.sh
EXTRA_DIST += tests/unit/test-help.sh run-tests .ci/run tests/lib/long-fuzz.sh tests/unit/test-layers.sh tests/unit/test-translations.sh tests/lib/packages.sh
TESTS += tests/guests/test-debian.sh
EXTRA_DIST += tests/guests/test-debian.sh tests/guests/debian.py tests/lib/vmtest.py
EXTRA_DIST += tests/lib/tsan.supp
