/* filekind.c - see filekind.h. */
#include "base/filekind.h"

#include <string.h>

#define UTF_16 "text in UTF-16: save it as UTF-8"
#define UTF_32 "text in UTF-32: save it as UTF-8"

/* The first matching row decides: longer marks stand before shorter ones. */
static const struct {
    const char *mark;
    size_t len, at; /* bytes of the mark, and its offset */
    const char *name;
} kinds[] = {
#define MARK(text) text, sizeof text - 1
    {MARK("version https://git-lfs"), 0,
     "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"},
    {MARK("\x89PNG\r\n\x1a\n"), 0, "a PNG picture"},
    {MARK("\xff\xd8\xff"), 0, "a JPEG picture"},
    {MARK("GIF8"), 0, "a GIF picture"},
    {MARK("WEBP"), 8, "a WebP picture"},
    {MARK("ftypavi"), 4, "an AVIF picture"},
    {MARK("ftyphei"), 4, "a HEIC picture"},
    {MARK("ftypmif"), 4, "a HEIF picture"},
    {MARK("ftypqt"), 4, "a QuickTime video"},
    {MARK("ftyp"), 4, "an MP4 video"},
    {MARK("\x1a\x45\xdf\xa3"), 0, "a Matroska or WebM video"},
    {MARK("AVI "), 8, "an AVI video"},
    {MARK("\xff\x0a"), 0, "a JPEG XL picture"},
    {MARK("\0\0\0\x0cJXL "), 0, "a JPEG XL picture"},
    {MARK("\0\0\0\x0cjP  "), 0, "a JPEG 2000 picture"},
    {MARK("II*\0"), 0, "a TIFF picture"},
    {MARK("MM\0*"), 0, "a TIFF picture"},
    {MARK("8BPS"), 0, "a Photoshop file"},
    {MARK("\0\0\1\0"), 0, "an icon (ICO)"},
    {MARK("\0\0\2\0\1\0"), 0, "a cursor (CUR)"},
    {MARK("icns"), 0, "an icon (ICNS)"},
    {MARK("\x0a\0\1"), 0, "a PCX picture"},
    {MARK("\x0a\2\1"), 0, "a PCX picture"},
    {MARK("\x0a\3\1"), 0, "a PCX picture"},
    {MARK("\x0a\5\1"), 0, "a PCX picture"},
    {MARK("\xb1\x68\xde\x3a"), 0, "a DCX picture"},
    {MARK("DDS "), 0, "a DDS texture"},
    {MARK("BLP1"), 0, "a BLP texture"},
    {MARK("BLP2"), 0, "a BLP texture"},
    {MARK("qoif"), 0, "a QOI picture"},
    {MARK("\xff\x4f\xff\x51"), 0, "a JPEG 2000 picture"},
    {MARK("\x76\x2f\x31\x01"), 0, "an OpenEXR picture"},
    {MARK("#?RADIANCE"), 0, "a Radiance HDR picture"},
    {MARK("\x01\xda"), 0, "an SGI picture"},
    {MARK("\x59\xa6\x6a\x95"), 0, "a Sun raster picture"},
    {MARK("/* XPM */"), 0, "an XPM picture"},
    {MARK("SIMPLE  ="), 0, "a FITS picture"},
    {MARK("\xd7\xcd\xc6\x9a"), 0, "a Windows metafile (WMF)"},
    {MARK(" EMF"), 40, "a Windows metafile (EMF)"},
    {MARK("%!PS"), 0, "a PostScript file"},
    {MARK("\xc5\xd0\xd3\xc6"), 0, "a PostScript file (EPS)"},
    {MARK("%PDF"), 0, "a PDF"},
    {MARK("GGUF"), 0, "a GGUF model, which llama.cpp reads: take the Hugging Face checkpoint"},
    {MARK("\x89HDF\r\n\x1a\n"), 0, "an HDF5 file"},
    {MARK("\x93NUMPY"), 0, "a NumPy array"},
    {MARK("PK\x03\x04"), 0, "a zip archive (or a PyTorch file, .bin or .pth)"},
    {MARK("PK\x05\x06"), 0, "an empty zip archive"},
    {MARK("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"), 0,
     "a PyTorch file in the form before 1.6: in Python, torch.save(torch.load(OLD), NEW) renews "
     "it"},
#define PICKLE "a Python pickle: load it in Python and save weights as safetensors, samples as JSON"
    {MARK("\x80\x02"), 0, PICKLE},
    {MARK("\x80\x03"), 0, PICKLE},
    {MARK("\x80\x04"), 0, PICKLE},
    {MARK("\x80\x05"), 0, PICKLE},
#undef PICKLE
    {MARK("\x1f\x8b"), 0, "a gzip archive: unpack it"},
    {MARK("BZh"), 0, "a bzip2 archive: unpack it"},
    {MARK("\xfd"
          "7zXZ"),
     0, "an xz archive: unpack it"},
    {MARK("\x28\xb5\x2f\xfd"), 0, "a Zstandard archive: unpack it"},
    {MARK("7z\xbc\xaf\x27\x1c"), 0, "a 7z archive: unpack it"},
    {MARK("Rar!"), 0, "a RAR archive: unpack it"},
    {MARK("ustar"), 257, "a tar archive: unpack it"},
    {MARK("PAR1"), 0, "a Parquet table: convert it to JSON"},
    {MARK("ARROW1"), 0, "an Arrow table: convert it to JSON"},
    {MARK("SQLite format 3"), 0, "an SQLite database"},
    {MARK("\x7f"
          "ELF"),
     0, "a program"},
    {MARK("\xff\xfe\0\0"), 0, UTF_32},
    {MARK("\0\0\xfe\xff"), 0, UTF_32},
    {MARK("\xff\xfe"), 0, UTF_16},
    {MARK("\xfe\xff"), 0, UTF_16},
#undef MARK
};

/* What a web server sends instead of a file. Whitespace may precede the first words. */
static const struct {
    const char *mark, *name;
} markups[] = {
    {"<!doctype html", "an HTML page: the download went wrong"},
    {"<html", "an HTML page: the download went wrong"},
    {"<head", "an HTML page: the download went wrong"},
    {"<svg", "an SVG drawing"},
    {"<?xml", "an XML file"},
};

/* What servers send instead of a file, as all of it. */
static const struct {
    const char *text, *name;
} answers[] = {
#define ANSWER(text) text, "\"" text "\", a server's answer in place of the file: fetch it again"
    {ANSWER("Entry not found")}, {ANSWER("Repository not found")},
    {ANSWER("404: Not Found")},  {ANSWER("Not Found")},
    {ANSWER("Access denied")},   {ANSWER("Invalid username or password.")},
#undef ANSWER
};

static const char *answer_name(const char *s, size_t n)
{
    while (n && memchr(" \r\n", s[n - 1], 3))
        n--;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (n == strlen(answers[i].text) && memcmp(s, answers[i].text, n) == 0)
            return answers[i].name;
    return NULL;
}

static bool is_text(char c)
{
    return (c >= ' ' && c < 127) || c == '\t' || c == '\r' || c == '\n';
}

/* Whether the first two characters, `width` bytes each, are ASCII, in byte `at` of each. */
static bool is_wide(const char *s, size_t n, size_t width, size_t at)
{
    for (size_t i = 0; i < 2 * width; i++)
        if (n < 2 * width || !(i % width == at ? is_text(s[i]) : s[i] == 0)) return false;
    return true;
}

/* Text with more than one byte per character, and no mark that says so. */
static const char *wide_name(const char *s, size_t n)
{
    if (is_wide(s, n, 2, 0) || is_wide(s, n, 2, 1)) return UTF_16;
    return is_wide(s, n, 4, 0) || is_wide(s, n, 4, 3) ? UTF_32 : NULL;
}

/* Pictures whose mark is not fixed bytes at one offset. */
static const char *picture_name(const char *s, size_t n)
{
    static const char truevision[] = "TRUEVISION-XFILE.";

    if (n > 2 && s[0] == 'P' && memchr("1234567fF", s[1], 9) && memchr(" \t\r\n", s[2], 4))
        return "a PBM, PGM, PPM or PFM picture";
    if (n >= 18 + sizeof truevision &&
        memcmp(s + n - sizeof truevision, truevision, sizeof truevision) == 0)
        return "a TGA picture";
    return NULL;
}

static bool begins_with(const char *s, size_t n, const char *mark)
{
    return n >= strlen(mark) && strncasecmp(s, mark, strlen(mark)) == 0;
}

/* An 8-byte length below 2^48, followed by an object. Never text, which contains no zero bytes. */
static bool is_safetensors(const char *s, size_t n)
{
    return n > 9 && s[6] == 0 && s[7] == 0 && s[8] == '{' && (s[9] == '"' || s[9] == '}');
}

const char *file_kind(const void *data, size_t n)
{
    static const char *(*const others[])(const char *, size_t) = {answer_name, wide_name,
                                                                  picture_name};
    const char *s = data, *name;
    size_t at = 0;

    if (n == 0) return "empty";
    if (is_safetensors(s, n)) return "a safetensors file";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (n >= kinds[i].at + kinds[i].len &&
            memcmp(s + kinds[i].at, kinds[i].mark, kinds[i].len) == 0)
            return kinds[i].name;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if ((name = others[i](s, n))) return name;
    if (n >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0) at = 3;
    while (at < n && at < 64 && strchr(" \t\r\n", s[at]) && s[at])
        at++;
    for (size_t i = 0; i < sizeof markups / sizeof markups[0]; i++)
        if (begins_with(s + at, n - at, markups[i].mark)) return markups[i].name;
    for (at = 0; at < n && s[at] == '\0';)
        at++;
    return at == n ? "nothing but zero bytes: its copying or downloading did not end" : NULL;
}

bool file_kind_check(const char *path, const void *data, size_t n, struct err *e)
{
    const char *kind = file_kind(data, n);

    return !kind || err_set(e, "%s: is %s", path, kind);
}

bool file_kind_refuse(const void *data, size_t n, const char *form, struct err *e)
{
    const char *kind = file_kind(data, n), *s = data;
    size_t text = 0;

    while (text < n && text < 64 && s[text] >= ' ' && s[text] < 127)
        text++;
    if (kind) return err_set(e, "is %s", kind);
    if (text >= 8) return err_set(e, "is text (\"%.*s\"), not a %s", (int)text, s, form);
    return err_set(e, "is not a %s", form);
}
