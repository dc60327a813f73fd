# The manual and the design pages.
dist_man_MANS += docs/partita.1
EXTRA_DIST += docs/design
