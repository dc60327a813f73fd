/* Marks what end users read (help, usage, closing messages) for translation: po/. */
#ifndef PTA_I18N_H
#define PTA_I18N_H

#include <libintl.h>

#define _(text)  gettext(text)
#define N_(text) text

#endif
