#!/bin/sh
# The software CPU against recorded outcomes: needs no x86 host.
exec "${builddir:-.}/tests/cpu/diff" --replay "${srcdir:-.}"/tests/cpu/golden-*.txt
