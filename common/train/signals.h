// signals.h: Ctrl-C and SIGTERM end a run after its step.
#pragma once
#include <signal.h>
#include <unistd.h>

#include "common/base/common.h"

inline volatile sig_atomic_t interrupted = 0;
inline void on_signal(int) {  // the first finishes the step and saves, the second stops at once
    if (interrupted) _exit(EXIT_INTERRUPTED);
    interrupted = 1;
    const char text[] = "\nfinishing the step, then saving; once more to stop at once\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;  // nobody to tell
}
