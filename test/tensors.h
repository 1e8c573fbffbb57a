// tensors.h: a tensor of a safetensors file as numbers.
#pragma once
#include <doctest/doctest.h>

#include "common/train/safetensors.h"

template <class T>
std::vector<T> read_tensor(const SafeTensors& file, const std::string& name, const std::vector<size_t>& shape) {
    const TensorInfo* t = file.find(name);
    REQUIRE(t);
    CHECK(t->shape == shape);
    std::vector<T> values(t->count);
    if constexpr (std::is_integral_v<T>) {
        REQUIRE(t->dtype == (sizeof(T) == 8 ? "I64" : "I32"));
        memcpy(values.data(), file.data(*t), t->count * sizeof(T));
    } else {
        file.read(*t, values.data());
    }
    return values;
}
