// threads.h: when a loop takes several OpenMP threads, and how these wait.
#pragma once
#include <omp.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/errors.h"

// A loop over fewer elements than this runs on one thread: waking the others takes as long (generation has many).
constexpr size_t OMP_MIN_ELEMENTS = 1 << 15;

inline void check_threads() {
#ifdef _OPENMP  // the sanitizers have no OpenMP
    if (omp_get_max_threads() > 1024)
        fail_usage("OMP_NUM_THREADS: expected at most 1024 threads, found %d", omp_get_max_threads());
#endif
}

// OpenMP threads that wait actively are up to 40 times slower when anything else runs on the machine; those that sleep
// at once are slow to wake (generation at 4 layers, 256 wide: 750 tokens/s sleeping at once, 1,900 so). So they spin
// for about 0.1 ms, then sleep. libgomp reads the variables before main(): a program starts itself once more with them
// set; the user's own settings stay.
inline void reexec_with_omp_policy(char** argv) {
    if (getenv("OMP_WAIT_POLICY")) return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    setenv("GOMP_SPINCOUNT", "5000", 0);
    char self[4096];  // the program's own path: execv("/proc/self/exe") would show as "exe" in ps and top
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return;  // no /proc: continue as we are
    self[n] = 0;
    execv(self, argv);
}
