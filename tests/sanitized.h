/* sanitized.h - SANITIZED: 1 if the tests are built with the address or the thread sanitizer, which
 * have a malloc of their own, keep freed memory, and shadow all of it. THREAD_SANITIZED: the
 * latter; it does not follow a fork of a multi-threaded process. */
#ifndef TESTS_SANITIZED_H
#define TESTS_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZED 1
#endif
#endif
#ifndef THREAD_SANITIZED
#define THREAD_SANITIZED 0
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif
