// signals.h: the first Ctrl-C or SIGTERM ends a run after its step, the second one at once.
#pragma once
#include <signal.h>
#include <unistd.h>

#include "common/base/errors.h"

inline volatile sig_atomic_t interrupted = 0;

inline void on_signal(int) {
    if (interrupted) _exit(EXIT_INTERRUPTED);
    interrupted = 1;
    const char text[] = "\nfinishing the step, then saving; once more to stop at once\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;  // there is nobody to tell
}
inline void catch_signals() {
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
}
// After training: the model is saved and --resume makes up for the reports, so that a signal ends the program at once.
inline void release_signals() {
    for (int number : {SIGINT, SIGTERM}) signal(number, [](int) { _exit(EXIT_INTERRUPTED); });
}
