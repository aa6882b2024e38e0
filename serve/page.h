/* page.h - the page at /, serve/page.html, as bytes: made by the Makefile. */
#ifndef SERVE_PAGE_H
#define SERVE_PAGE_H

#include <stddef.h>

extern const unsigned char page_bytes[]; /* [page_size] */
extern const size_t page_size;

#endif
