// hash.h: FNV-1a, by which files, tokenizers and templates are known.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/errors.h"

// h: the hash of what came before
inline uint64_t fnv1a(const void* data, size_t bytes, uint64_t h = 0xcbf29ce484222325) {
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char*)data)[i]) * 0x100000001b3;
    return h;
}
// The same by words of 8 bytes, for whole files; the bytes beyond the last word one by one.
inline uint64_t checksum(const void* data, size_t bytes, uint64_t h = 0xcbf29ce484222325) {
    const size_t words = bytes / 8;
    for (size_t i = 0; i < words; i++) {
        uint64_t word;
        memcpy(&word, (const char*)data + 8 * i, 8);
        h = (h ^ word) * 0x100000001b3;
        h ^= h >> 32;  // the product alone carries nothing downwards: two flips of the highest bit would cancel
    }
    return fnv1a((const char*)data + 8 * words, bytes - 8 * words, h);
}
// a hash as it stands in files: 16 hex digits
inline std::string hex(uint64_t hash) { return format("%016llx", (unsigned long long)hash); }
