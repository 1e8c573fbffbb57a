// console.h: what a program prints before it trains: the machine, and its parameters: their number, or all of them.
#pragma once
#include <omp.h>

#include "common/base/text.h"
#include "common/device/device.cuh"
#include "common/train/parameters.h"

inline const char* precision() { return sizeof(real) == 8 ? "fp64" : sizeof(real) == 4 ? "fp32" : "bf16"; }
inline void print_machine(const char* program) {
    printf("%s on %s, %s%s\n", program, device::device_name().c_str(), precision(),
           device_is_host ? format(", %d threads", omp_get_max_threads()).c_str() : "");
}
// How many parameters; verbose: names, shapes and sizes, of the layers only the first and what is after the last.
inline void print_parameters(const std::vector<ParamSpec>& table, bool verbose) {
    size_t total = 0, tensors = 0;
    for (const ParamSpec& s : table) {
        total += s.used();
        tensors += s.names.size();
    }
    if (!verbose) {
        printf("%s parameters in %zu tensors (--verbose lists them)\n", thousands((double)total).c_str(), tensors);
        return;
    }
    printf("\n%-64s %-15s %s\n", "parameters", "shape", "number");
    for (const ParamSpec& s : table) {
        const double n = (double)s.used();
        std::string shape;
        for (size_t i = 0; i < s.shape.size(); i++) {
            shape += (i ? " x " : "") + std::to_string(s.shape[i]);
            for (size_t k = 1; i == 0 && k < s.rows.size(); k++) shape += "+" + std::to_string(s.rows[k]);
        }
        if (s.names.size() > 1 && s.rows.empty()) shape = std::to_string(s.names.size()) + " x " + shape;
        if (s.layer <= 0 || s.layer == table.back().layer)
            printf("  %-62s %-15s %s\n", joined_names(s.names).c_str(), shape.c_str(), thousands(n).c_str());
        else if (s.layer == 1 && &s > &table[0] && (&s)[-1].layer == 0)
            printf("  ... and the same for every other layer\n");
    }
    printf("  %-78s %s\n", "total", thousands((double)total).c_str());
}
