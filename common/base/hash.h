// hash.h: FNV-1a, by which files, tokenizers and templates are known.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "common/base/errors.h"

// h: the hash of what came before
inline uint64_t fnv1a(const void* data, size_t bytes, uint64_t h = 0xcbf29ce484222325) {
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char*)data)[i]) * 0x100000001b3;
    return h;
}
// a hash as it stands in files: 16 hex digits
inline std::string hex(uint64_t hash) { return format("%016llx", (unsigned long long)hash); }
